// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// CanarySpec configures how a change is rolled out to a share of the traffic,
// evaluated, and promoted or rolled back.
//
// +kubebuilder:validation:XValidation:rule="!has(self.blocks) || !has(self.strict) || !self.strict",message="canary.strict and canary.blocks are mutually exclusive: a few dozen blocks are never enough for the whole interval to be within a limit"
// +kubebuilder:validation:XValidation:rule="!has(self.blocks) || !has(self.metrics) || duration(self.blocks.duration) >= duration(self.metrics.interval)",message="canary.blocks.duration must not be shorter than canary.metrics.interval: a block consists of whole samples"
// +kubebuilder:validation:XValidation:rule="!has(self.blocks) || !has(self.deadline) || duration(self.blocks.duration).getSeconds() * self.blocks.minimum <= duration(self.deadline).getSeconds()",message="canary.blocks.minimum blocks of canary.blocks.duration must fit into canary.deadline"
type CanarySpec struct {
	// steps are run in order; after the last one the candidate is promoted to all
	// traffic. An empty list disables the canary: a change is then promoted as soon
	// as its pods are ready. A change back to one of the last three revisions that were
	// promoted, and not by hand, needs no canary for 72 hours after the revision stopped
	// being the stable one. Default: 5% for one hour.
	// +optional
	// +listType=atomic
	// +kubebuilder:default={{weight: 5, duration: "1h"}}
	// +kubebuilder:validation:MaxItems=20
	Steps []CanaryStep `json:"steps"`

	// traffic configures how the candidate gets its share. Default: Split.
	// +optional
	// +kubebuilder:default={type: Split}
	Traffic TrafficSpec `json:"traffic,omitempty,omitzero"`

	// metrics is the source of the counters that the candidate is evaluated by.
	// Default: Pods.
	// +optional
	// +kubebuilder:default={type: Pods}
	Metrics MetricsSpec `json:"metrics,omitempty,omitzero"`

	// thresholds are the limits that the candidate must stay within.
	// +optional
	// +kubebuilder:default={}
	Thresholds ThresholdsSpec `json:"thresholds,omitempty,omitzero"`

	// confidence is one minus the probability of rolling back a healthy release,
	// over the whole canary and all checks, between 50% and 99.99%. A change applies
	// to the next canary. Default: "99%".
	// +optional
	// +kubebuilder:default="99%"
	// +kubebuilder:validation:XValidation:rule="double(self.replace('%', '')) >= 50.0 && double(self.replace('%', '')) <= 99.99",message="canary.confidence must be between 50% and 99.99%: with 100% no release would ever be rolled back"
	Confidence Percentage `json:"confidence,omitempty"`

	// strict requires the whole confidence interval, rather than the observed
	// proportion, to be within each limit before a step passes. Mutually exclusive
	// with blocks. Default: false.
	// +optional
	Strict bool `json:"strict,omitempty"`

	// minimumRequests is the number of requests of the candidate that a step must have
	// observed before it can pass; with 0 it is one. Default: 1000.
	// +optional
	// +kubebuilder:default=1000
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000000
	MinimumRequests int64 `json:"minimumRequests"`

	// blocks makes each check evaluate blocks of time rather than single events, for
	// failures that occur in bursts. Default: none, each event counts individually.
	// +optional
	Blocks *BlocksSpec `json:"blocks,omitempty"`

	// deadline is the time in a step after which onInconclusive applies, but not before
	// the duration of the step. Time during which the canary is held or paused, or
	// the operator is down, does not count. Between 1m and 720h. Default: 6h.
	// +optional
	// +kubebuilder:default="6h"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1m') && duration(self) <= duration('720h')",message="canary.deadline must be between 1m and 720h"
	Deadline metav1.Duration `json:"deadline,omitempty,omitzero"`

	// onInconclusive is what happens when a step reaches its deadline without enough
	// evidence: Pause, Promote or Rollback. Default: Pause.
	// +optional
	// +kubebuilder:default=Pause
	OnInconclusive InconclusivePolicy `json:"onInconclusive,omitempty"`

	// loadTest is run against the candidate before it gets any user traffic.
	// Default: none.
	// +optional
	LoadTest *LoadTestSpec `json:"loadTest,omitempty"`

	// scaleDownDelay is how long the previous revision keeps running after a
	// promotion, so that reverting to it only shifts traffic, unless it needs a
	// canary; at most 24h. Default: 10m.
	// +optional
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('24h')",message="canary.scaleDownDelay must be at most 24h"
	ScaleDownDelay metav1.Duration `json:"scaleDownDelay"`
}

