// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/policy"
)

// scenario is a sequence of steps. A step is run when the World is at rest, or after two minutes.
type scenario struct {
	name  string
	steps []step
	// triggers determine the time of steps that do not wait for rest, by the index of the step.
	triggers stepTriggers
	// waitsForRest is set if steps must wait for rest because they would otherwise legitimately
	// result in another end.
	waitsForRest bool
	// waitsForDeadline is set if the operator waits for minutes, and takes samples meanwhile.
	waitsForDeadline bool
	// excludedEvents are those that legitimately result in another end.
	excludedEvents []fault
	// hasCanary reports that changes are evaluated by a canary, inCloud that the cache is in AWS.
	hasCanary, inCloud bool
	// keyPeriod is that of the rotation of keys, 0 for none.
	keyPeriod time.Duration
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
	// externalPort is not the default port of Redis, so that no code depends on the default.
	externalPort = ":6380"
)

// scenarios are all scenarios.
var scenarios = slices.Concat([]scenario{
	{name: "createExternal", steps: []step{createExternal}},
	{name: "createInCluster", steps: []step{createInCluster}},
	{name: "createBeforeDependencies", steps: []step{
		{"create the FlagCache", func(w *World) { w.user().mustCreate(external(aFlagCache())) }},
		{"create the flags", func(w *World) { w.user().mustCreate(flagsFile(goodFlags)) }},
		{"create the Secret", func(w *World) {
			w.servers[externalHost+externalPort] = externalPassword
			w.user().mustCreate(externalSecret(externalHost))
		}},
	}},
	{name: "newRevision", steps: []step{createExternal, newImage("flag-service:v2")}},
	{name: "revisionReverted", steps: []step{createExternal, newImage("flag-service:v2"), newImage("")}},
	{name: "brokenRevisionThenFixed", steps: []step{createExternal, newImage("flag-service:" + unstartableImage), newImage("flag-service:v3")}},
	{name: "scale", steps: []step{createExternal, scaleTo(4), scaleTo(1)}},
	{name: "autoscaled", steps: []step{createExternal, autoscale, increaseLoad, newImage("flag-service:v2")}},
	{name: "externalSecretEdited", steps: []step{createExternal,
		{"move the server and change the Secret", func(w *World) {
			w.servers[otherHost+externalPort] = externalPassword
			updateAs(&w.api, secrets, externalName, func(s *corev1.Secret) { s.Data["host"] = []byte(otherHost) })
		}},
	}},
	{name: "externalSecretDeleted", steps: []step{createExternal,
		{"delete the Secret", func(w *World) { w.user().userDeletes(secrets, externalName) }},
	}, waitsForRest: true, excludedEvents: []fault{specChanged}},
	{name: "externalSecretRecreated", steps: []step{createExternal,
		{"delete the Secret", func(w *World) { w.user().userDeletes(secrets, externalName) }},
		newImage("flag-service:v2"),
		{"create the Secret again", func(w *World) { w.user().mustCreate(externalSecret(externalHost)) }},
	}},
	{name: "childrenDeleted", steps: []step{createInCluster,
		{"delete the connection Secret", func(w *World) { w.user().userDeletes(secrets, name+"-connection") }},
		{"delete the Redis Secret", func(w *World) { w.user().userDeletes(secrets, name+"-redis") }},
		{"delete the Service", func(w *World) { w.user().userDeletes(services, name) }},
	}},
	{name: "childrenEdited", steps: []step{createExternal,
		{"edit the connection Secret", func(w *World) {
			updateAs(&w.api, secrets, name+"-connection", func(s *corev1.Secret) { s.Data["host"] = []byte("evil"); s.Data["note"] = []byte("mine") })
		}},
		{"strip the labels of the client ConfigMap", func(w *World) {
			updateAs(&w.api, configMaps, name+"-client", func(c *corev1.ConfigMap) { c.Labels = nil })
		}},
	}, waitsForRest: true},
	{name: "upgraded", steps: []step{createInCluster, {"make the children those of an earlier release", func(w *World) { w.process().applyAsEarlierRelease() }}, newImage("flag-service:v2")}},
	{name: "reconfigured", steps: []step{createInCluster, {"make the configuration of Redis that of another release", func(w *World) {
		if find(w.api.now(secrets), name+"-redis") != nil && find(w.api.now(statefulSets), name+"-redis") != nil {
			w.process().reconfigureRedis()
		}
	}}}},
	{name: "nameTakenThenFreed", steps: []step{
		{"create a Service with the name", func(w *World) {
			w.user().mustCreate(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}})
		}},
		createExternal,
		{"delete that Service", func(w *World) { w.user().userDeletes(services, name) }},
	}},
	{name: "flagsBrokenThenFixed", steps: []step{createExternal,
		{"break the flags", func(w *World) { w.user().updateFlags("{") }}, newImage("flag-service:v2"),
		{"fix the flags", func(w *World) { w.user().updateFlags(goodFlags) }},
	}},
	{name: "delete", steps: []step{createInCluster, {"delete the FlagCache", func(w *World) { w.user().deleteFlagCache() }}}},
	{name: "deleteAndCreateAgain", steps: []step{createExternal,
		{"delete the FlagCache and create it again", func(w *World) { w.user().deleteFlagCache() }},
		{"create the FlagCache again", func(w *World) {
			if find(w.api.now(flagCaches), name) == nil {
				w.user().mustCreate(external(aFlagCache()))
			}
		}},
	}, waitsForRest: true, excludedEvents: []fault{flagCacheDeleted, specChanged}},
	{name: "switchToExternal", steps: []step{createInCluster, {"switch to an external cache", func(w *World) {
		w.servers[externalHost+externalPort] = externalPassword
		w.user().mustCreate(externalSecret(externalHost))
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { external(&v1alpha1.FlagCache{}).Spec.Cache.DeepCopyInto(&s.Cache) })
	}}}},
	{name: "switchToInCluster", steps: []step{createExternal, {"switch to an in-cluster cache", func(w *World) {
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Cache = aFlagCache().Spec.Cache })
	}}}},
	{name: "suspendAndResume", steps: []step{createExternal,
		{"suspend", func(w *World) { w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Suspend = true }) }},
		newImage("flag-service:v2"),
		{"resume", func(w *World) { w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Suspend = false }) }},
	}},
	{name: "handedOver", steps: []step{createExternal,
		{"hand the FlagCache over to another operator", func(w *World) {
			updateAs(&w.api, flagCaches, name, func(fc *v1alpha1.FlagCache) {
				setAnnotation(fc, v1alpha1.AnnotationOperator, "team")
				fc.Status.Operator = "team"
			})
		}},
		newImage("flag-service:v2"),
		{"hand it back", func(w *World) {
			updateAs(&w.api, flagCaches, name, func(fc *v1alpha1.FlagCache) {
				setAnnotation(fc, v1alpha1.AnnotationOperator, operatorNamespace)
			})
		}},
	}, waitsForRest: true},
	{name: "operatorRestarts", steps: []step{createInCluster, {"restart the operator", func(w *World) { w.process().restart() }}}},
	{name: "namespaceDeleted", steps: []step{createInCluster, deleteNamespace}},
}, flagScenarios, keyScenarios, canaryScenarios, stableScenarios, elastiCacheScenarios)

