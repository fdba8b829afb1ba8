// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CanarySpec says how a change is tried on a share of the traffic, judged, and
// promoted or rolled back.
//
// +kubebuilder:validation:XValidation:rule="!has(self.blocks) || !has(self.strict) || !self.strict",message="canary.strict and canary.blocks exclude each other: a few dozen blocks never bring the whole interval within a limit"
// +kubebuilder:validation:XValidation:rule="!has(self.blocks) || !has(self.metrics) || duration(self.blocks.duration) >= duration(self.metrics.interval)",message="canary.blocks.duration must not be shorter than canary.metrics.interval: a block is made of whole samples"
// +kubebuilder:validation:XValidation:rule="!has(self.blocks) || !has(self.deadline) || duration(self.blocks.duration).getSeconds() * self.blocks.minimum <= duration(self.deadline).getSeconds()",message="canary.blocks.minimum blocks of canary.blocks.duration must fit into canary.deadline"
type CanarySpec struct {
	// steps in order; after the last one the candidate gets all traffic. An empty
	// list switches the canary off: a change then only waits until its pods are
	// ready. Default: 5 % for one hour.
	// +optional
	// +listType=atomic
	// +kubebuilder:default={{weight: 5, duration: "1h"}}
	// +kubebuilder:validation:MaxItems=20
	Steps []CanaryStep `json:"steps"`

	// traffic says how the share reaches the candidate. Default: Split.
	// +optional
	// +kubebuilder:default={type: Split}
	Traffic TrafficSpec `json:"traffic,omitempty,omitzero"`

	// metrics says where the evidence comes from. Default: Pods.
	// +optional
	// +kubebuilder:default={type: Pods}
	Metrics MetricsSpec `json:"metrics,omitempty,omitzero"`

	// thresholds that the candidate must keep.
	// +optional
	// +kubebuilder:default={}
	Thresholds ThresholdsSpec `json:"thresholds,omitempty,omitzero"`

	// confidence is one minus the chance to roll back a healthy release, over the
	// whole canary and all checks, between 50% and 99.99%. Default: "99%".
	// +optional
	// +kubebuilder:default="99%"
	Confidence Percentage `json:"confidence,omitempty"`

	// strict wants the whole confidence interval within each limit before a step
	// passes, not only the observed share. Not together with blocks. Default: false.
	// +optional
	Strict bool `json:"strict,omitempty"`

	// minimumRequests of a step before it can pass. Default: 1000.
	// +optional
	// +kubebuilder:default=1000
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000000
	MinimumRequests int64 `json:"minimumRequests"`

	// blocks have each check judged on stretches of time in place of single events,
	// for failures that come in bursts. Default: none, every event counts by itself.
	// +optional
	Blocks *BlocksSpec `json:"blocks,omitempty"`

	// deadline of one step; then onInconclusive decides. Between 1m and 720h. Default: 6h.
	// +optional
	// +kubebuilder:default="6h"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('720h')",message="canary.deadline must be between 1m and 720h"
	Deadline metav1.Duration `json:"deadline,omitempty,omitzero"`

	// onInconclusive says what happens when a step's evidence is too little at its
	// deadline: Pause, Promote or Rollback. Default: Pause.
	// +optional
	// +kubebuilder:default=Pause
	OnInconclusive InconclusivePolicy `json:"onInconclusive,omitempty"`

	// loadTest against the candidate before any user sees it. Default: none.
	// +optional
	LoadTest *LoadTestSpec `json:"loadTest,omitempty"`

	// scaleDownDelay is how long the old revision stays after a promotion, so that
	// going back is a change of weight; at most 24h. Default: 10m.
	// +optional
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('24h')",message="canary.scaleDownDelay must be at most 24h"
	ScaleDownDelay metav1.Duration `json:"scaleDownDelay"`
}

// GetSteps are the steps, none where there is no canary.
func (c *CanarySpec) GetSteps() []CanaryStep {
	if c == nil {
		return nil
	}
	return c.Steps
}

// BlocksSpec groups the events of a canary by time. A block counts once, as the
// share of its events that were bad, so that a burst of failures is one observation
// and not hundreds. The shares must keep their limits over time, whatever happens
// within a block. It takes several blocks to roll a bad release back.
type BlocksSpec struct {
	// duration of a block, in time between samples that have evidence, between 1s and
	// 1h. Bursts should be shorter by far, and a block should have many requests:
	// one in which all fail is a breach of a limit of 0.1%, however few there were.
	// Default: 1m.
	// +optional
	// +kubebuilder:default="1m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="canary.blocks.duration must be between 1s and 1h"
	Duration metav1.Duration `json:"duration,omitempty,omitzero"`

	// minimum number of complete blocks of a step before it can pass, besides
	// minimumRequests; 1 to 1000. Default: 5.
	// +optional
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	Minimum int32 `json:"minimum,omitempty"`
}

