// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pods holds what every pod of a FlagCache has in common: the security
// context of Pod Security level restricted, and ports of network policies.
package pods

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// nonroot is the user of distroless images; Redis runs as any user.
const nonroot = 65532

// PodSecurityContext is what Pod Security's level "restricted" asks of a pod.
func PodSecurityContext() *corev1.PodSecurityContext {
	return &corev1.PodSecurityContext{
		RunAsNonRoot:   ptr.To(true),
		RunAsUser:      ptr.To[int64](nonroot),
		RunAsGroup:     ptr.To[int64](nonroot),
		FSGroup:        ptr.To[int64](nonroot),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// ContainerSecurityContext is what Pod Security's level "restricted" asks of a
// container, with a read-only root file system.
func ContainerSecurityContext() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false),
		ReadOnlyRootFilesystem:   ptr.To(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

// TCPPort is one TCP port of a network policy.
func TCPPort(port int32) networkingv1.NetworkPolicyPort {
	return networkingv1.NetworkPolicyPort{Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(intstr.FromInt32(port))}
}

// TCPPorts are several TCP ports of a network policy.
func TCPPorts(numbers []int32) []networkingv1.NetworkPolicyPort {
	var ports []networkingv1.NetworkPolicyPort
	for _, number := range numbers {
		ports = append(ports, TCPPort(number))
	}
	return ports
}

// UDPPort is one UDP port of a network policy.
func UDPPort(port int32) networkingv1.NetworkPolicyPort {
	return networkingv1.NetworkPolicyPort{Protocol: ptr.To(corev1.ProtocolUDP), Port: ptr.To(intstr.FromInt32(port))}
}

// ImageTag is the last part of an image's repository with its tag, for a person
// to read: "redis:7.2-alpine".
func ImageTag(image string) string {
	image, _, _ = strings.Cut(image, "@")
	return image[strings.LastIndex(image, "/")+1:]
}

// SecretVolume mounts a whole Secret, readable by the group of the pod.
func SecretVolume(name string) corev1.VolumeSource {
	return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name, DefaultMode: ptr.To[int32](0o440)}}
}
