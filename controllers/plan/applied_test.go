// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// ledger records every object that plans apply and delete: a new object with all
// of its fields, a changed one with the fields that differ from what was applied
// before.
type ledger struct {
	*cloud
	lines   []string
	applied map[string]map[string]string
}

// observe records a plan. ControllerRevisions hold what is on record about a
// canary, which has golden files of its own.
func (l *ledger) observe(p Plan) {
	for _, o := range p.Apply {
		if _, record := o.(*appsv1.ControllerRevision); record {
			continue
		}
		fields, before := fieldsOf(l.t, o), l.applied[name(o)]
		var changes []string
		for _, path := range slices.Sorted(maps.Keys(fields)) {
			if old, ok := before[path]; !ok || old != fields[path] {
				changes = append(changes, "  "+path+": "+fields[path])
			}
		}
		for _, path := range slices.Sorted(maps.Keys(before)) {
			if _, ok := fields[path]; !ok {
				changes = append(changes, "  "+path+" is removed")
			}
		}
		if len(changes) > 0 {
			l.lines = append(l.lines, "apply "+name(o))
			l.lines = append(l.lines, changes...)
		}
		l.applied[name(o)] = fields
	}
	for _, o := range p.Delete {
		if _, record := o.(*appsv1.ControllerRevision); !record && l.applied[name(o)] != nil {
			l.lines = append(l.lines, "delete "+name(o))
			delete(l.applied, name(o))
		}
	}
}

// fieldsOf are the values of an object's fields in JSON, by their path. The status is never
// applied, but ACK's types have an empty one in JSON.
func fieldsOf(t *testing.T, o observed.Object) map[string]string {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var value map[string]any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	if ack.Is(o) {
		delete(value, "status")
	}
	fields := map[string]string{}
	flatten(fields, "", value)
	return fields
}

func flatten(fields map[string]string, path string, value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, v := range value {
			flatten(fields, strings.TrimPrefix(path+"."+key, "."), v)
		}
		if len(value) > 0 {
			return
		}
	case []any:
		for i, v := range value {
			flatten(fields, fmt.Sprintf("%s[%d]", path, i), v)
		}
		if len(value) > 0 {
			return
		}
	}
	text, _ := json.Marshal(value)
	fields[path] = string(text)
}

func (l *ledger) note(text string) { l.lines = append(l.lines, "# "+text) }

// until reconciles until something holds, and then for a few minutes more.
func (l *ledger) until(what string, holds func() bool) {
	l.t.Helper()
	l.cloud.until(what, func() bool {
		l.observe(l.last)
		return holds()
	})
	for range 30 {
		l.tick()
		l.observe(l.last)
	}
}

func (l *ledger) oneRevision() bool {
	return l.ready() && l.candidate() == "" && len(l.index().Revisions) == 1 && len(l.aws.Groups) <= 1
}

func (l *ledger) changes(what string, edit func(*v1alpha1.ElastiCacheSpec)) {
	l.t.Helper()
	l.note(what)
	l.change(edit)
	l.tick()
	l.observe(l.last)
	l.until(what, l.oneRevision)
}

// deletes deletes the FlagCache.
func (l *ledger) deletes() {
	l.t.Helper()
	l.note("the FlagCache is deleted")
	l.startDeletion()
	for range 360 {
		if len(l.fc.Finalizers) == 0 {
			return
		}
		l.tickDeleting()
		l.observe(l.last)
	}
	l.t.Fatal("the finalizer stays")
}

