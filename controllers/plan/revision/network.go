// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package revision

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/pods"
	"github.com/flagcache/flagcache/service/config"
)

// NetworkPolicy admits clients and scrapers. It lets the pods reach DNS, the ports of the
// caches and of the source, which may be anywhere, and each other: stable pods forward
// requests to the candidate.
func NetworkPolicy(fc *v1alpha1.FlagCache, desired connection.Desired, sourcePorts []int32) *networkingv1.NetworkPolicy {
	selected := metav1.LabelSelector{MatchLabels: observed.SelectorLabels(fc, v1alpha1.ComponentService)}
	egress := []networkingv1.NetworkPolicyEgressRule{
		dnsEgress(),
		{Ports: pods.TCPPorts(desired.Ports)},
		serviceEgress(fc),
	}
	if len(sourcePorts) > 0 {
		egress = append(egress, networkingv1.NetworkPolicyEgressRule{Ports: pods.TCPPorts(sourcePorts)})
	}
	if desired.IAM {
		egress = append(egress, credentialsEgress()...)
	}
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: observed.ChildMeta(fc, observed.ServiceName(fc), v1alpha1.ComponentService),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: selected,
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				Ports: []networkingv1.NetworkPolicyPort{pods.TCPPort(config.PortOFREP), pods.TCPPort(config.PortTelemetry)},
			}},
			Egress: egress,
		},
	}
}

func dnsEgress() networkingv1.NetworkPolicyEgressRule {
	return networkingv1.NetworkPolicyEgressRule{Ports: []networkingv1.NetworkPolicyPort{pods.UDPPort(53), pods.TCPPort(53)}}
}

// serviceEgress lets pods reach the flag service.
func serviceEgress(fc *v1alpha1.FlagCache) networkingv1.NetworkPolicyEgressRule {
	return networkingv1.NetworkPolicyEgressRule{
		To: []networkingv1.NetworkPolicyPeer{{
			PodSelector: &metav1.LabelSelector{MatchLabels: observed.SelectorLabels(fc, v1alpha1.ComponentService)},
		}},
		Ports: []networkingv1.NetworkPolicyPort{pods.TCPPort(config.PortOFREP)},
	}
}

// credentialsEgress lets pods get AWS credentials: from STS, which may be anywhere, or
// from the EKS Pod Identity agent on their node
// (https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html).
func credentialsEgress() []networkingv1.NetworkPolicyEgressRule {
	agent := []networkingv1.NetworkPolicyPeer{
		{IPBlock: &networkingv1.IPBlock{CIDR: "169.254.170.23/32"}},
		{IPBlock: &networkingv1.IPBlock{CIDR: "fd00:ec2::23/128"}},
	}
	return []networkingv1.NetworkPolicyEgressRule{
		{Ports: []networkingv1.NetworkPolicyPort{pods.TCPPort(443)}},
		{To: agent, Ports: []networkingv1.NetworkPolicyPort{pods.TCPPort(80)}},
	}
}
