// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// scenario is a story in steps. The user takes the next one when the World has
// come to rest, or when two minutes have passed.
type scenario struct {
	name  string
	steps []step
	// moments are when the user takes a step that does not wait for rest, by the
	// number of the step.
	moments moments
	// patient users wait for rest, because the steps have another end, as right,
	// where they come too early.
	patient bool
	// without are events that have another end, as right, at another time.
	without []fault
	// canaried says that changes are tried in steps, inCloud that the cache is in AWS.
	canaried, inCloud bool
}

type step struct {
	name string
	do   func(*World)
}

// Addresses of Redis servers outside of the cluster.
const (
	externalHost = "redis.example.com"
	otherHost    = "redis.example.net"
	externalName = "my-redis"
	// externalPort is not Redis' own, so that nobody gets away with that one.
	externalPort = ":6380"
)

// scenarios are all stories, by what happens in them.
var scenarios = slices.Concat([]scenario{
	{name: "createExternal", steps: []step{createExternal}},
	{name: "createInCluster", steps: []step{createInCluster}},
	{name: "createBeforeDependencies", steps: []step{
		{"create the FlagCache", func(w *World) { w.make(external(aFlagCache())) }},
		{"create the flags", func(w *World) { w.make(flagsFile(goodFlags)) }},
		{"create the Secret", func(w *World) {
			w.servers[externalHost+externalPort] = takes(externalPassword)
			w.make(externalSecret(externalHost))
		}},
	}},
	{name: "newRevision", steps: []step{createExternal, newImage("flag-service:v2")}},
	{name: "revisionAndBack", steps: []step{createExternal, newImage("flag-service:v2"), newImage("")}},
	{name: "brokenRevisionThenMended", steps: []step{createExternal, newImage("flag-service:" + brokenImage), newImage("flag-service:v3")}},
	{name: "scale", steps: []step{createExternal, scaleTo(4), scaleTo(1)}},
	{name: "autoscaled", steps: []step{createExternal, autoscale, {"more load", func(w *World) { w.load = 5; w.nextTick = w.time.Add(tick) }}, newImage("flag-service:v2")}},
	{name: "externalSecretEdited", steps: []step{createExternal,
		{"the server moves, the Secret follows", func(w *World) {
			w.servers[otherHost+externalPort] = takes(externalPassword)
			edit(&w.api, secrets, externalName, func(s *corev1.Secret) { s.Data["host"] = []byte(otherHost) })
		}},
	}},
	{name: "externalSecretDeleted", steps: []step{createExternal,
		{"delete the Secret", func(w *World) { w.userRemoves(secrets, externalName) }},
	}, patient: true, without: []fault{respecified}},
	{name: "externalSecretDeletedAndBack", steps: []step{createExternal,
		{"delete the Secret", func(w *World) { w.userRemoves(secrets, externalName) }},
		newImage("flag-service:v2"),
		{"create the Secret again", func(w *World) { w.make(externalSecret(externalHost)) }},
	}},
	{name: "childrenDeleted", steps: []step{createInCluster,
		{"delete the connection Secret", func(w *World) { w.userRemoves(secrets, name+"-connection") }},
		{"delete the Redis Secret", func(w *World) { w.userRemoves(secrets, name+"-redis") }},
		{"delete the Service", func(w *World) { w.userRemoves(services, name) }},
	}},
	{name: "childrenEdited", steps: []step{createExternal,
		{"edit the connection Secret", func(w *World) {
			edit(&w.api, secrets, name+"-connection", func(s *corev1.Secret) { s.Data["host"] = []byte("evil"); s.Data["note"] = []byte("mine") })
		}},
		{"strip the labels of the client ConfigMap", func(w *World) {
			edit(&w.api, configMaps, name+"-client", func(c *corev1.ConfigMap) { c.Labels = nil })
		}},
	}, patient: true},
	{name: "nameTakenThenFreed", steps: []step{
		{"take a name", func(w *World) {
			w.make(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}})
		}},
		createExternal,
		{"free the name", func(w *World) { w.userRemoves(services, name) }},
	}},
	{name: "flagsBrokenThenMended", steps: []step{createExternal,
		{"break the flags", func(w *World) { w.setFlags("{") }}, newImage("flag-service:v2"),
		{"mend the flags", func(w *World) { w.setFlags(goodFlags) }},
	}},
	{name: "delete", steps: []step{createInCluster, {"delete the FlagCache", (*World).deleteFlagCache}}},
	{name: "deleteAndCreateAgain", steps: []step{createExternal,
		{"delete the FlagCache and create it again", (*World).deleteFlagCache},
		{"create the FlagCache again", func(w *World) {
			if find(w.api.now(flagCaches), name) == nil {
				w.make(external(aFlagCache()))
			}
		}},
	}, patient: true, without: []fault{deleted, respecified}},
	{name: "switchToExternal", steps: []step{createInCluster, {"switch to an external cache", func(w *World) {
		w.servers[externalHost+externalPort] = takes(externalPassword)
		w.make(externalSecret(externalHost))
		w.respec(func(s *v1alpha1.FlagCacheSpec) { external(&v1alpha1.FlagCache{}).Spec.Cache.DeepCopyInto(&s.Cache) })
	}}}},
	{name: "switchToInCluster", steps: []step{createExternal, {"switch to an in-cluster cache", func(w *World) {
		w.respec(func(s *v1alpha1.FlagCacheSpec) { s.Cache = aFlagCache().Spec.Cache })
	}}}},
	{name: "suspendAndResume", steps: []step{createExternal,
		{"suspend", func(w *World) { w.respec(func(s *v1alpha1.FlagCacheSpec) { s.Suspend = true }) }},
		newImage("flag-service:v2"),
		{"resume", func(w *World) { w.respec(func(s *v1alpha1.FlagCacheSpec) { s.Suspend = false }) }},
	}},
	{name: "operatorRestarts", steps: []step{createInCluster, {"restart the operator", (*World).restart}}},
	{name: "namespaceDeleted", steps: []step{createInCluster, deleteNamespace}},
}, canaries, caches)