// GetSteps returns the steps, or nil if c is nil.
func (c *CanarySpec) GetSteps() []CanaryStep {
	if c == nil {
		return nil
	}
	return c.Steps
}

// BlocksSpec groups the events of a canary into blocks of time. Each block is one
// observation, the proportion of its events that were bad, so that a burst of
// failures counts once and not hundreds of times. The mean of the proportions must
// be within the limit; events within a block may depend on each other. Rolling back
// a bad release takes several blocks.
type BlocksSpec struct {
	// duration of a block, counting only the time between samples with evidence;
	// between 1s and 1h. Choose it much longer than the bursts, and long enough for
	// many requests: with a limit of 0.1%, a single block in which every request
	// fails is a breach, however few requests it has. Default: 1m.
	// +optional
	// +kubebuilder:default="1m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('1h')",message="canary.blocks.duration must be between 1s and 1h"
	Duration metav1.Duration `json:"duration,omitempty,omitzero"`

	// minimum is the number of complete blocks that a step must have before it can
	// pass, in addition to minimumRequests; 1 to 1000. Default: 5.
	// +optional
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	Minimum int32 `json:"minimum,omitempty"`
}

// Percentage is a percentage from 0% to 100% with up to four decimals, for example "0.1%".
//
// +kubebuilder:validation:MaxLength=10
// +kubebuilder:validation:Pattern=`^(100(\.0{1,4})?|[0-9]{1,2}(\.[0-9]{1,4})?)%$`
type Percentage string

// CanaryStep is a share of the traffic for a minimum duration.
type CanaryStep struct {
	// weight is the candidate's share of the traffic in percent, 1 to 100.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`

	// duration is the minimum duration of the step, between 1s and 720h.
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('720h')",message="canary.steps[].duration must be between 1s and 720h"
	Duration metav1.Duration `json:"duration"`
}

// TrafficType is the mechanism that shares traffic with the candidate.
//
// +kubebuilder:validation:Enum=Split;GatewayAPI;Replicas
type TrafficType string

// Traffic types.
const (
	// TrafficSplit makes each stable pod forward the share to the candidate, and
	// answer a request itself if the candidate fails.
	TrafficSplit TrafficType = "Split"
	// TrafficGatewayAPI sets weights on an HTTPRoute.
	TrafficGatewayAPI TrafficType = "GatewayAPI"
	// TrafficReplicas approximates the share by the ratio of pods behind one Service.
	TrafficReplicas TrafficType = "Replicas"
)

// TrafficSpec configures how the candidate gets its share of the traffic.
//
// +kubebuilder:validation:XValidation:rule="self.type != 'GatewayAPI' || has(self.httpRouteRef)",message="canary.traffic.httpRouteRef is required for type GatewayAPI: name the HTTPRoute that routes client requests to the FlagCache's Service"
// +kubebuilder:validation:XValidation:rule="self.type == 'GatewayAPI' || !has(self.httpRouteRef)",message="canary.traffic.httpRouteRef is only allowed for type GatewayAPI"
type TrafficSpec struct {
	// type is Split, GatewayAPI or Replicas. Default: Split.
	// +optional
	// +kubebuilder:default=Split
	Type TrafficType `json:"type,omitempty"`

	// httpRouteRef references the HTTPRoute for type GatewayAPI, in the namespace of
	// the FlagCache. In each of its rules whose only backend is the Service of the
	// FlagCache, the candidate is added as a weighted backend for the duration of the
	// canary.
	// +optional
	HTTPRouteRef *LocalReference `json:"httpRouteRef,omitempty"`
}

