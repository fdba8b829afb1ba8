// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ServiceSpec is the flag service: its size, its pods and its Redis client.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.replicas) && has(self.autoscaling))",message="service.replicas and service.autoscaling exclude each other: remove one"
type ServiceSpec struct {
	// image of the flag service. Default: the one of the operator's own version.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`

	// imagePullSecrets name Secrets for pulling the image.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=8
	ImagePullSecrets []LocalReference `json:"imagePullSecrets,omitempty"`

	// replicas of the flag service, 1 to 100. Excludes autoscaling. Default: 2.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Replicas *int32 `json:"replicas,omitempty"`

	// autoscaling hands the number of replicas to a HorizontalPodAutoscaler.
	// Default: none.
	// +optional
	Autoscaling *AutoscalingSpec `json:"autoscaling,omitempty"`

	// redis is the flag service's Redis client.
	// +optional
	// +kubebuilder:default={}
	Redis RedisClientSpec `json:"redis,omitempty,omitzero"`

	// resources of the container. Default: requests 100m CPU and 64Mi, limit 256Mi.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`

	// podLabels are added to the pods. Nothing is copied from the FlagCache's own
	// labels. Keys of Kubernetes, of FlagCache and of GitOps tools are refused.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.contains('kubernetes.io/') && !k.contains('k8s.io/') && !k.contains('flagcache.dev/') && !k.contains('amazonaws.com/') && !k.contains('istio.io/') && !k.contains('argoproj.io/') && !k.contains('fluxcd.io/'))",message="service.podLabels must not use prefixes of kubernetes.io, k8s.io, flagcache.dev, amazonaws.com, istio.io, argoproj.io or fluxcd.io: they give a pod rights or owners that this field is not for"
	PodLabels map[string]LabelValue `json:"podLabels,omitempty"`

	// podAnnotations are added to the pods. Keys of Kubernetes, of FlagCache and
	// of tools that change a pod's rights are refused.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.contains('kubernetes.io/') && !k.contains('k8s.io/') && !k.contains('flagcache.dev/') && !k.contains('amazonaws.com/') && !k.contains('istio.io/') && !k.contains('argoproj.io/') && !k.contains('fluxcd.io/') && !k.contains('hashicorp.com/') && !k.contains('k8s.aws/'))",message="service.podAnnotations must not use prefixes of kubernetes.io, k8s.io, flagcache.dev, amazonaws.com, k8s.aws, istio.io, argoproj.io, fluxcd.io or hashicorp.com: they give a pod rights or owners that this field is not for"
	PodAnnotations map[string]AnnotationValue `json:"podAnnotations,omitempty"`

	// env are further environment variables of the container. Values are literal:
	// a reference could read Secrets that the FlagCache's author may not.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Env []EnvVar `json:"env,omitempty"`

	// nodeSelector of the pods.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	NodeSelector map[string]LabelValue `json:"nodeSelector,omitempty"`

	// tolerations of the pods.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// affinity of the pods. Default: prefer nodes and zones without another pod of
	// the same FlagCache, by topologySpreadConstraints.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`

	// topologySpreadConstraints of the pods. Default: spread over zones and nodes
	// where possible.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`

	// serviceAccountName of the pods; no token of it is mounted. Default: the
	// namespace's default ServiceAccount.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
}

// LabelValue is the value of a label.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`
type LabelValue string

// AnnotationValue is the value of an annotation.
//
// +kubebuilder:validation:MaxLength=1024
type AnnotationValue string

// EnvVar is an environment variable with a literal value.
//
// +kubebuilder:validation:XValidation:rule="!(self.name in ['FLAG_ENVIRONMENT', 'FLAGS_FILE', 'FLAGS_POSTGRES_URI_FILE', 'LISTEN_ADDRESS', 'TELEMETRY_ADDRESS', 'SERVICE_BINDING_ROOT', 'REDIS_URL', 'CACHE_TTL', 'CACHE_HMAC_KEY_FILE', 'REDIS_POOL_SIZE', 'REDIS_DIAL_TIMEOUT', 'FLAGCACHE_REVISION', 'SPLIT_FILE', 'SPLIT_SALT'])",message="service.env must not set a variable that the operator sets itself: use the field of the spec that stands for it"
type EnvVar struct {
	// name of the variable.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[_a-zA-Z][_a-zA-Z0-9]*$`
	Name string `json:"name"`

	// value of the variable. Default: empty.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Value string `json:"value,omitempty"`
}

// ResourceRequirements are the requests and limits of a container.
type ResourceRequirements struct {
	// requests by resource name, for example cpu and memory.
	// +optional
	// +kubebuilder:validation:MaxProperties=8
	Requests corev1.ResourceList `json:"requests,omitempty"`

	// limits by resource name, for example cpu and memory.
	// +optional
	// +kubebuilder:validation:MaxProperties=8
	Limits corev1.ResourceList `json:"limits,omitempty"`
}

// AutoscalingSpec is a HorizontalPodAutoscaler on CPU utilisation.
//
// +kubebuilder:validation:XValidation:rule="self.minReplicas <= self.maxReplicas",message="service.autoscaling.minReplicas must not be greater than maxReplicas"
type AutoscalingSpec struct {
	// minReplicas is the lower limit. Default: 2.
	// +optional
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MinReplicas int32 `json:"minReplicas,omitempty"`

	// maxReplicas is the upper limit.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxReplicas int32 `json:"maxReplicas"`

	// targetCPUPercent is the average CPU utilisation aimed at, in percent of the
	// request. Default: 70.
	// +optional
	// +kubebuilder:default=70
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	TargetCPUPercent int32 `json:"targetCPUPercent,omitempty"`
}

// RedisClientSpec is the flag service's Redis client.
type RedisClientSpec struct {
	// poolSize is the most connections of one pod to Redis. Default: 10.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	PoolSize int32 `json:"poolSize,omitempty"`

	// dialTimeout bounds one connection attempt, between 10ms and 30s. Default: 2s.
	// +optional
	// +kubebuilder:default="2s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('30s')",message="service.redis.dialTimeout must be between 10ms and 30s"
	DialTimeout metav1.Duration `json:"dialTimeout,omitempty,omitzero"`
}
