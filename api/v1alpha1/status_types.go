// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// FlagCacheStatus is the observed state of a FlagCache.
type FlagCacheStatus struct {
	// observedGeneration is the generation of the spec that this status is based on.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// operator is the namespace of the operator that handles this FlagCache: the first
	// that observed it, or the one that the annotation flagcache.dev/operator names. Any
	// other operator leaves it alone, and reports that in an event.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Operator string `json:"operator,omitempty"`

	// conditions of the FlagCache. Ready summarizes the others. Reconciling and Stalled
	// follow kstatus and are present only while True.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// binding references the connection Secret, as in the Service Binding specification
	// for provisioned services.
	// +optional
	Binding *BindingStatus `json:"binding,omitempty"`

	// cache is the observed state of the Redis.
	// +optional
	Cache *CacheStatus `json:"cache,omitempty"`

	// flags is the document of flags that the operator published for the pods.
	// +optional
	Flags *FlagsStatus `json:"flags,omitempty"`

	// service is the observed state of the flag service.
	// +optional
	Service *ServiceStatus `json:"service,omitempty"`

	// revisions of the flag service.
	// +optional
	Revisions *RevisionsStatus `json:"revisions,omitempty"`

	// canary is the canary in progress, or the one that rejected the revision of the
	// spec.
	// +optional
	Canary *CanaryStatus `json:"canary,omitempty"`

	// probe is the result of the latest probes.
	// +optional
	Probe *ProbeStatus `json:"probe,omitempty"`

	// cost is the estimated monthly cost of the cache.
	// +optional
	Cost *CostStatus `json:"cost,omitempty"`

	// history of revisions, newest first, at most 10.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	History []HistoryEntry `json:"history,omitempty"`

	// lastHandledReconcileAt is the last value of the annotation
	// flagcache.dev/reconcile-at that was handled.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	LastHandledReconcileAt string `json:"lastHandledReconcileAt,omitempty"`
}

// BindingStatus references the connection Secret.
type BindingStatus struct {
	// name of the Secret.
	// +kubebuilder:validation:MaxLength=1024
	Name string `json:"name"`
}

// CacheStatus is the observed state of the Redis.
type CacheStatus struct {
	// state is Provisioning, Available, External, or the state that AWS reports.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	State string `json:"state,omitempty"`
	// endpoint for reads and writes, host:port.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Endpoint string `json:"endpoint,omitempty"`
	// readerEndpoint for reads only, host:port.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	ReaderEndpoint string `json:"readerEndpoint,omitempty"`
	// engineVersion is the engine and its version, for example "valkey 8.0".
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	EngineVersion string `json:"engineVersion,omitempty"`
	// nodes is the number of nodes.
	// +optional
	Nodes int32 `json:"nodes,omitempty"`
	// replicationGroupID is the ID of the replication group in AWS.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	ReplicationGroupID string `json:"replicationGroupID,omitempty"`
	// createdAt is when AWS created the cache. It changes when the cache is deleted in
	// AWS and recreated by ACK.
	// +optional
	CreatedAt *metav1.Time `json:"createdAt,omitempty"`
	// hint recommends another size for the cache when its use of memory or CPU stays
	// high, or stays low and a smaller node type exists.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Hint string `json:"hint,omitempty"`
}

// FlagsStatus is the document of flags in the ConfigMap that the operator publishes, and
// how many pods serve it.
type FlagsStatus struct {
	// number of the document. It increases with each document that is published, and pods
	// never replace a document by one with a lower number.
	// +kubebuilder:validation:Minimum=1
	Number int64 `json:"number"`
	// digest is the SHA-256 of the document in hexadecimal.
	// +kubebuilder:validation:MaxLength=64
	Digest string `json:"digest"`
	// publishedAt is when the document was published.
	PublishedAt metav1.Time `json:"publishedAt"`
	// pods is the number of ready pods that are to serve it.
	// +optional
	Pods int32 `json:"pods,omitempty"`
	// servingPods is the number of those that reported to serve it. It is missing until
	// they were asked.
	// +optional
	ServingPods *int32 `json:"servingPods,omitempty"`
}

// ServiceStatus is the observed state of the flag service.
type ServiceStatus struct {
	// replicas is the desired number of replicas of the revision that serves.
	// +optional
	Replicas int32 `json:"replicas,omitempty"`
	// readyReplicas is the number of ready replicas of the revision that serves.
	// +optional
	ReadyReplicas int32 `json:"readyReplicas"`
	// ofrepEndpoint is the base URL for OpenFeature OFREP providers.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	OFREPEndpoint string `json:"ofrepEndpoint,omitempty"`
	// image of the revision that serves: the stable one, unless another one serves in
	// its place.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Image string `json:"image,omitempty"`
}

// RevisionsStatus are the current revisions of the flag service.
type RevisionsStatus struct {
	// stable is the revision that was promoted last. The Service selects it, unless it
	// has no ready pod.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Stable string `json:"stable,omitempty"`
	// candidate is the revision that is being rolled out.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Candidate string `json:"candidate,omitempty"`
	// rejected is the revision of the spec if it was rolled back.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Rejected string `json:"rejected,omitempty"`
}