// MetricsType is the source of the counters that a canary is evaluated by.
//
// +kubebuilder:validation:Enum=Pods;Prometheus;CloudWatch
type MetricsType string

// Metrics types.
const (
	MetricsPods       MetricsType = "Pods"
	MetricsPrometheus MetricsType = "Prometheus"
	MetricsCloudWatch MetricsType = "CloudWatch"
)

// MetricsSpec configures the source of the counters that a canary is evaluated by.
//
// +kubebuilder:validation:XValidation:rule="(self.type == 'Prometheus') == has(self.prometheus)",message="canary.metrics.prometheus is required for type Prometheus and not allowed otherwise"
// +kubebuilder:validation:XValidation:rule="(self.type == 'CloudWatch') == has(self.cloudWatch)",message="canary.metrics.cloudWatch is required for type CloudWatch and not allowed otherwise"
// +kubebuilder:validation:XValidation:rule="self.type != 'CloudWatch' || (has(self.interval) && duration(self.interval) >= duration('30s'))",message="canary.metrics.interval must be at least 30s for type CloudWatch, which has a resolution of one minute"
type MetricsSpec struct {
	// type is Pods, Prometheus or CloudWatch. Default: Pods.
	// +optional
	// +kubebuilder:default=Pods
	Type MetricsType `json:"type,omitempty"`

	// interval between two samples, between 1s and 5m, and at least 30s for type
	// CloudWatch. Default: 10s.
	// +optional
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('5m')",message="canary.metrics.interval must be between 1s and 5m"
	Interval metav1.Duration `json:"interval,omitempty,omitzero"`

	// prometheus configures type Prometheus.
	// +optional
	Prometheus *PrometheusSpec `json:"prometheus,omitempty"`

	// cloudWatch configures type CloudWatch.
	// +optional
	CloudWatch *CloudWatchSpec `json:"cloudWatch,omitempty"`
}

// PrometheusSpec is a Prometheus server and the queries to run on it.
type PrometheusSpec struct {
	// address is the URL of the server, for example http://prometheus.monitoring:9090,
	// without user, query and fragment. Loopback and link-local addresses are not
	// allowed.
	// +required
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:Pattern=`^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$`
	Address string `json:"address"`

	// queries are PromQL queries for images with metrics other than those of the flag
	// service. The keys are CHECK.bad and CHECK.total, both or neither, where CHECK is
	// errorRate, latencyP95, latencyP99, cacheHitRate or missLatencyP95. Each query
	// must return an instant vector of raw counters, without rate() or a sum over
	// pods; series of the two are matched by their labels. $revision is replaced by
	// the candidate and by the stable revision in turn, $namespace and $name by those
	// of the FlagCache. At least one selector of each must have a label matcher with
	// $revision. Only series with the label namespace of the FlagCache's namespace are
	// selected. Default: the metrics of the flag service.
	// +optional
	// +kubebuilder:validation:MaxProperties=10
	// +kubebuilder:validation:XValidation:rule="self.all(k, k in ['errorRate.bad', 'errorRate.total', 'latencyP95.bad', 'latencyP95.total', 'latencyP99.bad', 'latencyP99.total', 'cacheHitRate.bad', 'cacheHitRate.total', 'missLatencyP95.bad', 'missLatencyP95.total'])",message="the keys of canary.metrics.prometheus.queries are CHECK.bad and CHECK.total, where CHECK is errorRate, latencyP95, latencyP99, cacheHitRate or missLatencyP95"
	// +kubebuilder:validation:XValidation:rule="['errorRate', 'latencyP95', 'latencyP99', 'cacheHitRate', 'missLatencyP95'].all(c, ((c + '.bad') in self) == ((c + '.total') in self))",message="canary.metrics.prometheus.queries requires both CHECK.bad and CHECK.total for each check"
	// +kubebuilder:validation:XValidation:rule="self.all(k, self[k].contains('$revision'))",message="each query in canary.metrics.prometheus.queries must contain $revision, so that it selects a single revision"
	Queries map[string]Query `json:"queries,omitempty"`
}

