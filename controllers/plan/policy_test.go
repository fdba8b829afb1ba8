// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/caches"
	"github.com/flagcache/flagcache/controllers/plan/cost"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/policy"
)

// dangerousKeys are keys of labels and annotations that give the pods of some cluster what
// their author must not choose, by what that is.
var dangerousKeys = map[string][]string{
	"an identity in a cloud or a secret of others": {
		"azure.workload.identity/use", "azure.workload.identity/inject-proxy-sidecar", "aadpodidbinding", "iam.amazonaws.com/role", "iam.amazonaws.com/external-id",
		"eks.amazonaws.com/role-arn", "eks.amazonaws.com/skip-containers", "iam.gke.io/gcp-service-account", "vault.hashicorp.com/role",
		"vault.hashicorp.com/agent-inject", "vault.security.banzaicloud.io/vault-role", "conjur.org/authn-identity", "spiffe.io/spiffe-id", "secrets.doppler.com/reload",
		"services.k8s.aws/region", "k8s.aws/adopted",
	},
	"a network": {
		"k8s.v1.cni.cncf.io/networks", "v1.multus-cni.io/default-network", "cni.projectcalico.org/ipAddrs", "cni.projectcalico.org/floatingIPs", "ovn.kubernetes.io/logical_switch",
		"k8s.ovn.org/egress-assignable", "ipam.cilium.io/ip-pool", "policy.cilium.io/no-track-port", "io.cilium.proxy-visibility", "k8s.amazonaws.com/eniConfig",
		"vpc.amazonaws.com/pod-ips", "networking.gke.io/interfaces", "kubernetes.io/ingress-bandwidth", "cks.io/sriov", "netguard.io/allow",
	},
	"a path, a device or a runtime of the node": {
		"io.katacontainers.config.hypervisor.path", "io.katacontainers.config.runtime.create_container_timeout", "io.kubernetes.cri-o.Devices", "io.kubernetes.cri-o.userns-mode",
		"io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw", "io.containerd.runc.v2.group", "container.apparmor.security.beta.kubernetes.io/manager",
		"seccomp.security.alpha.kubernetes.io/pod", "cdi.k8s.io/vendor", "dev.gvisor.spec.mount.x.source", "run.oci.keep_original_groups", "cpu-load-balancing.crio.io",
		"irq-load-balancing.crio.io", "devices.nvidia.com/gpu",
	},
	"a place in a scheduler or a queue": {
		"volcano.sh/queue-name", "scheduling.k8s.io/group-name", "kueue.x-k8s.io/queue-name", "yunikorn.apache.org/queue", "karpenter.sh/do-not-disrupt",
		"cluster-autoscaler.kubernetes.io/safe-to-evict", "descheduler.alpha.kubernetes.io/evict", "controller.kubernetes.io/pod-deletion-cost", "topology.kubernetes.io/zone",
		"node.kubernetes.io/instance-type",
	},
	"a sidecar, a mesh or a scrape": {
		"prometheus.io/scrape", "prometheus.io/path", "sidecar.istio.io/inject", "sidecar.istio.io/proxyImage", "sidecar.istio.io/userVolume", "inject.istio.io/templates",
		"ambient.istio.io/redirection", "linkerd.io/inject", "config.linkerd.io/proxy-image", "consul.hashicorp.com/connect-inject", "kuma.io/sidecar-injection",
		"dapr.io/enabled", "instrumentation.opentelemetry.io/inject-sdk", "sidecar.opentelemetry.io/inject", "openfeature.dev/enabled", "ad.datadoghq.com/manager.checks",
		"fluentbit.io/parser",
	},
	"an owner or an exemption": {
		"argocd.argoproj.io/instance", "kustomize.toolkit.fluxcd.io/name", "policies.kyverno.io/skip", "gatekeeper.sh/exempt", "pod-security.kubernetes.io/enforce",
		"security.openshift.io/scc", "openshift.io/required-scc", "app.kubernetes.io/name", "app.kubernetes.io/managed-by", "flagcache.dev/revision", "flagcache.dev/name",
		"flagcache.dev/cache", "kubectl.kubernetes.io/default-container", "a/b",
	},
}

// smallCacheUSD is what a cache of two small nodes costs a month, rounded down.
func smallCacheUSD(t *testing.T) int32 {
	t.Helper()
	cents, unknown := cost.Monthly([]cost.Group{{Engine: v1alpha1.EngineValkey, NodeType: "cache.t3.micro", Nodes: 2, Region: "eu-west-1"}})
	if cents%100 == 0 || len(unknown) > 0 {
		t.Fatalf("the test needs a price that is not whole: %d cents, %v", cents, unknown)
	}
	return int32(cents / 100)
}

