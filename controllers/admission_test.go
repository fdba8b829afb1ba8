// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

func quantity(s string) resource.Quantity { return resource.MustParse(s) }

func requestFor(s *stage) ctrl.Request {
	return ctrl.Request{NamespacedName: types.NamespacedName{Namespace: s.namespace, Name: "demo"}}
}

// manifest returns a FlagCache as users write it.
func (s *stage) manifest(name, spec string) *unstructured.Unstructured {
	GinkgoHelper()
	fields := map[string]any{}
	Expect(yaml.Unmarshal([]byte(spec), &fields)).To(Succeed())
	text, err := json.Marshal(map[string]any{
		"apiVersion": "flagcache.dev/v1alpha1", "kind": "FlagCache",
		"metadata": map[string]any{"name": name, "namespace": s.namespace},
		"spec":     fields,
	})
	Expect(err).NotTo(HaveOccurred())
	o := &unstructured.Unstructured{}
	Expect(o.UnmarshalJSON(text)).To(Succeed())
	return o
}

// canaryQueries returns a canary with user-defined queries.
func canaryQueries(queries string) string {
	return "canary: {metrics: {type: Prometheus, prometheus: {address: 'http://prometheus.monitoring:9090', queries: " + queries + "}}}"
}

// validQueries has a query of each kind.
const validQueries = `{
  errorRate.bad: {expression: "SUM(SEARCH('{Shop,revision} revision=\"$revision\"', 'Sum'))"}, errorRate.total: {metric: requests, dimensions: {revision: $revision}},
  latencyP95.bad: {metric: latency, statistic: "TC(0.1:)", dimensions: {revision: $revision}},
  latencyP95.total: {metric: latency, statistic: SampleCount, dimensions: {revision: $revision}}}`

func cloudWatchQueries(queries string) string {
	return "canary: {metrics: {type: CloudWatch, interval: 1m, cloudWatch: {region: eu-central-1, namespace: Shop, queries: " + queries + "}}}"
}

const minimalSpec = "flags: {configMap: {name: demo-flags}}\n"

