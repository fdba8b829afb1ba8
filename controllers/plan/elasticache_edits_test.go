// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/elasticache"
)

// editGroup has somebody edit the spec of the only group.
func (c *cloud) editGroup(what string, edit func(*ack.ReplicationGroupSpec)) {
	c.t.Helper()
	c.note(what)
	edited := c.group().DeepCopy()
	edit(&edited.Spec)
	c.put(edited)
}

// hasGroup reports whether AWS has a group.
func (c *cloud) hasGroup(id string) bool {
	_, ok := c.aws.Groups[id]
	return ok
}

func another(s *ack.ReplicationGroupSpec) { s.ReplicationGroupID = ptr.To("another") }

// editScenarios: somebody edits the object of the group.
func editScenarios() map[string]func(*cloud) {
	return map[string]func(*cloud){
		"of-the-id": func(c *cloud) {
			id, uri := *c.group().Spec.ReplicationGroupID, c.index().SecretValue("demo-connection", "uri").Reveal()
			c.editGroup("somebody changes the ID, and ACK creates another group", another)
			c.until("the other group", func() bool { return c.hasGroup("another") })
			c.expect(v1alpha1.ConditionCacheProvisioned, "False", v1alpha1.ReasonGroupIDChanged)
			c.expectMessage(v1alpha1.ConditionCacheProvisioned, `"another"`, id)
			c.runFor(10 * time.Minute)
			if got := *c.group().Spec.ReplicationGroupID; got != id || !c.hasGroup(id) {
				c.t.Errorf("the group is %s, not %s", got, id)
			}
			if got := c.index().SecretValue("demo-connection", "uri").Reveal(); got != uri {
				c.t.Errorf("clients connect to %s, not %s", got, uri)
			}
			if c.fc.Status.Cache.ReplicationGroupID != id || len(c.index().Revisions) != 1 {
				c.t.Errorf("the status names %s, there are %d revisions", c.fc.Status.Cache.ReplicationGroupID, len(c.index().Revisions))
			}
			c.expectSilence()
		},
		"of-the-id-while-ack-is-stopped": func(c *cloud) {
			c.ackStopped = true
			c.editGroup("somebody changes the ID while ACK is stopped", another)
			c.runFor(time.Minute)
			c.ackStopped = false
			c.runFor(5 * time.Minute)
			if c.hasGroup("another") {
				c.t.Error("ACK created another group")
			}
			c.expectSilence()
		},
		"in-the-middle-of-a-change": func(c *cloud) {
			c.aws.Timing.Operation = 2 * time.Minute
			c.change(func(e *v1alpha1.ElastiCacheSpec) { e.NodeType = "cache.t3.small" })
			c.until("the change", func() bool { _, aws := c.onlyGroup(); return aws.State == ack.GroupModifying })
			c.editGroup("somebody disables TLS while AWS modifies the nodes", func(s *ack.ReplicationGroupSpec) { s.TransitEncryptionEnabled = ptr.To(false) })
			c.tick()
			if g := c.group(); !ack.Value(g.Spec.TransitEncryptionEnabled) || *g.Spec.CacheNodeType != "cache.t3.small" {
				c.t.Errorf("TLS is %t, nodes are of type %s", ack.Value(g.Spec.TransitEncryptionEnabled), *g.Spec.CacheNodeType)
			}
			c.until("Ready", c.ready)
			c.runFor(10 * time.Minute)
			if _, aws := c.onlyGroup(); *aws.Spec.CacheNodeType != "cache.t3.small" {
				c.t.Errorf("AWS has nodes of type %s", *aws.Spec.CacheNodeType)
			}
			c.expectSilence()
		},
	}
}

func TestEditsOfTheGroup(t *testing.T) {
	for name, scenario := range editScenarios() {
		t.Run(name, func(t *testing.T) {
			c := aReadyCloud(t, withElastiCache(aFlagCache()))
			scenario(c)
			expectGolden(t, "edit-"+name+".golden", strings.Join(c.trace, "\n")+"\n")
		})
	}
}

// ACK deletes the group whose ID its object has.
func TestEditedIDIsRestoredBeforeTheDeletion(t *testing.T) {
	c := aReadyCloud(t, withElastiCache(aFlagCache()))
	id := *c.group().Spec.ReplicationGroupID
	c.editGroup("somebody changes the ID and deletes the FlagCache", another)
	c.deleteFlagCache()
	if c.hasGroup(id) {
		t.Errorf("group %s stays in AWS", id)
	}
}

// Every field is edited in turn. One of no class is restored at the next reconcile, and all
// others once AWS has carried out the last change; the shell removes those that are not
// planned.
func TestEveryEditedFieldIsRestored(t *testing.T) {
	spec := reflect.TypeFor[ack.ReplicationGroupSpec]()
	for i := range spec.NumField() {
		field := spec.Field(i).Name
		t.Run(field, func(t *testing.T) {
			c := aReadyCloud(t, withElastiCache(aFlagCache()))
			want := elasticache.Normalize(c.group().Spec)
			edited := c.group().DeepCopy()
			if !change(reflect.ValueOf(&edited.Spec).Elem().Field(i)) {
				t.Fatalf("%s cannot be edited", field)
			}
			if cmp.Equal(elasticache.Normalize(edited.Spec), want) {
				t.Fatalf("%s is not edited", field)
			}
			class := strings.Join(elasticache.Differences(edited.Spec, want), "")
			c.put(edited)
			c.reconcile()
			if class != "" {
				c.runFor(10 * time.Minute)
			}
			got := elasticache.Normalize(c.group().Spec)
			got.Description = want.Description
			switch field {
			case "NetworkType", "AtRestEncryptionEnabled":
				return // the API server rejects the edit, or ACK itself reverts it: TestWithFixed
			case "SecurityGroupIDs":
				return // ACK removes none
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s, of class %q, after an edit (-want +got):\n%s", field, class, d)
			}
		})
	}
}

// change gives a field another value.
func change(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		fresh := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			fresh.Elem().Set(v.Elem())
		}
		v.Set(fresh)
		return change(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		return change(v.Index(0))
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Struct:
		return change(v.Field(0))
	default:
		return false
	}
	return true
}