// CanaryPhase is the phase of a canary.
//
// +kubebuilder:validation:Enum=Starting;LoadTesting;Stepping;Paused;Held;Promoting
type CanaryPhase string

// Phases of a canary.
const (
	// CanaryStarting: the candidate's pods are starting; it gets no traffic.
	CanaryStarting CanaryPhase = "Starting"
	// CanaryLoadTesting: the candidate is being load tested; it gets no user traffic.
	CanaryLoadTesting CanaryPhase = "LoadTesting"
	// CanaryStepping: the candidate gets the share of the current step and is being
	// evaluated.
	CanaryStepping CanaryPhase = "Stepping"
	// CanaryPaused: the canary is paused until somebody resumes, promotes or aborts it.
	CanaryPaused CanaryPhase = "Paused"
	// CanaryHeld: a dependency of both revisions is failing, the gateway does not
	// accept the route, or the stable revision has no ready pod; the candidate is not
	// evaluated until that is over.
	CanaryHeld CanaryPhase = "Held"
	// CanaryPromoting: all steps passed; the candidate is being scaled up.
	CanaryPromoting CanaryPhase = "Promoting"
)

// CanaryStatus is the state of a canary.
type CanaryStatus struct {
	// phase of the canary; absent after a rollback.
	// +optional
	Phase CanaryPhase `json:"phase,omitempty"`
	// step is the current step, counted from 1.
	// +optional
	Step int32 `json:"step,omitempty"`
	// weight is the desired share of the traffic in percent.
	// +optional
	Weight int32 `json:"weight,omitempty"`
	// actualWeight is the measured share of the traffic.
	// +optional
	ActualWeight Percentage `json:"actualWeight,omitempty"`
	// observedFor is the time in seconds that counts towards the duration of the step:
	// the time between samples with evidence.
	// +optional
	ObservedFor int64 `json:"observedFor,omitempty"`
	// stepStartedAt is when the step started.
	// +optional
	StepStartedAt *metav1.Time `json:"stepStartedAt,omitempty"`
	// deadlineAt is the earliest time at which onInconclusive applies. Time during which
	// the canary is held or paused, or the operator is down, does not count, so it may be
	// later.
	// +optional
	DeadlineAt *metav1.Time `json:"deadlineAt,omitempty"`
	// checks and their evidence.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Checks []CheckStatus `json:"checks,omitempty"`
	// summary for the print column, for example "5% 1/1", or "rolled back".
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Summary string `json:"summary,omitempty"`
}

// CheckStatus is a check and its evidence.
type CheckStatus struct {
	// name of the check.
	// +kubebuilder:validation:MaxLength=1024
	Name string `json:"name"`
	// observed is the proportion of bad events; with canary.blocks, its mean over the
	// blocks.
	// +optional
	Observed Percentage `json:"observed,omitempty"`
	// lower bound of the confidence interval.
	// +optional
	Lower Percentage `json:"lower,omitempty"`
	// upper bound of the confidence interval.
	// +optional
	Upper Percentage `json:"upper,omitempty"`
	// limit of the proportion of bad events.
	// +optional
	Limit Percentage `json:"limit,omitempty"`
	// requests is the number of events that were counted.
	// +optional
	Requests int64 `json:"requests,omitempty"`
	// blocks is the number of complete blocks with events, if canary.blocks is set.
	// +optional
	Blocks int64 `json:"blocks,omitempty"`
	// verdict is Pass, Breach or Inconclusive.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Verdict string `json:"verdict,omitempty"`
}

// ProbeStatus is the result of the latest probes. Values are rounded, so that the
// status changes only when the result does.
type ProbeStatus struct {
	// result is Healthy or Unhealthy. Before the first result there is no status of the
	// probe.
	// +kubebuilder:validation:MaxLength=1024
	Result string `json:"result"`
	// latency of a probe, rounded up to 1, 2 or 5 times a power of ten.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Latency string `json:"latency,omitempty"`
	// role that the server reports: master or slave.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Role string `json:"role,omitempty"`
	// replicationLag is the lag of a replica behind its primary.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	ReplicationLag string `json:"replicationLag,omitempty"`
}

// CostStatus is the estimated monthly cost of the cache.
type CostStatus struct {
	// monthlyUSD is the estimate in US dollars per month, for example "24.82". It is
	// absent if a price is unknown.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	MonthlyUSD string `json:"monthlyUSD,omitempty"`
	// basis of the estimate: what it includes, the date of the prices, and what it
	// excludes.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Basis string `json:"basis,omitempty"`
}

// HistoryEntry is a revision whose rollout ended, and its outcome.
type HistoryEntry struct {
	// revision is the hash of the revision.
	// +kubebuilder:validation:MaxLength=1024
	Revision string `json:"revision"`
	// outcome is Promoted, RolledBack or Superseded.
	// +kubebuilder:validation:MaxLength=1024
	Outcome string `json:"outcome"`
	// reason of the outcome.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Reason string `json:"reason,omitempty"`
	// startedAt is when the rollout of the revision started.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// finishedAt is when the outcome was decided, or the promoted revision was observed
	// to serve.
	// +optional
	FinishedAt *metav1.Time `json:"finishedAt,omitempty"`
}
