// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ServiceSpec configures the flag service: its replicas, its pods and its Redis client.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.replicas) && has(self.autoscaling))",message="service.replicas and service.autoscaling are mutually exclusive: remove one"
type ServiceSpec struct {
	// image of the flag service. Default: the image of the operator's version.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image,omitempty"`

	// imagePullSecrets reference the Secrets for pulling the image.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=8
	ImagePullSecrets []LocalReference `json:"imagePullSecrets,omitempty"`

	// replicas is the number of pods, 1 to 100. Mutually exclusive with autoscaling.
	// Default: 2.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Replicas *int32 `json:"replicas,omitempty"`

	// autoscaling configures a HorizontalPodAutoscaler, which then controls the number
	// of replicas. Without it, the number of replicas that another
	// HorizontalPodAutoscaler chooses for the Deployment of a revision is kept, but it
	// does not follow to the Deployment of the next one. Default: none.
	// +optional
	Autoscaling *AutoscalingSpec `json:"autoscaling,omitempty"`

	// redis configures the Redis client.
	// +optional
	// +kubebuilder:default={}
	Redis RedisClientSpec `json:"redis,omitempty,omitzero"`

	// resources of the container. Default: requests of 100m CPU and 64Mi memory, limit
	// of 256Mi memory.
	// +optional
	Resources *ResourceRequirements `json:"resources,omitempty"`

	// podLabels are added to the pods. The labels of the FlagCache itself are not
	// propagated. Keys with a dot or a slash, such as example.com/team, and
	// aadpodidbinding must be permitted by the policy of the operator's administrator;
	// those of flagcache.dev are not. Default: none.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317)",message="the keys of service.podLabels must have at most 317 characters"
	PodLabels map[string]LabelValue `json:"podLabels,omitempty"`

	// podAnnotations are added to the pods. Keys are permitted as those of podLabels.
	// Default: none.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317)",message="the keys of service.podAnnotations must have at most 317 characters"
	PodAnnotations map[string]AnnotationValue `json:"podAnnotations,omitempty"`

	// env are additional environment variables of the container. Only literal values
	// are supported: a reference could expose Secrets that the author of the FlagCache
	// has no permission to read.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Env []EnvVar `json:"env,omitempty"`

	// nodeSelector of the pods.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317)",message="the keys of service.nodeSelector must have at most 317 characters"
	NodeSelector map[string]LabelValue `json:"nodeSelector,omitempty"`

	// tolerations of the pods.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// affinity of the pods. Default: none; topologySpreadConstraints spread the pods
	// over zones and nodes.
	// +optional
	Affinity *corev1.Affinity `json:"affinity,omitempty"`

	// topologySpreadConstraints of the pods. Default: spread over zones and nodes if
	// possible.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`

	// serviceAccountName of the pods. Its token is not mounted. Default: the default
	// ServiceAccount of the namespace.
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
// +kubebuilder:validation:XValidation:rule="!(self.name in ['FLAG_ENVIRONMENT', 'FLAGS_FILE', 'FLAGS_MANIFEST', 'FLAGS_STORE', 'FLAGS_POSTGRES_URI_FILE', 'LISTEN_ADDRESS', 'TELEMETRY_ADDRESS', 'SERVICE_BINDING_ROOT', 'REDIS_URL', 'CACHE_TTL', 'CACHE_HMAC_KEY_FILE', 'REDIS_POOL_SIZE', 'REDIS_DIAL_TIMEOUT', 'FLAGCACHE_REVISION', 'SPLIT_FILE', 'SPLIT_SALT'])",message="service.env must not contain variables that the operator sets: what can be chosen has a field in the spec"
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

// ResourceRequirements are the resource requests and limits of a container.
type ResourceRequirements struct {
	// requests by resource name, for example cpu and memory.
	// +optional
	// +kubebuilder:validation:MaxProperties=8
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317)",message="the keys of resources.requests must have at most 317 characters"
	Requests corev1.ResourceList `json:"requests,omitempty"`

	// limits by resource name, for example cpu and memory.
	// +optional
	// +kubebuilder:validation:MaxProperties=8
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317)",message="the keys of resources.limits must have at most 317 characters"
	Limits corev1.ResourceList `json:"limits,omitempty"`
}

// AutoscalingSpec configures a HorizontalPodAutoscaler on CPU utilization.
//
// +kubebuilder:validation:XValidation:rule="self.minReplicas <= self.maxReplicas",message="service.autoscaling.minReplicas must not be greater than maxReplicas"
type AutoscalingSpec struct {
	// minReplicas is the minimum number of replicas. Default: 2.
	// +optional
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MinReplicas int32 `json:"minReplicas,omitempty"`

	// maxReplicas is the maximum number of replicas.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxReplicas int32 `json:"maxReplicas"`

	// targetCPUPercent is the target average CPU utilization, in percent of the CPU
	// request. Default: 70.
	// +optional
	// +kubebuilder:default=70
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	TargetCPUPercent int32 `json:"targetCPUPercent,omitempty"`
}

// RedisClientSpec configures the Redis client of the flag service.
type RedisClientSpec struct {
	// poolSize is the maximum number of connections of a pod to Redis. Default: 10.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	PoolSize int32 `json:"poolSize,omitempty"`

	// dialTimeout is the timeout of a connection attempt, between 10ms and 30s.
	// Default: 2s.
	// +optional
	// +kubebuilder:default="2s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('30s')",message="service.redis.dialTimeout must be between 10ms and 30s"
	DialTimeout metav1.Duration `json:"dialTimeout,omitempty,omitzero"`
}