// Percentage is a number with a percent sign, such as "0.1%".
//
// +kubebuilder:validation:MaxLength=10
// +kubebuilder:validation:Pattern=`^(100|[0-9]{1,2})(\.[0-9]{1,4})?%$`
type Percentage string

// CanaryStep is a share of the traffic for a time.
type CanaryStep struct {
	// weight of the candidate in percent, 1 to 100.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`

	// duration of the step at the least, between 1s and 720h.
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('720h')",message="canary.steps[].duration must be between 1s and 720h"
	Duration metav1.Duration `json:"duration"`
}

// TrafficType says how a share of the traffic reaches the candidate.
//
// +kubebuilder:validation:Enum=Split;GatewayAPI;Replicas
type TrafficType string

// Ways to share traffic.
const (
	// TrafficSplit has each stable pod hand the share on, and answer by itself if
	// the candidate fails.
	TrafficSplit TrafficType = "Split"
	// TrafficGatewayAPI sets weights on an HTTPRoute.
	TrafficGatewayAPI TrafficType = "GatewayAPI"
	// TrafficReplicas uses the ratio of pods behind one Service.
	TrafficReplicas TrafficType = "Replicas"
)

// TrafficSpec says how a share of the traffic reaches the candidate.
//
// +kubebuilder:validation:XValidation:rule="self.type != 'GatewayAPI' || has(self.httpRouteRef)",message="canary.traffic.httpRouteRef is required for type GatewayAPI: name the HTTPRoute that sends clients' requests to the FlagCache's Service"
// +kubebuilder:validation:XValidation:rule="self.type == 'GatewayAPI' || !has(self.httpRouteRef)",message="canary.traffic.httpRouteRef is only for type GatewayAPI"
type TrafficSpec struct {
	// type is Split, GatewayAPI or Replicas. Default: Split.
	// +optional
	// +kubebuilder:default=Split
	Type TrafficType `json:"type,omitempty"`

	// httpRouteRef names the HTTPRoute of type GatewayAPI, in the FlagCache's own
	// namespace. In its rules that have the Service NAME as their only backend, a
	// candidate is added with its weight, and taken out when the canary is over.
	// +optional
	HTTPRouteRef *LocalReference `json:"httpRouteRef,omitempty"`
}

// MetricsType says where a canary's numbers come from.
//
// +kubebuilder:validation:Enum=Pods;Prometheus;CloudWatch
type MetricsType string

// Sources of a canary's numbers.
const (
	MetricsPods       MetricsType = "Pods"
	MetricsPrometheus MetricsType = "Prometheus"
	MetricsCloudWatch MetricsType = "CloudWatch"
)

// MetricsSpec says where a canary's numbers come from.
//
// +kubebuilder:validation:XValidation:rule="(self.type == 'Prometheus') == has(self.prometheus)",message="canary.metrics.prometheus goes with type Prometheus"
// +kubebuilder:validation:XValidation:rule="(self.type == 'CloudWatch') == has(self.cloudWatch)",message="canary.metrics.cloudWatch goes with type CloudWatch"
// +kubebuilder:validation:XValidation:rule="self.type != 'CloudWatch' || (has(self.interval) && duration(self.interval) >= duration('30s'))",message="canary.metrics.interval must be at least 30s for type CloudWatch, which counts by the minute"
type MetricsSpec struct {
	// type is Pods, Prometheus or CloudWatch. Default: Pods.
	// +optional
	// +kubebuilder:default=Pods
	Type MetricsType `json:"type,omitempty"`

	// interval between two looks at the evidence, between 1s and 5m, and at least 30s
	// for type CloudWatch. Default: 10s.
	// +optional
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('5m')",message="canary.metrics.interval must be between 1s and 5m"
	Interval metav1.Duration `json:"interval,omitempty,omitzero"`

	// prometheus is the server of type Prometheus.
	// +optional
	Prometheus *PrometheusSpec `json:"prometheus,omitempty"`

	// cloudWatch is what to ask Amazon CloudWatch for type CloudWatch.
	// +optional
	CloudWatch *CloudWatchSpec `json:"cloudWatch,omitempty"`
}

