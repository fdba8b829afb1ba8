// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/secret"
	"github.com/flagcache/flagcache/service/config"
)

const (
	environment = "checkout"
	region      = "eu-west-1"
)

// planned is what the operator creates for a cache with authentication IAM.
type planned struct {
	users map[string]*ack.User
	// binding is the binding that pods mount, integrity the key for the cached values.
	binding   map[string][]byte
	integrity []byte
	probe     plan.ProbeTarget
}

// planCache runs the planner until pods have a connection. AWS provisions everything at
// once, and the endpoint is the gate.
func planCache(t *testing.T, g *gate) planned {
	t.Helper()
	s := snapshot(g)
	result := planned{users: map[string]*ack.User{}}
	for range 12 {
		p := plan.Make(s)
		for _, o := range p.Apply {
			s.Children = replace(s.Children, o)
			fulfil(o, s.Now, g.port)
		}
		if p.ProbeNext != nil {
			result.probe = *p.ProbeNext
			s.NextProbe = observed.Probe{Health: observed.Healthy, Of: p.ProbeNext.ID}
		}
		s.Now = s.Now.Add(time.Second)
	}
	for _, child := range s.Children {
		switch o := child.(type) {
		case *ack.User:
			result.users[*o.Spec.UserName] = o
		case *corev1.Secret:
			if o.Name == "flags-connection" {
				result.binding = o.Data
			}
			if key := o.Data[config.IntegrityKey]; key != nil {
				result.integrity = key
			}
		}
	}
	if result.binding == nil || result.probe.ID == "" || result.integrity == nil {
		t.Fatalf("there is no connection: %+v", plan.Make(s).Status.Conditions)
	}
	return result
}

func snapshot(g *gate) observed.Snapshot {
	s := observed.Snapshot{
		Now:       time.Now().Truncate(time.Second),
		FlagCache: aFlagCache(),
		Operator:  observed.Operator{Namespace: "flagcache-system", ClusterID: "cluster-1", FlagServiceImage: "flag-service:v1", ElastiCacheCA: g.ca},
		Fresh:     observed.Fresh{IntegrityKey: secret.New(strings.Repeat("k", 32)), Token: secret.New(strings.Repeat("t", 64)), ProbePassword: secret.New(strings.Repeat("p", 32))},
		Flags:     observed.Flags{State: observed.FlagsLoaded},
		ACK:       map[string]bool{},
	}
	for _, kind := range ack.Kinds() {
		s.ACK[kind.Kind] = true
	}
	return s
}

func aFlagCache() *v1alpha1.FlagCache {
	return &v1alpha1.FlagCache{
		ObjectMeta: metav1.ObjectMeta{
			Name: "flags", Namespace: "shop", UID: "0e6d0b0c-7f0e-4c53-b1e5-1d9a4b8f3a11", Generation: 1, Finalizers: []string{v1alpha1.Finalizer},
		},
		Status: v1alpha1.FlagCacheStatus{Operator: "flagcache-system"},
		Spec: v1alpha1.FlagCacheSpec{
			Environment:    environment,
			DeletionPolicy: v1alpha1.DeletionDelete,
			Cache: v1alpha1.CacheSpec{
				Type: v1alpha1.CacheElastiCache, TTL: metav1.Duration{Duration: 5 * time.Minute},
				ElastiCache: &v1alpha1.ElastiCacheSpec{
					Engine: v1alpha1.EngineRedis, EngineVersion: "7.1", NodeType: "cache.t3.micro", MultiAZ: v1alpha1.Disabled, Region: region,
					Authentication:    v1alpha1.ElastiCacheAuthentication{Type: v1alpha1.AuthenticationIAM},
					TransitEncryption: v1alpha1.TransitEncryptionRequired,
				},
			},
			Flags: v1alpha1.FlagsSpec{Type: v1alpha1.FlagsConfigMap, ConfigMap: &v1alpha1.ConfigMapKey{Name: "flags", Key: "flags.json"}},
		},
	}
}

func replace(children []observed.Object, o observed.Object) []observed.Object {
	for i, child := range children {
		if child.GetName() == o.GetName() && child.GetObjectKind().GroupVersionKind() == o.GetObjectKind().GroupVersionKind() {
			children[i] = o
			return children
		}
	}
	return append(children, o)
}

// fulfil sets the status of an object as if AWS had provisioned it.
func fulfil(o observed.Object, now time.Time, port int) {
	at := metav1.NewTime(now.Add(time.Second))
	done := []*ack.Condition{
		{Type: ack.ConditionSynced, Status: corev1.ConditionTrue, LastTransitionTime: &at},
		{Type: ack.ConditionReady, Status: corev1.ConditionTrue, LastTransitionTime: &at},
	}
	switch o := o.(type) {
	case *ack.User:
		o.Status = ack.UserStatus{Conditions: done, Status: ptr.To(ack.UserActive)}
	case *ack.UserGroup:
		o.Status = ack.UserGroupStatus{Conditions: done, Status: ptr.To(ack.UserActive)}
	case *ack.ReplicationGroup:
		o.Status = ack.ReplicationGroupStatus{Conditions: done, Status: ptr.To(ack.GroupAvailable),
			NodeGroups: []*ack.NodeGroup{{PrimaryEndpoint: &ack.Endpoint{Address: ptr.To("127.0.0.1"), Port: ptr.To(int64(port))}}}}
	}
}

// mount writes the binding as a pod mounts it, and the integrity key beside it.
func (p planned) mount(t *testing.T) (bindingDir, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	bindingDir = filepath.Join(dir, config.BindingName)
	if err := os.Mkdir(bindingDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, value := range p.binding {
		if err := os.WriteFile(filepath.Join(bindingDir, name), value, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keyFile = filepath.Join(dir, config.IntegrityKey)
	if err := os.WriteFile(keyFile, p.integrity, 0o600); err != nil {
		t.Fatal(err)
	}
	return bindingDir, keyFile
}