// Credentials and files of the World.
const (
	externalPassword = secretMarker + "-external"
	goodFlags        = `{"flags":{"on":{"state":"ENABLED","variants":{"yes":true,"no":false},"defaultVariant":"yes"}}}`
)

var createExternal = step{"create the FlagCache with an external cache", func(w *World) {
	w.servers[externalHost+externalPort] = externalPassword
	w.user().mustCreate(flagsFile(goodFlags))
	w.user().mustCreate(externalSecret(externalHost))
	w.user().mustCreate(external(aFlagCache()))
}}

var createInCluster = step{"create the FlagCache with an in-cluster cache", func(w *World) {
	w.user().mustCreate(flagsFile(goodFlags))
	w.user().mustCreate(aFlagCache())
}}

var deleteNamespace = step{"delete the namespace", func(w *World) {
	w.api.terminating = true
	w.nextTick = w.time.Add(tick)
}}

var autoscale = step{"autoscale", func(w *World) {
	w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) {
		s.Service.Replicas = nil
		s.Service.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: 2, MaxReplicas: 6, TargetCPUPercent: 70}
	})
}}

func newImage(image string) step {
	return step{"change the image to " + image, func(w *World) {
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = image })
	}}
}

func scaleTo(n int32) step {
	return step{fmt.Sprintf("scale to %d", n), func(w *World) {
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Service.Replicas = ptr.To(n) })
	}}
}

// aFlagCache returns a minimal FlagCache with the API server's defaults.
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

// external lets a FlagCache use the Secret my-redis.
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

func (w user) updateFlags(text string) {
	updateAs(&w.api, configMaps, "demo-flags", func(c *corev1.ConfigMap) { c.Data["flags.json"] = text })
}

