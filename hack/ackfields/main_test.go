// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/secret"
)

// TestEveryFieldOfACKIsClaimed walks ACK's types: a new version may have other fields.
func TestEveryFieldOfACKIsClaimed(t *testing.T) {
	for _, k := range kinds() {
		for _, problem := range k.problems() {
			t.Error(problem)
		}
	}
}

// TestWrongClaimsAreFound has one wrong claim of each sort.
func TestWrongClaimsAreFound(t *testing.T) {
	correct := []field{
		settable("key", "", change{"engine", `"Redis"`}), fixed("name", "none", "", "no reason"), unsupported("namespace", "no reason"), missing("other", "no reason"),
	}
	for want, claims := range map[string][]field{
		"": correct,
		"K.key is neither settable, nor fixed, nor listed as not supported": correct[1:],
		"K.color is claimed, but ACK has no such field":                     append(slices.Clone(correct), unsupported("color", "no reason")),
		"K.name is claimed twice":                                           append(slices.Clone(correct), correct[1]),
		"K.namespace is claimed to be missing, but ACK has it":              {correct[0], correct[1], missing("namespace", "no reason")},
		"K.namespace is not supported for no reason":                        {correct[0], correct[1], unsupported("namespace", "")},
	} {
		k := kind{name: "K", spec: reflect.TypeFor[ack.SecretKey](), fields: claims}
		if got := errors.Join(k.problems()...); want == "" && got != nil || want != "" && (got == nil || got.Error() != want) {
			t.Errorf("the problems are %v, want %q", got, want)
		}
	}
}

// TestClaimsMatchWhatIsPlanned plans a FlagCache for each change, and compares the fields of
// what is applied with the claims.
func TestClaimsMatchWhatIsPlanned(t *testing.T) {
	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) {
			base := k.plan(t, k.base)
			k.expectFixed(t, "without a change", base)
			for _, f := range k.fields {
				for _, c := range f.changes {
					changed := k.plan(t, append(slices.Clone(k.base), c))
					if before, after := values(t, base, f.path), values(t, changed, f.path); slices.Equal(before, after) {
						t.Errorf("%s stays %v with %s %s", f.path, before, c.path, c.value)
					}
					k.expectFixed(t, c.path+" "+c.value, changed)
				}
			}
		})
	}
}

// expectFixed compares fields that are claimed to be fixed, or not to be written.
func (k kind) expectFixed(t *testing.T, what string, objects []observed.Object) {
	t.Helper()
	if len(objects) == 0 {
		t.Fatalf("%s: no %s is applied", what, k.name)
	}
	for _, f := range k.fields {
		if len(f.changes) > 0 || f.missing {
			continue
		}
		for _, value := range values(t, objects, f.path) {
			if f.matches == "" && value != "" || !regexp.MustCompile(f.matches).MatchString(value) {
				t.Errorf("%s: %s is %s, which does not match %q", what, f.path, value, f.matches)
			}
		}
	}
}

// values are the values of a field of objects in JSON, sorted; "" where it is absent.
func values(t *testing.T, objects []observed.Object, path string) []string {
	t.Helper()
	var found []string
	for _, o := range objects {
		fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, valuesIn(t, fields["spec"], strings.Split(path, "."))...)
	}
	slices.Sort(found)
	return found
}

func valuesIn(t *testing.T, value any, path []string) []string {
	t.Helper()
	if len(path) == 0 || value == nil {
		if value == nil {
			return []string{""}
		}
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return []string{string(text)}
	}
	name, isList := strings.CutSuffix(path[0], "[]")
	below := value.(map[string]any)[name]
	if !isList || below == nil {
		return valuesIn(t, below, path[1:])
	}
	var found []string
	for _, item := range below.([]any) {
		found = append(found, valuesIn(t, item, path[1:])...)
	}
	return found
}

// plan returns the objects of the kind that are applied for a FlagCache with changes, once
// AWS has provisioned everything.
func (k kind) plan(t *testing.T, changes []change) []observed.Object {
	t.Helper()
	s := observed.Snapshot{
		Now:       time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC),
		FlagCache: aFlagCache(t, changes),
		Operator:  observed.Operator{Namespace: "flagcache-system", FlagServiceImage: "flag-service:v1", ClusterID: "cluster"},
		Fresh:     observed.Fresh{IntegrityKey: secret.New(strings.Repeat("k", 32)), Token: secret.New(strings.Repeat("t", 64))},
		Flags:     observed.Flags{State: observed.FlagsLoaded},
		ACK:       map[string]bool{},
	}
	for _, kind := range ack.Kinds() {
		s.ACK[kind.Kind] = true
	}
	var applied []observed.Object
	for range 8 {
		s.Now = s.Now.Add(time.Minute)
		applied = plan.Make(s).Apply
		for _, o := range applied {
			s.Children = slices.DeleteFunc(s.Children, func(child observed.Object) bool { return observed.Same(child, o) })
			provision(o, s.Now)
			s.Children = append(s.Children, o)
		}
	}
	return slices.DeleteFunc(applied, func(o observed.Object) bool { return ack.KindOf(o).Kind != k.name })
}