func TestSpendingOverALimitCreatesNothing(t *testing.T) {
	one := smallCacheUSD(t)
	neighbor := func(name string) observed.Neighbor {
		fc := withElastiCache(aFlagCache())
		fc.Name, fc.UID, fc.Spec.Cache.ElastiCache.Region = name, types.UID(name), "eu-west-1"
		return observed.Neighbor{FlagCache: fc}
	}
	for name, test := range map[string]struct {
		region    string
		limits    policy.SpendingLimits
		neighbors []observed.Neighbor
		more      bool
		// message is why it is refused, "" if it is not.
		message string
	}{
		"no limit":           {"eu-west-1", policy.SpendingLimits{}, nil, false, ""},
		"within a limit":     {"eu-west-1", policy.SpendingLimits{FlagCache: ptr.To(one + 1)}, nil, false, ""},
		"over a limit":       {"eu-west-1", policy.SpendingLimits{FlagCache: ptr.To(one)}, nil, false, fmt.Sprintf("USD a month, and at most %d.00 are permitted", one)},
		"no region":          {"", policy.SpendingLimits{FlagCache: ptr.To(one + 1)}, nil, false, "not known: the region is not known yet"},
		"with another":       {"eu-west-1", policy.SpendingLimits{Namespace: ptr.To(2*one + 2)}, []observed.Neighbor{neighbor("a")}, false, ""},
		"with too expensive": {"eu-west-1", policy.SpendingLimits{Namespace: ptr.To(2*one + 2)}, []observed.Neighbor{neighbor("a"), neighbor("b")}, false, "of the other FlagCaches of the namespace, and at most"},
		"with too many":      {"eu-west-1", policy.SpendingLimits{Namespace: ptr.To(2*one + 2)}, nil, true, "more than 500 other FlagCaches"},
	} {
		t.Run(name, func(t *testing.T) {
			w := anEmptyWorld(t, withElastiCache(aFlagCache()))
			w.ack, w.fc.Spec.Cache.ElastiCache.Region = everyKind(), test.region
			s := w.snapshot()
			s.SpendingLimits, s.Neighbors, s.MoreNeighbors = test.limits, test.neighbors, test.more
			p := Make(s)
			ready := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
			if refused := ready.Reason == v1alpha1.ReasonNotPermitted; refused != (test.message != "") || !strings.Contains(ready.Message, test.message) {
				t.Errorf("Ready has %s: %s", ready.Reason, ready.Message)
			}
			if (len(p.Apply) == 0) != (test.message != "") {
				t.Errorf("%d objects are applied", len(p.Apply))
			}
			if again := test.limits.Namespace != nil && test.message != ""; again && p.RequeueAfter != neighborInterval {
				t.Errorf("it is checked again after %v", p.RequeueAfter)
			}
		})
	}
}

// TestGroupsOfNeighborsCount: what exists of another FlagCache counts although its spec
// requests less, and what exists of the own is no request.
func TestGroupsOfNeighborsCount(t *testing.T) {
	w := anEmptyWorld(t, withElastiCache(aFlagCache()))
	w.ack, w.fc.Spec.Cache.ElastiCache.Region = everyKind(), "eu-west-1"
	for range 5 {
		w.reconcile()
	}
	groups := observed.All[*ack.ReplicationGroup](observed.NewIndex(w.snapshot()))
	if len(groups) != 1 {
		t.Fatalf("%d groups are created", len(groups))
	}
	limit := policy.SpendingLimits{Namespace: ptr.To(smallCacheUSD(t) + 1)}
	s := w.snapshot()
	s.SpendingLimits = limit
	s.Neighbors = []observed.Neighbor{{FlagCache: withElastiCache(aFlagCache())}}
	if found := caches.Overspending(observed.NewIndex(s)); len(found) > 0 {
		t.Errorf("what exists is refused: %v", found)
	}
	small := w.fc.DeepCopy()
	small.Spec.Cache = v1alpha1.CacheSpec{Type: v1alpha1.CacheInCluster}
	w = anEmptyWorld(t, withElastiCache(aFlagCache()))
	w.ack, w.fc.Spec.Cache.ElastiCache.Region = everyKind(), "eu-west-1"
	s = w.snapshot()
	s.SpendingLimits, s.Neighbors = limit, []observed.Neighbor{{FlagCache: small, Groups: []observed.Object{groups[0]}}}
	if found := caches.Overspending(observed.NewIndex(s)); len(found) != 1 || !strings.Contains(found[0].Problem, "of the other FlagCaches of the namespace, and at most") {
		t.Errorf("the group of a neighbor is not counted: %v", found)
	}
}

// TestDangerousKeysReachNoChild: without a policy none of them is on any object.
func TestDangerousKeysReachNoChild(t *testing.T) {
	tested := 0
	for what, keys := range dangerousKeys {
		for _, key := range keys {
			for field, change := range map[string]func(*v1alpha1.ServiceSpec){
				"podLabels": func(s *v1alpha1.ServiceSpec) { s.PodLabels = map[string]v1alpha1.LabelValue{key: "stolen"} },
				"podAnnotations": func(s *v1alpha1.ServiceSpec) {
					s.PodAnnotations = map[string]v1alpha1.AnnotationValue{key: "stolen"}
				},
			} {
				fc := aFlagCache()
				change(&fc.Spec.Service)
				w := aWorld(t, fc)
				w.violations = policy.Default().Check(fc, "")
				for _, o := range w.reconcile().Apply {
					if strings.Contains(observed.ToJSON(o), "stolen") {
						t.Errorf("%s gives pods %s: it reaches %s %s by %s", key, what, observed.KindOf(o), o.GetName(), field)
					}
				}
				own := strings.HasPrefix(key, "flagcache.dev/")
				if w.violations = nil; !own && !strings.Contains(observed.ToJSON(w.reconcile().Apply), "stolen") {
					t.Errorf("%s of %s reaches nothing even if it is permitted, so that this test cannot fail", key, field)
				}
				tested++
			}
		}
	}
	if tested < 2*60 {
		t.Errorf("%d keys are tested", tested/2)
	}
}
