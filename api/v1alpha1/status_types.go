// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// FlagCacheStatus is what the operator has seen and done. It is written only
// when its meaning changes.
type FlagCacheStatus struct {
	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions: Ready is the summary; Reconciling and Stalled follow kstatus and
	// are present only while true; the others each say one thing.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// binding names the connection Secret (Service Binding "provisioned service").
	// +optional
	Binding *BindingStatus `json:"binding,omitempty"`

	// cache is what is known of the Redis.
	// +optional
	Cache *CacheStatus `json:"cache,omitempty"`

	// service is what is known of the flag service.
	// +optional
	Service *ServiceStatus `json:"service,omitempty"`

	// revisions of the flag service.
	// +optional
	Revisions *RevisionsStatus `json:"revisions,omitempty"`

	// canary is the change that is being tried.
	// +optional
	Canary *CanaryStatus `json:"canary,omitempty"`

	// probe is the last answer of the probe that meant something new.
	// +optional
	Probe *ProbeStatus `json:"probe,omitempty"`

	// cost is the monthly estimate.
	// +optional
	Cost *CostStatus `json:"cost,omitempty"`

	// history of revisions, newest first, 10 at most.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	History []HistoryEntry `json:"history,omitempty"`

	// lastHandledReconcileAt echoes the annotation flagcache.dev/reconcile-at.
	// +optional
	LastHandledReconcileAt string `json:"lastHandledReconcileAt,omitempty"`
}

// BindingStatus names the connection Secret.
type BindingStatus struct {
	// name of the Secret.
	Name string `json:"name"`
}

// CacheStatus is what is known of the Redis.
type CacheStatus struct {
	// state in a word: Provisioning, Available, External, or the cloud's own word.
	// +optional
	State string `json:"state,omitempty"`
	// endpoint that writers use, host:port.
	// +optional
	Endpoint string `json:"endpoint,omitempty"`
	// readerEndpoint that readers may use, host:port.
	// +optional
	ReaderEndpoint string `json:"readerEndpoint,omitempty"`
	// engineVersion, for example "valkey 8.0".
	// +optional
	EngineVersion string `json:"engineVersion,omitempty"`
	// nodes that the cache has.
	// +optional
	Nodes int32 `json:"nodes,omitempty"`
	// replicationGroupID is AWS' name of the cache.
	// +optional
	ReplicationGroupID string `json:"replicationGroupID,omitempty"`
	// createdAt is when AWS made the cache. A cache that is made anew behind
	// FlagCache's back has another time.
	// +optional
	CreatedAt *metav1.Time `json:"createdAt,omitempty"`
	// hint about the size of the cache, where the memory or the CPU that it uses
	// stays high, or low while a smaller node type is to be had.
	// +optional
	Hint string `json:"hint,omitempty"`
}

// ServiceStatus is what is known of the flag service.
type ServiceStatus struct {
	// replicas wanted.
	// +optional
	Replicas int32 `json:"replicas,omitempty"`
	// readyReplicas behind the Service.
	// +optional
	ReadyReplicas int32 `json:"readyReplicas"`
	// ofrepEndpoint is the base URL for OpenFeature's OFREP providers.
	// +optional
	OFREPEndpoint string `json:"ofrepEndpoint,omitempty"`
	// image that the stable revision runs.
	// +optional
	Image string `json:"image,omitempty"`
}

// RevisionsStatus names the revisions of the flag service.
type RevisionsStatus struct {
	// stable is the revision behind the Service.
	// +optional
	Stable string `json:"stable,omitempty"`
	// candidate is the revision that is to become stable.
	// +optional
	Candidate string `json:"candidate,omitempty"`
	// rejected is the revision that was rolled back last.
	// +optional
	Rejected string `json:"rejected,omitempty"`
}

// CanaryPhase says what a canary is doing.
//
// +kubebuilder:validation:Enum=Starting;LoadTesting;Stepping;Paused;Held;Promoting
type CanaryPhase string