// mustCreate creates an object as the user.
func (w user) mustCreate(o client.Object) {
	if _, err := w.api.create(o, "user"); err != nil {
		panic(fmt.Sprintf("creating %T %s: %v", o, o.GetName(), err))
	}
}

// userDeletes deletes an object as the user, if it exists.
func (w user) userDeletes(k kind, name string) {
	if find(w.api.now(k), name) != nil {
		w.kube().mustDelete(k, name)
	}
}

// findScenario returns the scenario with a name.
func findScenario(name string) (scenario, bool) {
	for _, s := range scenarios {
		if s.name == name {
			return s, true
		}
	}
	return scenario{}, false
}

// elastiCacheScenarios are the scenarios with caches in AWS.
var elastiCacheScenarios = inCloud([]scenario{
	{name: "elastiCacheCreated", steps: []step{createElastiCache}},
	{name: "elastiCacheChanged", steps: []step{createElastiCache, {"request larger nodes and one more replica", func(w *World) {
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) {
			s.Cache.ElastiCache.NodeType, s.Cache.ElastiCache.Replicas = "cache.t3.small", 2
		})
	}}}},
	{name: "elastiCacheChangeOverwritten", steps: []step{createElastiCache,
		{"request larger nodes and one more replica", func(w *World) {
			w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) {
				s.Cache.ElastiCache.NodeType, s.Cache.ElastiCache.Replicas = "cache.t3.small", 2
			})
		}},
		{"overwrite the record of the change under way", func(w *World) {
			editGroups(w, func(g *ack.ReplicationGroup) { g.Annotations[v1alpha1.AnnotationChange] = notJSON })
		}},
		{"remove the record", func(w *World) {
			editGroups(w, func(g *ack.ReplicationGroup) { delete(g.Annotations, v1alpha1.AnnotationChange) })
		}},
	}, triggers: stepTriggers{2: changeUnderWay}, waitsForRest: true},
	{name: "elastiCacheEdited", steps: []step{createElastiCache, {"set a field of the group that the operator does not", func(w *World) {
		editGroups(w, func(g *ack.ReplicationGroup) { g.Spec.PrimaryClusterID = ptr.To("another") })
	}}}},
	{name: "elastiCacheRotated", steps: []step{createElastiCache, requestRotation("today"), requestRotation("tomorrow")}, triggers: stepTriggers{2: twoTokensAccepted}},
	{name: "elastiCacheRotatedDuringCanary", steps: []step{createInCloud(withElastiCache(withCanary(20))), requestRotation("today"), requestRotation("tomorrow")},
		triggers: stepTriggers{2: candidateServes}, waitsForRest: true, hasCanary: true},
	{name: "elastiCacheReplaced", steps: []step{createElastiCache, changeEngine("")}},
	{name: "elastiCacheReplacedByCanary", steps: []step{createInCloud(withElastiCache(withCanary(20))), changeEngine("")}, waitsForRest: true, hasCanary: true},
	{name: "elastiCacheRolledBack", steps: []step{createInCloud(withElastiCache(withCanary(20))), changeEngine("flag-service:" + failingImage)},
		waitsForRest: true, hasCanary: true, excludedEvents: []fault{specChanged}},
	{name: "elastiCacheMigratedTo", steps: []step{createInCluster, {"install ACK and migrate to ElastiCache", func(w *World) {
		w.cloud.installed = true
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { withElastiCache(aFlagCache()).Spec.Cache.DeepCopyInto(&s.Cache) })
	}}}},
	{name: "elastiCacheDeleted", steps: []step{createElastiCache, {"delete the FlagCache", func(w *World) { w.user().deleteFlagCache() }}}},
	{name: "elastiCacheRetained", steps: []step{createInCloud(withDeletionPolicy(withElastiCache(aFlagCache()), v1alpha1.DeletionRetain)), {"delete the FlagCache", func(w *World) { w.user().deleteFlagCache() }}}},
	{name: "elastiCacheRetainedReplaced", steps: []step{createInCloud(withDeletionPolicy(withElastiCache(aFlagCache()), v1alpha1.DeletionRetain)), changeEngine("")}},
	{name: "elastiCacheSnapshotted", steps: []step{createInCloud(withDeletionPolicy(withElastiCache(aFlagCache()), v1alpha1.DeletionSnapshot)), {"delete the FlagCache", func(w *World) { w.user().deleteFlagCache() }}}},
	{name: "elastiCacheFailsOnce", steps: []step{{"let AWS fail", func(w *World) { w.cloud.FailCreations = 1 }}, createElastiCache}},
	{name: "elastiCacheOverQuota", steps: []step{{"exceed the quota", exceedQuota}, createElastiCache,
		{"raise the quota", func(w *World) {
			w.cloud.Permit()
			w.nextTick = w.time.Add(tick)
		}}}},
	{name: "elastiCacheChangeDenied", steps: []step{createElastiCache,
		{"request larger nodes, which AWS denies, with a message that repeats the token", func(w *World) {
			w.cloud.Refuse("ModifyReplicationGroup", "AccessDenied", "User: arn:aws:iam::123456789012:user/ack is not authorized to perform this action with AuthToken "+recordedToken(w), 5)
			requestNodes("cache.t3.small")(w)
		}},
	}, waitsForRest: true},
	{name: "elastiCacheOverspending", steps: []step{
		{"limit the cost to 30 USD and create the FlagCache", func(w *World) {
			limitSpending(w, 30)
			createInCloud(withRegion(withElastiCache(aFlagCache()))).do(w)
		}},
		{"request larger nodes, which cost too much", requestNodes("cache.t3.small")},
		{"limit the cost to 60 USD", func(w *World) { limitSpending(w, 60) }},
	}},
	{name: "elastiCacheUpgraded", steps: []step{createByOldRelease(withAllParts(withElastiCache(aFlagCache()))), {"upgrade the operator", downgradeObjects}}},
	{name: "elastiCacheUpgradedDuringCreation", steps: []step{createByOldRelease(withElastiCache(aFlagCache())), {"upgrade the operator", downgradeObjects}},
		triggers: stepTriggers{1: groupRequested}, waitsForRest: true},
	{name: "elastiCacheAdopted", steps: []step{createRetained, {"delete the FlagCache", func(w *World) { w.user().deleteFlagCache() }}, adopt},
		waitsForRest: true, excludedEvents: []fault{flagCacheDeleted, specChanged}},
	{name: "elastiCacheAdoptionRefused", steps: []step{createRetained, {"delete the FlagCache", func(w *World) { w.user().deleteFlagCache() }},
		{"give the group to another", giveToAnother}, adopt, {"delete the FlagCache again", func(w *World) { w.user().deleteFlagCache() }}},
		waitsForRest: true, excludedEvents: []fault{flagCacheDeleted, specChanged}},
	{name: "elastiCacheBeforeACK", steps: []step{
		{"create the FlagCache", func(w *World) {
			w.user().mustCreate(flagsFile(goodFlags))
			w.user().mustCreate(withElastiCache(aFlagCache()))
		}},
		{"install ACK", func(w *World) {
			w.cloud.installed = true
			w.nextTick = w.time.Add(tick)
			w.queue.enqueue(w.time)
		}},
	}},
	{name: "elastiCacheWithoutACK", steps: []step{createElastiCache,
		{"stop ACK and request larger nodes", func(w *World) {
			w.cloud.stopped = true
			w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Cache.ElastiCache.NodeType = "cache.t3.small" })
		}},
		{"start ACK", func(w *World) {
			w.cloud.stopped = false
			w.nextTick = w.time.Add(tick)
		}},
	}, waitsForRest: true},
	{name: "elastiCacheLost", steps: []step{createElastiCache, {"delete the group in AWS", func(w *World) { w.ackControllers().deleteGroupsInAWS() }}}},
	{name: "elastiCacheNamespaceDeleted", steps: []step{createElastiCache, deleteNamespace}},
	{name: "elastiCacheByIAM", steps: []step{createInCloud(withAllParts(withElastiCache(aFlagCache()))), {"delete the FlagCache", func(w *World) { w.user().deleteFlagCache() }}}},
})

