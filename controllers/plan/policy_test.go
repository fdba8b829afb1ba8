// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"testing"

	"github.com/flagcache/flagcache/api/v1alpha1"
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