// PrometheusSpec is a Prometheus server and what to ask it.
type PrometheusSpec struct {
	// address of the server's API, for example http://prometheus.monitoring:9090. It
	// has no user, no query and no fragment; loopback and link-local addresses are
	// never connected to.
	// +required
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$`
	Address string `json:"address"`

	// queries in PromQL for what is not the flag service's own metrics. The keys are
	// CHECK.bad and CHECK.total, both or none, where CHECK is errorRate, latencyP95,
	// latencyP99, cacheHitRate or missLatencyP95. Each is an instant vector of
	// counters as they are, neither rated nor summed over pods, and they are matched
	// by their labels. $revision, $namespace and $name stand for the revision that is
	// asked about, once the candidate and once the stable one, and for the FlagCache.
	// Default: what the flag service's own metrics say.
	// +optional
	// +kubebuilder:validation:MaxProperties=10
	// +kubebuilder:validation:XValidation:rule="self.all(k, k in ['errorRate.bad', 'errorRate.total', 'latencyP95.bad', 'latencyP95.total', 'latencyP99.bad', 'latencyP99.total', 'cacheHitRate.bad', 'cacheHitRate.total', 'missLatencyP95.bad', 'missLatencyP95.total'])",message="the keys of canary.metrics.prometheus.queries are CHECK.bad and CHECK.total, where CHECK is errorRate, latencyP95, latencyP99, cacheHitRate or missLatencyP95"
	// +kubebuilder:validation:XValidation:rule="['errorRate', 'latencyP95', 'latencyP99', 'cacheHitRate', 'missLatencyP95'].all(c, ((c + '.bad') in self) == ((c + '.total') in self))",message="canary.metrics.prometheus.queries needs CHECK.bad and CHECK.total together"
	// +kubebuilder:validation:XValidation:rule="self.all(k, self[k].contains('$revision'))",message="every query of canary.metrics.prometheus.queries must say $revision: what is not about one revision is no evidence"
	Queries map[string]Query `json:"queries,omitempty"`
}

// Query is a PromQL expression.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=4096
type Query string

// CloudWatchSpec is what to ask Amazon CloudWatch. The operator's own AWS identity is
// used, as the AWS SDK finds it, and needs the right cloudwatch:GetMetricData.
//
// +kubebuilder:validation:XValidation:rule="has(self.namespace) || self.queries.all(k, !has(self.queries[k].metric))",message="canary.metrics.cloudWatch.namespace is required for queries with a metric"
type CloudWatchSpec struct {
	// region of the metrics, for example eu-central-1. Default: the one that the AWS
	// SDK finds where the operator runs.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^[a-z]{2,8}(-[a-z]+)+-[0-9]{1,2}$`
	Region string `json:"region,omitempty"`

	// namespace of the metrics in CloudWatch, for example ContainerInsights/Prometheus.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9 ._/#:-]+$`
	Namespace string `json:"namespace,omitempty"`

	// queries for numbers of events in a minute. The keys are CHECK.bad and
	// CHECK.total, both or none, where CHECK is errorRate, latencyP95, latencyP99,
	// cacheHitRate or missLatencyP95. $revision, $namespace and $name stand for the
	// revision that is asked about, once the candidate and once the stable one, and
	// for the FlagCache. A check without queries is counted at the pods, as by type Pods.
	// +required
	// +kubebuilder:validation:MinProperties=2
	// +kubebuilder:validation:MaxProperties=10
	// +kubebuilder:validation:XValidation:rule="self.all(k, k in ['errorRate.bad', 'errorRate.total', 'latencyP95.bad', 'latencyP95.total', 'latencyP99.bad', 'latencyP99.total', 'cacheHitRate.bad', 'cacheHitRate.total', 'missLatencyP95.bad', 'missLatencyP95.total'])",message="the keys of canary.metrics.cloudWatch.queries are CHECK.bad and CHECK.total, where CHECK is errorRate, latencyP95, latencyP99, cacheHitRate or missLatencyP95"
	// +kubebuilder:validation:XValidation:rule="['errorRate', 'latencyP95', 'latencyP99', 'cacheHitRate', 'missLatencyP95'].all(c, ((c + '.bad') in self) == ((c + '.total') in self))",message="canary.metrics.cloudWatch.queries needs CHECK.bad and CHECK.total together"
	Queries map[string]CloudWatchQuery `json:"queries,omitempty"`
}

