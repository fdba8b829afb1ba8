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

// manifest is a FlagCache as a person writes it.
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

// canaryQueries is a canary with queries of its own.
func canaryQueries(queries string) string {
	return "canary: {metrics: {type: Prometheus, prometheus: {address: 'http://prometheus.monitoring:9090', queries: " + queries + "}}}"
}

// goodQueries has one of each kind.
const goodQueries = `{
  errorRate.bad: {expression: "SUM(SEARCH('{Shop,revision} revision=\"$revision\"', 'Sum'))"}, errorRate.total: {metric: requests, dimensions: {revision: $revision}},
  latencyP95.bad: {metric: latency, statistic: "TC(0.1:)", dimensions: {revision: $revision}},
  latencyP95.total: {metric: latency, statistic: SampleCount, dimensions: {revision: $revision}}}`

func cloudWatchQueries(queries string) string {
	return "canary: {metrics: {type: CloudWatch, interval: 1m, cloudWatch: {region: eu-central-1, namespace: Shop, queries: " + queries + "}}}"
}

const someFlags = "flags: {configMap: {name: demo-flags}}\n"

var _ = Describe("The API server", func() {
	var s *stage
	BeforeEach(func(ctx context.Context) { s = newStage(ctx) })

	It("fills in every default of the smallest manifest", func(ctx context.Context) {
		Expect(k8s.Create(ctx, s.manifest("demo", someFlags))).To(Succeed())
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

	It("takes flags from PostgreSQL", func(ctx context.Context) {
		Expect(k8s.Create(ctx, s.manifest("demo", "flags: {type: Postgres, postgres: {secretRef: {name: flags-db, key: uri}}}"))).To(Succeed())
		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Spec.Flags.ConfigMap).To(BeNil())
	})

	It("takes a budget, and warns by default", func(ctx context.Context) {
		Expect(k8s.Create(ctx, s.manifest("demo", someFlags+"budget: {monthlyUSD: 50}"))).To(Succeed())
		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Spec.Budget.WhenExceeded).To(Equal(v1alpha1.BudgetWarn))
	})

	It("takes a canary's numbers from Prometheus", func(ctx context.Context) {
		spec := canaryQueries(`{errorRate.bad: 'a{c="500",r="$revision"}', errorRate.total: 'a{r="$revision"}'}`)
		Expect(k8s.Create(ctx, s.manifest("demo", someFlags+spec))).To(Succeed())
		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Spec.Canary.Metrics.Prometheus.Queries).To(HaveLen(2))
	})

	It("takes a canary's numbers from CloudWatch", func(ctx context.Context) {
		Expect(k8s.Create(ctx, s.manifest("demo", someFlags+cloudWatchQueries(goodQueries)))).To(Succeed())
		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Spec.Canary.Metrics.CloudWatch.Queries).To(HaveLen(4))
	})

	It("fills in the blocks of a canary that asks for them", func(ctx context.Context) {
		Expect(k8s.Create(ctx, s.manifest("demo", someFlags+"canary: {blocks: {}}"))).To(Succeed())
		blocks := get(ctx, s, &v1alpha1.FlagCache{}, "demo").Spec.Canary.Blocks
		Expect(blocks.Duration.Duration).To(Equal(time.Minute))
		Expect(blocks.Minimum).To(Equal(int32(5)))
	})

	DescribeTable("refuses with a sentence that says what to do",
		func(ctx context.Context, spec, sentence string) {
			err := k8s.Create(ctx, s.manifest("demo", spec), client.DryRunAll, client.FieldValidation("Strict"))
			Expect(err).To(MatchError(ContainSubstring(sentence)))
		},
		Entry("no flags", "cache: {type: InCluster}", "spec.flags: Required value"),
		Entry("no ConfigMap", "flags: {}", "flags.configMap.name is required"),
		Entry("an unknown field", someFlags+"cahce: {}", `unknown field "spec.cahce"`),
		Entry("two caches", someFlags+"cache: {type: External, inCluster: {}, external: {secretRef: {name: a}}}", "cache.inCluster is only allowed for cache.type InCluster"),
		Entry("a cache without its type", someFlags+"cache: {external: {secretRef: {name: a}}}", "set cache.type to External"),
		Entry("a type without its cache", someFlags+"cache: {type: External}", "cache.external.secretRef.name is required"),
		Entry("ElastiCache without its part", someFlags+"cache: {type: ElastiCache}", "cache.elastiCache is required for cache.type ElastiCache"),
		Entry("data tiering with an old engine", someFlags+`cache: {type: ElastiCache, elastiCache: {engine: Redis, engineVersion: "6.0", nodeType: cache.r6gd.xlarge}}`, "has data tiering, which requires engineVersion 6.2 or later"),
		Entry("two sources", "flags: {type: Postgres, configMap: {name: a}, postgres: {secretRef: {name: a, key: uri}}}", "flags.configMap is only allowed for flags.type ConfigMap"),
		Entry("a source without its type", "flags: {configMap: {name: a}, postgres: {secretRef: {name: a, key: uri}}}", "set flags.type to Postgres"),
		Entry("a type without its source", "flags: {type: Postgres}", "flags.postgres.secretRef is required"),
		Entry("a Secret without a key", "flags: {type: Postgres, postgres: {secretRef: {name: a}}}", "spec.flags.postgres.secretRef.key"),
		Entry("a canary without a duration", someFlags+"canary: {steps: [{weight: 5}]}", "spec.canary.steps[0].duration"),
		Entry("a weight over all traffic", someFlags+"canary: {steps: [{weight: 101, duration: 1m}]}", "spec.canary.steps[0].weight"),
		Entry("a share without a unit", someFlags+`canary: {thresholds: {errorRate: "0.001"}}`, "spec.canary.thresholds.errorRate"),
		Entry("a gateway without a route", someFlags+"canary: {traffic: {type: GatewayAPI}}", "canary.traffic.httpRouteRef is required for type GatewayAPI"),
		Entry("a route without its type", someFlags+"canary: {traffic: {httpRouteRef: {name: shop}}}", "canary.traffic.httpRouteRef is only allowed for type GatewayAPI"),
		Entry("CloudWatch without queries", someFlags+"canary: {metrics: {type: CloudWatch, interval: 1m}}", "canary.metrics.cloudWatch is required for type CloudWatch"),
		Entry("CloudWatch by the second", someFlags+strings.Replace(cloudWatchQueries(goodQueries), "1m", "10s", 1), "canary.metrics.interval must be at least 30s"),
		Entry("a region that is a host", someFlags+strings.Replace(cloudWatchQueries(goodQueries), "eu-central-1", "evil.example.com/", 1), "spec.canary.metrics.cloudWatch.region"),
		Entry("a metric without a namespace", someFlags+strings.Replace(cloudWatchQueries(goodQueries), "namespace: Shop,", "", 1), "canary.metrics.cloudWatch.namespace is required"),
		Entry("no query", someFlags+cloudWatchQueries("{}"), "spec.canary.metrics.cloudWatch.queries"),
		Entry("a CloudWatch query for no check", someFlags+cloudWatchQueries("{a.bad: {expression: $revision}, a.total: {expression: $revision}}"), "the keys of canary.metrics.cloudWatch.queries are"),
		Entry("half a check by CloudWatch", someFlags+cloudWatchQueries("{errorRate.bad: {expression: $revision}, latencyP95.bad: {expression: $revision}}"), "queries requires both CHECK.bad and CHECK.total"),
		Entry("a metric and an expression", someFlags+cloudWatchQueries("{errorRate.bad: {metric: m, expression: $revision}, errorRate.total: {expression: $revision}}"), "exactly one of metric and expression"),
		Entry("an expression with dimensions", someFlags+cloudWatchQueries("{errorRate.bad: {expression: $revision, dimensions: {a: b}}, errorRate.total: {expression: $revision}}"), "require a metric"),
		Entry("a CloudWatch query about everything", someFlags+cloudWatchQueries("{errorRate.bad: {metric: m}, errorRate.total: {metric: m, dimensions: {a: b}}}"), "must contain $revision, in its expression or in a dimension"),
		Entry("a statistic that counts nothing", someFlags+cloudWatchQueries("{errorRate.bad: {metric: m, statistic: p95, dimensions: {r: $revision}}, errorRate.total: {expression: $revision}}"), ".statistic"),
		Entry("blocks that are too short", someFlags+"canary: {blocks: {duration: 999ms}}", "canary.blocks.duration must be between 1s and 1h"),
		Entry("blocks shorter than a sample", someFlags+"canary: {blocks: {duration: 5s}}", "canary.blocks.duration must not be shorter than canary.metrics.interval"),
		Entry("no blocks at all", someFlags+"canary: {blocks: {minimum: 0}}", "spec.canary.blocks.minimum"),
		Entry("blocks that no step has time for", someFlags+"canary: {deadline: 10m, blocks: {duration: 1m, minimum: 11}}", "must fit into canary.deadline"),
		Entry("strict blocks", someFlags+"canary: {strict: true, blocks: {}}", "canary.strict and canary.blocks are mutually exclusive"),
		Entry("Prometheus without a server", someFlags+"canary: {metrics: {type: Prometheus}}", "canary.metrics.prometheus is required for type Prometheus"),
		Entry("a password in an address", someFlags+`canary: {metrics: {type: Prometheus, prometheus: {address: "http://a:b@c"}}}`, "spec.canary.metrics.prometheus.address"),
		Entry("a query for no check", someFlags+canaryQueries("{errors: 'a{b=\"$revision\"}'}"), "the keys of canary.metrics.prometheus.queries are"),
		Entry("half a check", someFlags+canaryQueries("{errorRate.bad: 'a{b=\"$revision\"}'}"), "requires both CHECK.bad and CHECK.total"),
		Entry("a query about everything", someFlags+canaryQueries("{errorRate.bad: a, errorRate.total: b}"), "must contain $revision"),
		Entry("a budget below nothing", someFlags+"budget: {monthlyUSD: -1}", "spec.budget.monthlyUSD"),
		Entry("a deletion policy without a cloud", someFlags+"deletionPolicy: Retain", "require cache.type ElastiCache"),
		Entry("replicas and autoscaling", someFlags+"service: {replicas: 2, autoscaling: {maxReplicas: 3}}", "are mutually exclusive"),
		Entry("an upside-down autoscaling", someFlags+"service: {autoscaling: {minReplicas: 4, maxReplicas: 3}}", "minReplicas must not be greater"),
		Entry("no replicas", someFlags+"service: {replicas: 0}", "should be greater than or equal to 1"),
		Entry("a duration without a unit", someFlags+`cache: {ttl: "300"}`, "spec.cache.ttl"),
		Entry("a duration in days", someFlags+`probe: {interval: 1d}`, "spec.probe.interval"),
		Entry("a duration that overflows", someFlags+`probe: {interval: 9999999999999h}`, "spec.probe.interval"),
		Entry("a TTL out of bounds", someFlags+`cache: {ttl: 1s}`, "cache.ttl must be between 10s and 24h"),
		Entry("a time-out over the interval", someFlags+"probe: {interval: 1s, timeout: 5s}", "probe.timeout must not be longer"),
		Entry("a label of Kubernetes", someFlags+"service: {podLabels: {app.kubernetes.io/name: x}}", "service.podLabels must not use"),
		Entry("an annotation that gives rights", someFlags+"service: {podAnnotations: {eks.amazonaws.com/role-arn: x}}", "service.podAnnotations must not use"),
		Entry("a variable of the operator", someFlags+"service: {env: [{name: REDIS_URL, value: x}]}", "must not contain variables that the operator sets"),
		Entry("a variable of the split", someFlags+"service: {env: [{name: SPLIT_FILE, value: x}]}", "must not contain variables that the operator sets"),
		Entry("an environment that is no name", someFlags+"environment: Über", "spec.environment"),
	)

	It("refuses to remove security groups, which ACK would leave in place", func(ctx context.Context) {
		in := func(part string) string { return someFlags + "cache: {type: ElastiCache, elastiCache: {" + part + "}}" }
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

	DescribeTable("refuses a name",
		func(ctx context.Context, name, sentence string) {
			err := k8s.Create(ctx, s.manifest(name, someFlags), client.DryRunAll)
			Expect(err).To(MatchError(ContainSubstring(sentence)))
		},
		Entry("whose children's names would be too long", strings.Repeat("a", 47), "at most 46 characters"),
		Entry("that no Service can have", "1demo", "must start with a lower-case letter"),
		Entry("with a dot", "demo.shop", "must start with a lower-case letter and contain only"),
	)
})