// provision writes the status of an object that AWS has provisioned.
func provision(o observed.Object, now time.Time) {
	if !ack.Is(o) {
		return
	}
	at := metav1.NewTime(now.Add(time.Second))
	status := reflect.ValueOf(o).Elem().FieldByName("Status")
	status.FieldByName("Conditions").Set(reflect.ValueOf([]*ack.Condition{
		{Type: ack.ConditionSynced, Status: corev1.ConditionTrue, LastTransitionTime: &at},
		{Type: ack.ConditionReady, Status: corev1.ConditionTrue, LastTransitionTime: &at},
	}))
	switch o := o.(type) {
	case *ack.ReplicationGroup:
		o.Status.Status = ptr.To(ack.GroupAvailable)
	case *ack.SecurityGroup:
		o.Status.ID = ptr.To("sg-9")
	}
}

// aFlagCache has the API server's defaults, and the changes.
func aFlagCache(t *testing.T, changes []change) *v1alpha1.FlagCache {
	t.Helper()
	fc := &v1alpha1.FlagCache{
		ObjectMeta: metav1.ObjectMeta{Name: "demo", Namespace: "shop", UID: "uid", Generation: 1, Finalizers: []string{v1alpha1.Finalizer}},
		Status:     v1alpha1.FlagCacheStatus{Operator: "flagcache-system"},
		Spec: v1alpha1.FlagCacheSpec{
			Environment:    "default",
			DeletionPolicy: v1alpha1.DeletionDelete,
			Cache: v1alpha1.CacheSpec{
				Type: v1alpha1.CacheElastiCache, TTL: metav1.Duration{Duration: 5 * time.Minute},
				ElastiCache: &v1alpha1.ElastiCacheSpec{
					Engine: v1alpha1.EngineValkey, EngineVersion: "8.0", NodeType: "cache.t3.micro", Replicas: 1, MultiAZ: v1alpha1.Enabled,
					Authentication:    v1alpha1.ElastiCacheAuthentication{Type: v1alpha1.AuthenticationToken},
					TransitEncryption: v1alpha1.TransitEncryptionRequired,
				},
			},
			Flags: v1alpha1.FlagsSpec{Type: v1alpha1.FlagsConfigMap, ConfigMap: &v1alpha1.ConfigMapKey{Name: "flags", Key: "flags.json"}},
		},
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(fc)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if err := c.apply(fields); err != nil {
			t.Fatal(err)
		}
	}
	changed := &v1alpha1.FlagCache{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(fields, changed, true); err != nil {
		t.Fatal(err)
	}
	return changed
}

// apply makes the change in a FlagCache.
func (c change) apply(fields map[string]any) error {
	var value any
	if err := json.Unmarshal([]byte(c.value), &value); err != nil {
		return fmt.Errorf("%s is not JSON: %w", c.value, err)
	}
	if number, ok := value.(float64); ok {
		value = int64(number)
	}
	path := c.path
	if !strings.HasPrefix(path, "spec.") {
		path = "spec.cache.elastiCache." + path
	}
	return unstructured.SetNestedField(fields, value, strings.Split(path, ".")...)
}

// TestAddedFieldsExist compares the fields that were added in releases with ACK's types.
func TestAddedFieldsExist(t *testing.T) {
	for _, a := range ack.Additions() {
		i := slices.IndexFunc(ack.Kinds(), func(k ack.Kind) bool { return k.Kind == a.Kind })
		if i < 0 {
			t.Errorf("%s is no kind", a.Kind)
			continue
		}
		spec := reflect.ValueOf(ack.Kinds()[i].New()).Elem().FieldByName("Spec").Type()
		if !slices.ContainsFunc(leavesOf(spec, ""), func(leaf string) bool {
			return covers(unsupported(a.Field, "added"), leaf)
		}) {
			t.Errorf("%s has no field %s", a.Kind, a.Field)
		}
	}
}