func inCloud(list []scenario) []scenario {
	for i := range list {
		list[i].inCloud = true
	}
	return list
}

// requestNodes requests another type of nodes.
func requestNodes(nodeType string) func(*World) {
	return func(w *World) {
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Cache.ElastiCache.NodeType = nodeType })
	}
}

// limitSpending sets the limit of the administrator's policy on the cost of the namespace, which
// triggers the operator.
func limitSpending(w *World, usd int32) {
	w.policy = &policy.Policy{ElastiCache: []policy.ElastiCache{{Namespaces: []string{namespace}, MaxNamespaceMonthlyUSD: &usd}}}
	w.queue.enqueue(w.time)
}

// exceedQuota lets AWS refuse to create groups.
func exceedQuota(w *World) {
	w.cloud.Refuse("CreateReplicationGroup", "NodeQuotaForCustomerExceeded", "The request cannot be processed because it would exceed the allowed number of cache nodes per customer.", -1)
}

// requestRotation requests a new token.
func requestRotation(request string) step {
	return step{"request a new token, " + request, func(w *World) {
		w.generatedAtRotation = w.generated
		updateAs(&w.api, flagCaches, name, func(fc *v1alpha1.FlagCache) { setAnnotation(fc, v1alpha1.AnnotationRotateToken, request) })
	}}
}