// CloudWatchQuery is a metric, or an expression over metrics.
//
// +kubebuilder:validation:XValidation:rule="has(self.metric) != has(self.expression)",message="a query of canary.metrics.cloudWatch.queries is either a metric or an expression"
// +kubebuilder:validation:XValidation:rule="has(self.metric) || !(has(self.dimensions) || has(self.statistic))",message="dimensions and statistic of canary.metrics.cloudWatch.queries go with a metric"
// +kubebuilder:validation:XValidation:rule="has(self.expression) ? self.expression.contains('$revision') : has(self.dimensions) && self.dimensions.exists(d, self.dimensions[d].contains('$revision'))",message="every query of canary.metrics.cloudWatch.queries must say $revision, in its expression or in a dimension: what is not about one revision is no evidence"
type CloudWatchQuery struct {
	// metric is its name.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Metric string `json:"metric,omitempty"`

	// dimensions of the metric, all that it was published with.
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=30
	Dimensions map[string]DimensionValue `json:"dimensions,omitempty"`

	// statistic that counts events: Sum for metrics that are counts, and for those
	// that have one value for each event SampleCount, or TC(FROM:TO) for the values in
	// a range, of which an end may be left out. Default: Sum.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^(Sum|SampleCount|TC\([0-9.]*:[0-9.]*\))$`
	Statistic string `json:"statistic,omitempty"`

	// expression of metric math with one series as its result, such as
	// SUM(SEARCH(...)). Metrics Insights (SELECT) is not possible.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Expression string `json:"expression,omitempty"`
}

// DimensionValue is the value of a CloudWatch dimension.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=1024
type DimensionValue string

// ThresholdsSpec are the limits that a candidate must keep.
type ThresholdsSpec struct {
	// errorRate is the largest share of failed requests. Default: "0.1%".
	// +optional
	// +kubebuilder:default="0.1%"
	ErrorRate Percentage `json:"errorRate,omitempty"`

	// cacheHitRate is the smallest share of look-ups in Redis that hit. Default: "80%".
	// +optional
	// +kubebuilder:default="80%"
	CacheHitRate Percentage `json:"cacheHitRate,omitempty"`

	// latencyP95 is the largest 95th percentile of latency. Default: 100ms.
	// +optional
	// +kubebuilder:default="100ms"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('1h')",message="canary.thresholds.latencyP95 must be above 0 and at most 1h"
	LatencyP95 metav1.Duration `json:"latencyP95,omitempty,omitzero"`

	// latencyP99 is the largest 99th percentile of latency. Default: 300ms.
	// +optional
	// +kubebuilder:default="300ms"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('1h')",message="canary.thresholds.latencyP99 must be above 0 and at most 1h"
	LatencyP99 metav1.Duration `json:"latencyP99,omitempty,omitzero"`

	// missLatencyP95 is the largest 95th percentile of the time to fill a miss. Default: 300ms.
	// +optional
	// +kubebuilder:default="300ms"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('1h')",message="canary.thresholds.missLatencyP95 must be above 0 and at most 1h"
	MissLatencyP95 metav1.Duration `json:"missLatencyP95,omitempty,omitzero"`
}

// InconclusivePolicy says what follows from too little evidence.
//
// +kubebuilder:validation:Enum=Pause;Promote;Rollback
type InconclusivePolicy string

// What follows from too little evidence.
const (
	InconclusivePause    InconclusivePolicy = "Pause"
	InconclusivePromote  InconclusivePolicy = "Promote"
	InconclusiveRollback InconclusivePolicy = "Rollback"
)

// LoadTestSpec is a load test against the candidate before any user sees it.
type LoadTestSpec struct {
	// concurrency is the number of clients, 1 to 1000. Default: 50.
	// +optional
	// +kubebuilder:default=50
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	Concurrency int32 `json:"concurrency,omitempty"`

	// duration of the test, between 1s and 1h. Default: 30s.
	// +optional
	// +kubebuilder:default="30s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="canary.loadTest.duration must be between 1s and 1h"
	Duration metav1.Duration `json:"duration,omitempty,omitzero"`

	// latencyP95 is the largest 95th percentile of latency. Default: 50ms.
	// +optional
	// +kubebuilder:default="50ms"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('1h')",message="canary.loadTest.latencyP95 must be above 0 and at most 1h"
	LatencyP95 metav1.Duration `json:"latencyP95,omitempty,omitzero"`
}

// BudgetPolicy says what happens when the estimate exceeds the budget.
//
// +kubebuilder:validation:Enum=Warn;Refuse
type BudgetPolicy string

// What happens when the estimate exceeds the budget.
const (
	// BudgetWarn says so in the condition WithinBudget.
	BudgetWarn BudgetPolicy = "Warn"
	// BudgetRefuse also holds the change before anything is created. A change that
	// costs no more than what there is is not held.
	BudgetRefuse BudgetPolicy = "Refuse"
)

// BudgetSpec is a limit on the estimated monthly cost.
type BudgetSpec struct {
	// monthlyUSD is the limit in US dollars a month.
	// +required
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	MonthlyUSD int32 `json:"monthlyUSD"`

	// whenExceeded is Warn or Refuse. Default: Warn.
	// +optional
	// +kubebuilder:default=Warn
	WhenExceeded BudgetPolicy `json:"whenExceeded,omitempty"`
}