// Phases of a canary.
const (
	// CanaryStarting: the candidate's pods are starting; it gets no traffic.
	CanaryStarting CanaryPhase = "Starting"
	// CanaryLoadTesting: the candidate is tested with made-up traffic.
	CanaryLoadTesting CanaryPhase = "LoadTesting"
	// CanaryStepping: the candidate gets the step's share of the traffic and is judged.
	CanaryStepping CanaryPhase = "Stepping"
	// CanaryPaused: the canary waits for a person.
	CanaryPaused CanaryPhase = "Paused"
	// CanaryHeld: what the candidate shares with the stable revision is in
	// trouble, so nothing is judged meanwhile.
	CanaryHeld CanaryPhase = "Held"
	// CanaryPromoting: every step passed; the candidate grows to full size.
	CanaryPromoting CanaryPhase = "Promoting"
)

// CanaryStatus is the change that is being tried.
type CanaryStatus struct {
	// phase says what the canary is doing.
	// +optional
	Phase CanaryPhase `json:"phase,omitempty"`
	// step, counted from 1.
	// +optional
	Step int32 `json:"step,omitempty"`
	// weight that is asked for now, in percent.
	// +optional
	Weight int32 `json:"weight,omitempty"`
	// actualWeight that was measured.
	// +optional
	ActualWeight Percentage `json:"actualWeight,omitempty"`
	// observedFor is how much of the step's duration counts: time between looks
	// that found evidence, in seconds.
	// +optional
	ObservedFor int64 `json:"observedFor,omitempty"`
	// stepStartedAt is when the step began.
	// +optional
	StepStartedAt *metav1.Time `json:"stepStartedAt,omitempty"`
	// deadlineAt is when onInconclusive decides.
	// +optional
	DeadlineAt *metav1.Time `json:"deadlineAt,omitempty"`
	// checks with their evidence.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Checks []CheckStatus `json:"checks,omitempty"`
	// summary for the table, for example "5% 1/1".
	// +optional
	Summary string `json:"summary,omitempty"`
}

// CheckStatus is one check with its evidence.
type CheckStatus struct {
	// name of the check.
	Name string `json:"name"`
	// observed share of bad events; with canary.blocks, its mean over the blocks.
	// +optional
	Observed Percentage `json:"observed,omitempty"`
	// lower end of the confidence interval.
	// +optional
	Lower Percentage `json:"lower,omitempty"`
	// upper end of the confidence interval.
	// +optional
	Upper Percentage `json:"upper,omitempty"`
	// limit on the share of bad events.
	// +optional
	Limit Percentage `json:"limit,omitempty"`
	// requests that were counted.
	// +optional
	Requests int64 `json:"requests,omitempty"`
	// blocks that are complete and had events, where canary.blocks is set. Observed
	// and the interval are about their mean.
	// +optional
	Blocks int64 `json:"blocks,omitempty"`
	// verdict is Pass, Breach or Inconclusive.
	// +optional
	Verdict string `json:"verdict,omitempty"`
}

// ProbeStatus is the probe's answer, rounded so that it changes only when it
// means something else.
type ProbeStatus struct {
	// result is Healthy, Unhealthy or Unknown.
	Result string `json:"result"`
	// latency of a whole probe, rounded up to 1, 2 or 5 times a power of ten.
	// +optional
	Latency string `json:"latency,omitempty"`
	// role that the server reports: master or slave.
	// +optional
	Role string `json:"role,omitempty"`
	// replicationLag of a replica.
	// +optional
	ReplicationLag string `json:"replicationLag,omitempty"`
}

// CostStatus is the monthly estimate.
type CostStatus struct {
	// monthlyUSD is the estimate in US dollars a month, for example "24.82"; absent
	// where a price is not known.
	// +optional
	MonthlyUSD string `json:"monthlyUSD,omitempty"`
	// basis of the estimate: what is counted, at the prices of which day, and what
	// is not.
	// +optional
	Basis string `json:"basis,omitempty"`
}

// HistoryEntry is what became of a revision.
type HistoryEntry struct {
	// revision by its hash.
	Revision string `json:"revision"`
	// outcome is Promoted, RolledBack or Superseded.
	Outcome string `json:"outcome"`
	// reason of the outcome.
	// +optional
	Reason string `json:"reason,omitempty"`
	// startedAt is when the revision was first seen.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// finishedAt is when the outcome was known.
	// +optional
	FinishedAt *metav1.Time `json:"finishedAt,omitempty"`
}