// Query is a PromQL expression.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=4096
type Query string

// CloudWatchSpec is a set of Amazon CloudWatch queries. The operator runs them with
// its own AWS credentials, from the default chain of the AWS SDK, and needs the
// permission cloudwatch:GetMetricData.
//
// +kubebuilder:validation:XValidation:rule="has(self.namespace) || self.queries.all(k, !has(self.queries[k].metric))",message="canary.metrics.cloudWatch.namespace is required by queries with a metric"
type CloudWatchSpec struct {
	// region of the metrics, for example eu-central-1. Default: the default region of
	// the AWS SDK in the operator's pod.
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

	// queries return the number of events per minute. The keys are CHECK.bad and
	// CHECK.total, both or neither, where CHECK is errorRate, latencyP95, latencyP99,
	// cacheHitRate or missLatencyP95. $revision is replaced by the candidate and by the
	// stable revision in turn, $namespace and $name by those of the FlagCache. A check
	// without queries is counted as for type Pods.
	// +required
	// +kubebuilder:validation:MinProperties=2
	// +kubebuilder:validation:MaxProperties=10
	// +kubebuilder:validation:XValidation:rule="self.all(k, k in ['errorRate.bad', 'errorRate.total', 'latencyP95.bad', 'latencyP95.total', 'latencyP99.bad', 'latencyP99.total', 'cacheHitRate.bad', 'cacheHitRate.total', 'missLatencyP95.bad', 'missLatencyP95.total'])",message="the keys of canary.metrics.cloudWatch.queries are CHECK.bad and CHECK.total, where CHECK is errorRate, latencyP95, latencyP99, cacheHitRate or missLatencyP95"
	// +kubebuilder:validation:XValidation:rule="['errorRate', 'latencyP95', 'latencyP99', 'cacheHitRate', 'missLatencyP95'].all(c, ((c + '.bad') in self) == ((c + '.total') in self))",message="canary.metrics.cloudWatch.queries requires both CHECK.bad and CHECK.total for each check"
	Queries map[string]CloudWatchQuery `json:"queries,omitempty"`
}

// CloudWatchQuery is either a metric or a metric math expression.
//
// +kubebuilder:validation:XValidation:rule="has(self.metric) != has(self.expression)",message="a query in canary.metrics.cloudWatch.queries must have exactly one of metric and expression"
// +kubebuilder:validation:XValidation:rule="has(self.metric) || !(has(self.dimensions) || has(self.statistic))",message="dimensions and statistic in canary.metrics.cloudWatch.queries require a metric"
// +kubebuilder:validation:XValidation:rule="has(self.expression) ? self.expression.contains('$revision') : has(self.dimensions) && self.dimensions.exists(d, self.dimensions[d].contains('$revision'))",message="each query in canary.metrics.cloudWatch.queries must contain $revision, in its expression or in a dimension, so that it selects a single revision"
type CloudWatchQuery struct {
	// metric is the name of a metric.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Metric string `json:"metric,omitempty"`

	// dimensions of the metric: all those that it was published with.
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=30
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 255)",message="the keys of dimensions in canary.metrics.cloudWatch.queries must have at most 255 characters"
	Dimensions map[string]DimensionValue `json:"dimensions,omitempty"`

	// statistic that counts events: Sum for metrics whose values are counts. For
	// metrics with one value per event, SampleCount, or TC(FROM:TO) for the values in a
	// range, either end of which may be omitted. Default: Sum.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:Pattern=`^(Sum|SampleCount|TC\([0-9.]*:[0-9.]*\))$`
	Statistic string `json:"statistic,omitempty"`

	// expression is a metric math expression that returns one time series, such as
	// SUM(SEARCH(...)). Metrics Insights queries (SELECT) are not supported.
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