// Credentials and files of the World.
const (
	externalPassword = secretMarker + "-external"
	goodFlags        = `{"flags":{"on":{"state":"ENABLED","variants":{"yes":true,"no":false},"defaultVariant":"yes"}}}`
)

var createExternal = step{"create the FlagCache with an external cache", func(w *World) {
	w.servers[externalHost+externalPort] = takes(externalPassword)
	w.make(flagsFile(goodFlags))
	w.make(externalSecret(externalHost))
	w.make(external(aFlagCache()))
}}

var createInCluster = step{"create the FlagCache with an in-cluster cache", func(w *World) {
	w.make(flagsFile(goodFlags))
	w.make(aFlagCache())
}}

var deleteNamespace = step{"delete the namespace", func(w *World) {
	w.api.terminating = true
	w.nextTick = w.time.Add(tick)
}}

var autoscale = step{"autoscale", func(w *World) {
	w.respec(func(s *v1alpha1.FlagCacheSpec) {
		s.Service.Replicas = nil
		s.Service.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: 2, MaxReplicas: 6, TargetCPUPercent: 70}
	})
}}

func newImage(image string) step {
	return step{"change the image to " + image, func(w *World) {
		w.respec(func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = image })
	}}
}

func scaleTo(n int32) step {
	return step{fmt.Sprintf("scale to %d", n), func(w *World) {
		w.respec(func(s *v1alpha1.FlagCacheSpec) { s.Service.Replicas = ptr.To(n) })
	}}
}

// aFlagCache is the smallest useful one, with the API server's defaults.
func aFlagCache() *v1alpha1.FlagCache {
	return &v1alpha1.FlagCache{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: v1alpha1.FlagCacheSpec{
			Environment:    "default",
			DeletionPolicy: v1alpha1.DeletionDelete,
			Cache:          v1alpha1.CacheSpec{Type: v1alpha1.CacheInCluster, TTL: metav1.Duration{Duration: 5 * time.Minute}},
			Flags:          v1alpha1.FlagsSpec{Type: v1alpha1.FlagsConfigMap, ConfigMap: &v1alpha1.ConfigMapKey{Name: "demo-flags", Key: "flags.json"}},
			Service: v1alpha1.ServiceSpec{
				Redis: v1alpha1.RedisClientSpec{PoolSize: 10, DialTimeout: metav1.Duration{Duration: 2 * time.Second}},
			},
			Probe: v1alpha1.ProbeSpec{
				Interval: metav1.Duration{Duration: 10 * time.Second}, Timeout: metav1.Duration{Duration: 2 * time.Second},
				FailureThreshold: 3, SuccessThreshold: 2,
			},
		},
	}
}

// external points a FlagCache at the Secret my-redis.
func external(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Cache = v1alpha1.CacheSpec{
		Type: v1alpha1.CacheExternal, TTL: metav1.Duration{Duration: 5 * time.Minute},
		External: &v1alpha1.ExternalSpec{SecretRef: v1alpha1.LocalReference{Name: externalName}},
	}
	return fc
}

func externalSecret(host string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: externalName, Namespace: namespace, Labels: map[string]string{v1alpha1.LabelAllow: v1alpha1.AllowTrue}},
		Data:       map[string][]byte{"host": []byte(host), "port": []byte("6380"), "password": []byte(externalPassword)},
	}
}

func flagsFile(flags string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "demo-flags", Namespace: namespace},
		Data:       map[string]string{"flags.json": flags},
	}
}

func (w *World) setFlags(text string) {
	edit(&w.api, configMaps, "demo-flags", func(c *corev1.ConfigMap) { c.Data["flags.json"] = text })
}

// make is a user creating an object.
func (w *World) make(o client.Object) {
	if _, err := w.api.create(o, "user"); err != nil {
		panic(fmt.Sprintf("creating %T %s: %v", o, o.GetName(), err))
	}
}

// userRemoves is a user deleting an object, if it is there.
func (w *World) userRemoves(k kind, name string) {
	if find(w.api.now(k), name) != nil {
		w.mustRemove(k, name)
	}
}

// scenarioNamed finds a story.
func scenarioNamed(name string) (scenario, bool) {
	for _, s := range scenarios {
		if s.name == name {
			return s, true
		}
	}
	return scenario{}, false
}