// appliedCases are specs, each with what happens to it after it is Ready.
func appliedCases() map[string]struct {
	spec   *v1alpha1.FlagCache
	script func(*ledger)
} {
	everything := withEverything(aFlagCache())
	everything.Spec.DeletionPolicy = v1alpha1.DeletionSnapshot
	everything.Spec.Budget = &v1alpha1.BudgetSpec{MonthlyUSD: 500, WhenExceeded: v1alpha1.BudgetWarn}
	everything.Spec.Cache.ElastiCache.Tags = map[string]v1alpha1.TagValue{"team": "shop"}
	everything.Spec.Cache.ElastiCache.Region = "eu-west-1"

	iam := withEverything(aFlagCache())
	toRedis(iam.Spec.Cache.ElastiCache)
	iam.Spec.DeletionPolicy = v1alpha1.DeletionRetain
	iam.Spec.Cache.ElastiCache.Authentication = v1alpha1.ElastiCacheAuthentication{Type: v1alpha1.AuthenticationIAM, RoleARN: "arn:aws:iam::1:role/demo"}

	open := withElastiCache(aFlagCache())
	open.Spec.Cache.ElastiCache.Authentication.Type = v1alpha1.AuthenticationNone
	open.Spec.Cache.ElastiCache.TransitEncryption = v1alpha1.TransitEncryptionDisabled
	open.Spec.Cache.ElastiCache.NodeType, open.Spec.Cache.ElastiCache.Replicas = "cache.r6gd.xlarge", 0
	open.Spec.Cache.ElastiCache.MultiAZ = v1alpha1.Disabled
	open.Spec.Cache.ElastiCache.SubnetGroupName = "private"
	open.Spec.Cache.ElastiCache.AtRestEncryption = &v1alpha1.AtRestEncryption{KMSKeyID: "key"}
	open.Spec.Cache.ElastiCache.Snapshots = &v1alpha1.SnapshotsSpec{RetentionDays: 2, Window: "01:00-02:00"}

	inCluster := aFlagCache()
	inCluster.Spec.Cache.InCluster = &v1alpha1.InClusterSpec{Image: "redis:8"}
	inCluster.Spec.Service.Replicas = ptr.To[int32](3)

	return map[string]struct {
		spec   *v1alpha1.FlagCache
		script func(*ledger)
	}{
		"elasticache-token": {everything, func(l *ledger) {
			l.changes("another node type, parameter, tag and security group", func(e *v1alpha1.ElastiCacheSpec) {
				e.NodeType, e.Parameters = "cache.m5.large", map[string]v1alpha1.ParameterValue{"timeout": "6"}
				e.Tags, e.SecurityGroupIDs, e.VPCID = nil, []v1alpha1.SecurityGroupID{"sg-7"}, ""
			})
			l.changes("no parameters, no alarms", func(e *v1alpha1.ElastiCacheSpec) { e.Parameters, e.Alarms = nil, nil })
			l.note("the token is rotated")
			old := l.token()
			l.annotateFlagCache(v1alpha1.AnnotationRotateToken, "1")
			l.until("the rotation", l.rotated(old))
			l.changes("another engine", toRedis)
		}},
		"elasticache-iam": {iam, func(*ledger) {}},
		"elasticache-none": {open, func(l *ledger) {
			l.aws.FailCreations = 1
			l.changes("another subnet group, which AWS fails to create once", func(e *v1alpha1.ElastiCacheSpec) { e.SubnetGroupName = "other" })
		}},
		"external": {withExternal(aFlagCache()), func(*ledger) {}},
		"in-cluster": {inCluster, func(l *ledger) {
			l.note("the cache moves to ElastiCache")
			l.edit(func(s *v1alpha1.FlagCacheSpec) { s.Cache = withElastiCache(aFlagCache()).Spec.Cache })
			l.until("the move", func() bool { return l.oneRevision() && len(l.aws.Groups) == 1 })
		}},
	}
}

// TestAppliedObjects: what plans apply does not change unnoticed.
func TestAppliedObjects(t *testing.T) {
	for name, test := range appliedCases() {
		t.Run(name, func(t *testing.T) {
			l := &ledger{cloud: aCloud(t, test.spec), applied: map[string]map[string]string{}}
			for _, existing := range []string{"private", "other"} {
				l.aws.SubnetGroups[existing] = ack.CacheSubnetGroupSpec{CacheSubnetGroupName: &existing}
			}
			l.fc.CreationTimestamp = metav1.NewTime(noon.Add(-time.Hour))
			l.secret = observed.ExternalSecret{Presence: observed.Present, Data: map[string][]byte{"uri": []byte("rediss://user:secret@redis.example:7000")}}
			l.until("Ready", l.ready)
			test.script(l)
			l.deletes()
			expectGolden(t, "applied-"+name+".golden", strings.Join(l.lines, "\n")+"\n")
		})
	}
}
