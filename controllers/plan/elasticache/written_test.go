// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/secret"
)

// What is left of an object in which every field is set are the fields that are planned,
// of a FlagCache with every authentication type in turn.
func TestOnlyPlannedFieldsAreWritten(t *testing.T) {
	planned := map[string]map[string]bool{}
	for _, authentication := range []v1alpha1.ElastiCacheAuthenticationType{v1alpha1.AuthenticationToken, v1alpha1.AuthenticationIAM} {
		fc := aFlagCache()
		e := fc.Spec.Cache.ElastiCache
		e.Engine, e.EngineVersion, e.NodeType, e.VPCID = v1alpha1.EngineRedis, "7.1", "cache.r6gd.xlarge", "vpc-1"
		e.SubnetIDs, e.ClientSecurityGroupIDs = []v1alpha1.SubnetID{"subnet-1", "subnet-2"}, []v1alpha1.SecurityGroupID{"sg-1"}
		e.Parameters, e.MaintenanceWindow = map[string]v1alpha1.ParameterValue{"timeout": "5"}, "sun:05:00-sun:06:00"
		e.AtRestEncryption, e.Authentication.Type = &v1alpha1.AtRestEncryption{KMSKeyID: "key"}, authentication
		d := desired{names: names{fc, Identity(fc), newID("cluster-1", fc)}, spec: e, token: secret.New("token")}
		x := observed.NewIndex(observed.Snapshot{FlagCache: fc, ACK: map[string]bool{"SecurityGroup": true}})
		group := d.renderGroup(d.groupSpec([]string{"sg-1"}), change{})
		for _, o := range append(planDependencies(x, d, Observed{Group: group}).objects, group) {
			kind := ack.KindOf(o).Kind
			if planned[kind] == nil {
				planned[kind] = map[string]bool{}
			}
			maps.Copy(planned[kind], specFields(t, o))
		}
	}
	for _, kind := range ack.Kinds() {
		if kind.Kind == "MetricAlarm" || kind.Kind == "Snapshot" {
			continue // their specs are never taken from an observed object
		}
		o := kind.New().(observed.Object)
		fill(reflect.ValueOf(o).Elem().FieldByName("Spec"))
		all := specFields(t, o)
		onlyWritten(o)
		if d := cmp.Diff(slices.Sorted(maps.Keys(planned[kind.Kind])), slices.Sorted(maps.Keys(specFields(t, o)))); d != "" {
			t.Errorf("of a %s with %d fields, those planned (-) and those written (+) differ:\n%s", kind.Kind, len(all), d)
		}
	}
}

// specFields are the paths of the fields in an object's spec.
func specFields(t *testing.T, o observed.Object) map[string]bool {
	t.Helper()
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]bool{}
	addPaths(paths, "spec", fields["spec"])
	return paths
}

func addPaths(paths map[string]bool, path string, value any) {
	switch value := value.(type) {
	case map[string]any:
		for name, below := range value {
			addPaths(paths, path+"."+name, below)
		}
	case []any:
		for _, item := range value {
			addPaths(paths, path, item)
		}
	default:
		paths[path] = true
	}
}

// fill sets every field of a value, with one item in each list.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.String:
		v.SetString("x")
	}
}