// ThresholdsSpec are the limits that a candidate must stay within.
type ThresholdsSpec struct {
	// errorRate is the maximum proportion of failed requests. Default: "0.1%".
	// +optional
	// +kubebuilder:default="0.1%"
	ErrorRate Percentage `json:"errorRate,omitempty"`

	// cacheHitRate is the minimum proportion of Redis lookups that hit. Default: "80%".
	// +optional
	// +kubebuilder:default="80%"
	CacheHitRate Percentage `json:"cacheHitRate,omitempty"`

	// latencyP95 is the maximum 95th percentile of request latency. The metrics of the
	// flag service cannot show one above 1s, so that no step would pass; own queries
	// do not use it. Default: 100ms.
	// +optional
	// +kubebuilder:default="100ms"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('1h')",message="canary.thresholds.latencyP95 must be above 0 and at most 1h"
	LatencyP95 metav1.Duration `json:"latencyP95,omitempty,omitzero"`

	// latencyP99 is the maximum 99th percentile of request latency, as latencyP95.
	// Default: 300ms.
	// +optional
	// +kubebuilder:default="300ms"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('1h')",message="canary.thresholds.latencyP99 must be above 0 and at most 1h"
	LatencyP99 metav1.Duration `json:"latencyP99,omitempty,omitzero"`

	// missLatencyP95 is the maximum 95th percentile of the time to fill the cache after
	// a miss. Default: 300ms.
	// +optional
	// +kubebuilder:default="300ms"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('1h')",message="canary.thresholds.missLatencyP95 must be above 0 and at most 1h"
	MissLatencyP95 metav1.Duration `json:"missLatencyP95,omitempty,omitzero"`
}

// InconclusivePolicy is what happens to a step without enough evidence.
//
// +kubebuilder:validation:Enum=Pause;Promote;Rollback
type InconclusivePolicy string

// Inconclusive policies.
const (
	InconclusivePause    InconclusivePolicy = "Pause"
	InconclusivePromote  InconclusivePolicy = "Promote"
	InconclusiveRollback InconclusivePolicy = "Rollback"
)

// LoadTestSpec is a load test of the candidate before it gets any user traffic.
type LoadTestSpec struct {
	// concurrency is the number of concurrent clients, 1 to 1000. Default: 50.
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

	// latencyP95 is the maximum 95th percentile of request latency. Default: 50ms.
	// +optional
	// +kubebuilder:default="50ms"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^([0-9]+(ms|s|m|h))+$`
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s') && duration(self) <= duration('1h')",message="canary.loadTest.latencyP95 must be above 0 and at most 1h"
	LatencyP95 metav1.Duration `json:"latencyP95,omitempty,omitzero"`
}

// BudgetPolicy is what happens when the estimate exceeds the budget.
//
// +kubebuilder:validation:Enum=Warn;Refuse
type BudgetPolicy string

// Budget policies.
const (
	// BudgetWarn reports it in the condition WithinBudget.
	BudgetWarn BudgetPolicy = "Warn"
	// BudgetRefuse also holds the change before anything is created. A change that
	// does not raise the cost is never held.
	BudgetRefuse BudgetPolicy = "Refuse"
)

// BudgetSpec is a limit on the estimated monthly cost.
type BudgetSpec struct {
	// monthlyUSD is the limit in US dollars per month.
	// +required
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	MonthlyUSD int32 `json:"monthlyUSD"`

	// whenExceeded is Warn or Refuse. Default: Warn.
	// +optional
	// +kubebuilder:default=Warn
	WhenExceeded BudgetPolicy `json:"whenExceeded,omitempty"`
}