var _ = Describe("The API server", func() {
	var s *stage
	BeforeEach(func(ctx context.Context) { s = newStage(ctx) })

	It("sets the defaults of a minimal manifest", func(ctx context.Context) {
		Expect(k8s.Create(ctx, s.manifest("demo", minimalSpec))).To(Succeed())
		spec := get(ctx, s, &v1alpha1.FlagCache{}, "demo").Spec
		Expect(spec.Environment).To(Equal("default"))
		Expect(spec.Cache.Type).To(Equal(v1alpha1.CacheInCluster))
		Expect(spec.Cache.TTL.Duration.String()).To(Equal("5m0s"))
		Expect(spec.DeletionPolicy).To(Equal(v1alpha1.DeletionDelete))
		Expect(spec.Flags.ConfigMap.Key).To(Equal("flags.json"))
		Expect(spec.Service.Redis.PoolSize).To(Equal(int32(10)))
		Expect(spec.Service.Redis.DialTimeout.Duration.String()).To(Equal("2s"))
		Expect(spec.Probe.Interval.Duration.String()).To(Equal("10s"))
		Expect(spec.Probe.FailureThreshold).To(Equal(int32(3)))
	})

	It("accepts flags from PostgreSQL", func(ctx context.Context) {
		Expect(k8s.Create(ctx, s.manifest("demo", "flags: {type: Postgres, postgres: {secretRef: {name: flags-db, key: uri}}}"))).To(Succeed())
		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Spec.Flags.ConfigMap).To(BeNil())
	})

	It("accepts a budget, which warns by default", func(ctx context.Context) {
		Expect(k8s.Create(ctx, s.manifest("demo", minimalSpec+"budget: {monthlyUSD: 50}"))).To(Succeed())
		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Spec.Budget.WhenExceeded).To(Equal(v1alpha1.BudgetWarn))
	})

	It("accepts Prometheus queries for a canary", func(ctx context.Context) {
		spec := canaryQueries(`{errorRate.bad: 'a{c="500",r="$revision"}', errorRate.total: 'a{r="$revision"}'}`)
		Expect(k8s.Create(ctx, s.manifest("demo", minimalSpec+spec))).To(Succeed())
		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Spec.Canary.Metrics.Prometheus.Queries).To(HaveLen(2))
	})

	It("accepts CloudWatch queries for a canary", func(ctx context.Context) {
		Expect(k8s.Create(ctx, s.manifest("demo", minimalSpec+cloudWatchQueries(validQueries)))).To(Succeed())
		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Spec.Canary.Metrics.CloudWatch.Queries).To(HaveLen(4))
	})

	It("sets the defaults of the blocks of a canary", func(ctx context.Context) {
		Expect(k8s.Create(ctx, s.manifest("demo", minimalSpec+"canary: {blocks: {}}"))).To(Succeed())
		blocks := get(ctx, s, &v1alpha1.FlagCache{}, "demo").Spec.Canary.Blocks
		Expect(blocks.Duration.Duration).To(Equal(time.Minute))
		Expect(blocks.Minimum).To(Equal(int32(5)))
	})

	DescribeTable("rejects with a message that names the field or the fix",
		func(ctx context.Context, spec, message string) {
			err := k8s.Create(ctx, s.manifest("demo", spec), client.DryRunAll, client.FieldValidation("Strict"))
			Expect(err).To(MatchError(ContainSubstring(message)))
		},
		Entry("no flags", "cache: {type: InCluster}", "spec.flags: Required value"),
		Entry("no ConfigMap", "flags: {}", "flags.configMap.name is required"),
		Entry("an unknown field", minimalSpec+"cahce: {}", `unknown field "spec.cahce"`),
		Entry("a long key of a label", minimalSpec+"service: {podLabels: {"+strings.Repeat("x", 318)+": a}}", "the keys of service.podLabels must have at most 317 characters"),
		Entry("a long key of a selector", minimalSpec+"service: {topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {"+strings.Repeat("x", 318)+": a}}}]}", "keys must have at most 317 characters"),
		Entry("a long text of a toleration", minimalSpec+"service: {tolerations: [{key: "+strings.Repeat("x", 318)+"}]}", "spec.service.tolerations[0].key: Too long"),
		Entry("two caches", minimalSpec+"cache: {type: External, inCluster: {}, external: {secretRef: {name: a}}}", "cache.inCluster is only allowed for cache.type InCluster"),
		Entry("a cache without its type", minimalSpec+"cache: {external: {secretRef: {name: a}}}", "set cache.type to External"),
		Entry("a cache type without its settings", minimalSpec+"cache: {type: External}", "cache.external.secretRef.name is required"),
		Entry("ElastiCache without its settings", minimalSpec+"cache: {type: ElastiCache}", "cache.elastiCache is required for cache.type ElastiCache"),
		Entry("data tiering with an old engine", minimalSpec+`cache: {type: ElastiCache, elastiCache: {engine: Redis, engineVersion: "6.0", nodeType: cache.r6gd.xlarge}}`, "has data tiering, which requires engineVersion 6.2 or later"),
		Entry("two flag sources", "flags: {type: Postgres, configMap: {name: a}, postgres: {secretRef: {name: a, key: uri}}}", "flags.configMap is only allowed for flags.type ConfigMap"),
		Entry("a flag source without its type", "flags: {configMap: {name: a}, postgres: {secretRef: {name: a, key: uri}}}", "set flags.type to Postgres"),
		Entry("a flag source type without its settings", "flags: {type: Postgres}", "flags.postgres.secretRef is required"),
		Entry("a Secret without a key", "flags: {type: Postgres, postgres: {secretRef: {name: a}}}", "spec.flags.postgres.secretRef.key"),
		Entry("a canary without a duration", minimalSpec+"canary: {steps: [{weight: 5}]}", "spec.canary.steps[0].duration"),
		Entry("a weight above 100", minimalSpec+"canary: {steps: [{weight: 101, duration: 1m}]}", "spec.canary.steps[0].weight"),
		Entry("a percentage without a unit", minimalSpec+`canary: {thresholds: {errorRate: "0.001"}}`, "spec.canary.thresholds.errorRate"),
		Entry("a percentage above 100", minimalSpec+`canary: {thresholds: {cacheHitRate: "100.1%"}}`, "spec.canary.thresholds.cacheHitRate"),
		Entry("a confidence that never rolls back", minimalSpec+`canary: {confidence: "100%"}`, "canary.confidence must be between 50% and 99.99%"),
		Entry("a confidence below one half", minimalSpec+`canary: {confidence: "49.9%"}`, "canary.confidence must be between 50% and 99.99%"),
		Entry("a gateway without a route", minimalSpec+"canary: {traffic: {type: GatewayAPI}}", "canary.traffic.httpRouteRef is required for type GatewayAPI"),
		Entry("a route without its type", minimalSpec+"canary: {traffic: {httpRouteRef: {name: shop}}}", "canary.traffic.httpRouteRef is only allowed for type GatewayAPI"),
		Entry("CloudWatch without queries", minimalSpec+"canary: {metrics: {type: CloudWatch, interval: 1m}}", "canary.metrics.cloudWatch is required for type CloudWatch"),
		Entry("CloudWatch with a short interval", minimalSpec+strings.Replace(cloudWatchQueries(validQueries), "1m", "10s", 1), "canary.metrics.interval must be at least 30s"),
		Entry("an invalid region", minimalSpec+strings.Replace(cloudWatchQueries(validQueries), "eu-central-1", "evil.example.com/", 1), "spec.canary.metrics.cloudWatch.region"),
		Entry("a metric without a namespace", minimalSpec+strings.Replace(cloudWatchQueries(validQueries), "namespace: Shop,", "", 1), "canary.metrics.cloudWatch.namespace is required"),
		Entry("no CloudWatch queries", minimalSpec+cloudWatchQueries("{}"), "spec.canary.metrics.cloudWatch.queries"),
		Entry("a CloudWatch query for an unknown check", minimalSpec+cloudWatchQueries("{a.bad: {expression: $revision}, a.total: {expression: $revision}}"), "the keys of canary.metrics.cloudWatch.queries are"),
		Entry("CloudWatch queries with bad events only", minimalSpec+cloudWatchQueries("{errorRate.bad: {expression: $revision}, latencyP95.bad: {expression: $revision}}"), "queries requires both CHECK.bad and CHECK.total"),
		Entry("a metric and an expression", minimalSpec+cloudWatchQueries("{errorRate.bad: {metric: m, expression: $revision}, errorRate.total: {expression: $revision}}"), "exactly one of metric and expression"),
		Entry("an expression with dimensions", minimalSpec+cloudWatchQueries("{errorRate.bad: {expression: $revision, dimensions: {a: b}}, errorRate.total: {expression: $revision}}"), "require a metric"),
		Entry("a CloudWatch query without $revision", minimalSpec+cloudWatchQueries("{errorRate.bad: {metric: m}, errorRate.total: {metric: m, dimensions: {a: b}}}"), "must contain $revision, in its expression or in a dimension"),
		Entry("a statistic that is no count", minimalSpec+cloudWatchQueries("{errorRate.bad: {metric: m, statistic: p95, dimensions: {r: $revision}}, errorRate.total: {expression: $revision}}"), ".statistic"),
		Entry("blocks that are too short", minimalSpec+"canary: {blocks: {duration: 999ms}}", "canary.blocks.duration must be between 1s and 1h"),
		Entry("blocks shorter than a sample", minimalSpec+"canary: {blocks: {duration: 5s}}", "canary.blocks.duration must not be shorter than canary.metrics.interval"),
		Entry("a minimum of no blocks", minimalSpec+"canary: {blocks: {minimum: 0}}", "spec.canary.blocks.minimum"),
		Entry("blocks that exceed the deadline", minimalSpec+"canary: {deadline: 10m, blocks: {duration: 1m, minimum: 11}}", "must fit into canary.deadline"),
		Entry("strict blocks", minimalSpec+"canary: {strict: true, blocks: {}}", "canary.strict and canary.blocks are mutually exclusive"),
		Entry("Prometheus without a server", minimalSpec+"canary: {metrics: {type: Prometheus}}", "canary.metrics.prometheus is required for type Prometheus"),
		Entry("a password in an address", minimalSpec+`canary: {metrics: {type: Prometheus, prometheus: {address: "http://a:b@c"}}}`, "spec.canary.metrics.prometheus.address"),
		Entry("a Prometheus query for an unknown check", minimalSpec+canaryQueries("{errors: 'a{b=\"$revision\"}'}"), "the keys of canary.metrics.prometheus.queries are"),
		Entry("Prometheus queries with bad events only", minimalSpec+canaryQueries("{errorRate.bad: 'a{b=\"$revision\"}'}"), "requires both CHECK.bad and CHECK.total"),
		Entry("a Prometheus query without $revision", minimalSpec+canaryQueries("{errorRate.bad: a, errorRate.total: b}"), "must contain $revision"),
		Entry("a negative budget", minimalSpec+"budget: {monthlyUSD: -1}", "spec.budget.monthlyUSD"),
		Entry("a deletion policy without ElastiCache", minimalSpec+"deletionPolicy: Retain", "require cache.type ElastiCache"),
		Entry("replicas and autoscaling", minimalSpec+"service: {replicas: 2, autoscaling: {maxReplicas: 3}}", "are mutually exclusive"),
		Entry("autoscaling with minReplicas above maxReplicas", minimalSpec+"service: {autoscaling: {minReplicas: 4, maxReplicas: 3}}", "minReplicas must not be greater"),
		Entry("no replicas", minimalSpec+"service: {replicas: 0}", "should be greater than or equal to 1"),
		Entry("a duration without a unit", minimalSpec+`cache: {ttl: "300"}`, "spec.cache.ttl"),
		Entry("a duration in days", minimalSpec+`probe: {interval: 1d}`, "spec.probe.interval"),
		Entry("a duration that overflows", minimalSpec+`probe: {interval: 9999999999999h}`, "spec.probe.interval"),
		Entry("a TTL out of bounds", minimalSpec+`cache: {ttl: 1s}`, "cache.ttl must be between 10s and 24h"),
		Entry("a timeout above the interval", minimalSpec+"probe: {interval: 1s, timeout: 5s}", "probe.timeout must not be longer"),
		Entry("a long key of an annotation", minimalSpec+"service: {podAnnotations: {"+strings.Repeat("a", 318)+": x}}", "keys of service.podAnnotations must have at most 317 characters"),
		Entry("a reserved environment variable", minimalSpec+"service: {env: [{name: REDIS_URL, value: x}]}", "must not contain variables that the operator sets"),
		Entry("a reserved environment variable of the split", minimalSpec+"service: {env: [{name: SPLIT_FILE, value: x}]}", "must not contain variables that the operator sets"),
		Entry("an invalid environment name", minimalSpec+"environment: Über", "spec.environment"),
	)

	It("rejects the removal of security groups, which ACK would not remove", func(ctx context.Context) {
		in := func(part string) string {
			return minimalSpec + "cache: {type: ElastiCache, elastiCache: {" + part + "}}"
		}
		Expect(k8s.Create(ctx, s.manifest("demo", in("securityGroupIDs: [sg-1]")))).To(Succeed())
		update := func(part string) error {
			o := s.manifest("demo", in(part))
			o.SetResourceVersion(get(ctx, s, &v1alpha1.FlagCache{}, "demo").ResourceVersion)
			return k8s.Update(ctx, o)
		}
		Expect(update("")).To(MatchError(ContainSubstring("elastiCache.securityGroupIDs cannot be removed")))
		Expect(update("securityGroupIDs: [sg-2]")).To(Succeed())
		Expect(update("vpcID: vpc-1, clientSecurityGroupIDs: [sg-2]")).To(Succeed())
	})

	DescribeTable("rejects a name",
		func(ctx context.Context, name, message string) {
			err := k8s.Create(ctx, s.manifest(name, minimalSpec), client.DryRunAll)
			Expect(err).To(MatchError(ContainSubstring(message)))
		},
		Entry("that is too long for the names of children", strings.Repeat("a", 47), "at most 46 characters"),
		Entry("that is invalid for a Service", "1demo", "must start with a lower-case letter"),
		Entry("that contains a dot", "demo.shop", "must start with a lower-case letter and contain only"),
	)
})