// twoTokensAccepted reports whether AWS accepts two tokens, of which the older one is still in use.
func twoTokensAccepted(w *World) bool {
	for _, g := range w.cloud.Groups {
		if g.Tokens[1] != "" {
			return true
		}
	}
	return false
}

// changeUnderWay reports whether a replication group has a record of a change of an existing group.
func changeUnderWay(w *World) bool {
	return slices.ContainsFunc(w.api.now(replicationGroups), func(o client.Object) bool {
		return strings.Contains(o.GetAnnotations()[v1alpha1.AnnotationChange], `"class"`)
	})
}

// editGroups edits all replication groups.
func editGroups(w *World, edit func(*ack.ReplicationGroup)) {
	for _, o := range w.api.now(replicationGroups) {
		updateAs(&w.api, replicationGroups, o.GetName(), edit)
	}
}

var createElastiCache = createInCloud(withElastiCache(aFlagCache()))

// createInCloud creates a FlagCache with a cache in AWS, with ACK installed.
func createInCloud(fc *v1alpha1.FlagCache) step {
	return step{"create the FlagCache with a cache in AWS", func(w *World) {
		w.cloud.installed = true
		w.user().mustCreate(flagsFile(goodFlags))
		w.user().mustCreate(fc)
	}}
}

// withElastiCache sets a cache in AWS.
func withElastiCache(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Cache = v1alpha1.CacheSpec{
		Type: v1alpha1.CacheElastiCache, TTL: aFlagCache().Spec.Cache.TTL,
		ElastiCache: &v1alpha1.ElastiCacheSpec{
			Engine: v1alpha1.EngineRedis, EngineVersion: "7.1", NodeType: "cache.t3.micro", Replicas: 1, MultiAZ: v1alpha1.Enabled,
			SubnetGroupName: subnetGroup, SecurityGroupIDs: []v1alpha1.SecurityGroupID{"sg-1"},
			Authentication:    v1alpha1.ElastiCacheAuthentication{Type: v1alpha1.AuthenticationToken},
			TransitEncryption: v1alpha1.TransitEncryptionRequired,
		},
	}
	return fc
}

// withRegion sets a region, without which the cost is not known.
func withRegion(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Cache.ElastiCache.Region = "eu-west-1"
	return fc
}

func withDeletionPolicy(fc *v1alpha1.FlagCache, policy v1alpha1.DeletionPolicy) *v1alpha1.FlagCache {
	fc.Spec.DeletionPolicy = policy
	return fc
}

// withAllParts sets everything that creates further resources.
func withAllParts(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	e := fc.Spec.Cache.ElastiCache
	e.SubnetGroupName, e.SubnetIDs = "", []v1alpha1.SubnetID{"subnet-1"}
	e.SecurityGroupIDs, e.VPCID, e.ClientSecurityGroupIDs = nil, "vpc-1", []v1alpha1.SecurityGroupID{"sg-2"}
	e.Parameters = map[string]v1alpha1.ParameterValue{"maxmemory-policy": "allkeys-lru"}
	e.Authentication = v1alpha1.ElastiCacheAuthentication{Type: v1alpha1.AuthenticationIAM, RoleARN: "arn:aws:iam::123456789012:role/demo"}
	e.Alarms = &v1alpha1.AlarmsSpec{CPUPercent: 75, MemoryPercent: 80, EvictionsPerFiveMinutes: 100}
	e.Replicas, e.MultiAZ = 0, v1alpha1.Disabled
	return fc
}

// changeEngine changes a field that requires a replacement of the cache.
func changeEngine(image string) step {
	return step{strings.TrimSpace("change the engine " + image), func(w *World) {
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) {
			s.Cache.ElastiCache.Engine, s.Cache.ElastiCache.EngineVersion = v1alpha1.EngineValkey, "8.0"
			s.Service.Image = image
		})
	}}
}
