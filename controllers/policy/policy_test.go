// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// head begins every policy.
const head = "apiVersion: policy.flagcache.dev/v1alpha1\nkind: Policy\n"

func aFlagCache(change func(*v1alpha1.FlagCacheSpec)) *v1alpha1.FlagCache {
	fc := &v1alpha1.FlagCache{ObjectMeta: metav1.ObjectMeta{Namespace: "team-shop", Name: "flags"}}
	change(&fc.Spec)
	return fc
}

// TestKeysOfPods goes through keys; controllers/plan has a list of dangerous ones.
func TestKeysOfPods(t *testing.T) {
	open := parsed(t, head+"pods: {labelPrefixes: [sidecar.istio.io/, flagcache.dev/, f], annotationPrefixes: [prometheus.io/scrape]}")
	tests := []struct {
		key                string
		policy             *Policy
		label, annotations string
	}{
		{"team", Default(), "", ""},
		{"acme.io/team", Default(), `key "acme.io/team" is not permitted; permitted: keys without a domain`, `key "acme.io/team" is not permitted; permitted: keys without a domain`},
		{
			"sidecar.istio.io/inject", open, "",
			`key "sidecar.istio.io/inject" is not permitted; permitted: keys without a domain, prometheus.io/scrape`,
		},
		{
			"prometheus.io/scrape", open,
			`key "prometheus.io/scrape" is not permitted; permitted: keys without a domain, sidecar.istio.io/, flagcache.dev/, f`, "",
		},
		{"flagcache.dev/revision", open, `key "flagcache.dev/revision" is the operator's own`, `key "flagcache.dev/revision" is the operator's own`},
	}
	for _, test := range tests {
		fc := aFlagCache(func(s *v1alpha1.FlagCacheSpec) {
			s.Service.PodLabels = map[string]v1alpha1.LabelValue{test.key: "x"}
			s.Service.PodAnnotations = map[string]v1alpha1.AnnotationValue{test.key: "x"}
		})
		var want []Violation
		for field, problem := range map[string]string{"service.podLabels": test.label, "service.podAnnotations": test.annotations} {
			if problem != "" {
				want = append(want, Violation{field, problem})
			}
		}
		slices.SortFunc(want, func(a, b Violation) int { return -strings.Compare(a.Field, b.Field) })
		if diff := cmp.Diff(want, test.policy.Check(fc, "")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.key, diff)
		}
	}
}

// TestWithoutAFile goes through what whoever may create pods can have anyway, and what
// belongs to others.
func TestWithoutAFile(t *testing.T) {
	fc := aFlagCache(func(s *v1alpha1.FlagCacheSpec) {
		s.Service.Image, s.Service.ServiceAccountName = "docker.io/any/image:1", "any"
		s.Service.ImagePullSecrets = []v1alpha1.LocalReference{{Name: "any"}}
		s.Cache.InCluster = &v1alpha1.InClusterSpec{Image: "redis:7"}
		s.Canary = &v1alpha1.CanarySpec{Metrics: v1alpha1.MetricsSpec{Prometheus: &v1alpha1.PrometheusSpec{Address: "http://own.monitoring:9090/"}}}
	})
	if found := Default().Check(fc, "http://own.monitoring:9090"); len(found) > 0 {
		t.Errorf("refused %+v", found)
	}
	fc = aFlagCache(func(s *v1alpha1.FlagCacheSpec) {
		s.Cache = v1alpha1.CacheSpec{Type: v1alpha1.CacheElastiCache, ElastiCache: &v1alpha1.ElastiCacheSpec{}}
		s.Canary = &v1alpha1.CanarySpec{Metrics: v1alpha1.MetricsSpec{
			Prometheus: &v1alpha1.PrometheusSpec{Address: "http://any:9090", Queries: map[string]v1alpha1.Query{"errorRate.bad": "x"}},
			CloudWatch: &v1alpha1.CloudWatchSpec{},
		}}
	})
	want := []Violation{
		{"cache.type", "namespace team-shop may not use ElastiCache"},
		{"canary.metrics.prometheus.address", `"http://any:9090" is not permitted; permitted: none`},
		{"canary.metrics.prometheus.queries", "queries are not permitted"},
		{"canary.metrics.cloudWatch", "CloudWatch is not permitted"},
	}
	for _, p := range []*Policy{Default(), parsed(t, head), parsed(t, head+"images: []\nmetrics: {prometheusAddresses: []}\nelastiCache: []")} {
		fc.Spec.Service.Image = ""
		if diff := cmp.Diff(want, p.Check(fc, "")); diff != "" {
			t.Errorf("violations (-want +got):\n%s", diff)
		}
	}
}

func parsed(t *testing.T, text string) *Policy {
	t.Helper()
	p, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAddressesOfPrometheus(t *testing.T) {
	tests := []struct {
		pattern, address string
		want             bool
	}{
		{"*", "https://anything/path", true},
		{"http://prometheus.monitoring:9090", "http://prometheus.monitoring:9090/", true},
		{"http://prometheus.monitoring:9090/", "http://prometheus.monitoring:9090", true},
		{"http://prometheus.monitoring:9090", "https://prometheus.monitoring:9090", false},
		{"http://prometheus.monitoring:9090", "http://prometheus.monitoring:90901", false},
		{"http://*.monitoring:9090", "http://prometheus.monitoring:9090", true},
		{"http://*.monitoring:9090", "http://evil.example/x.monitoring:9090", false},
		{"http://[fd00::1]:9090", "http://[fd00::1]:9090", true},
	}
	for _, test := range tests {
		if got := address(test.pattern, test.address); got != test.want {
			t.Errorf("%s matches %s: %t", test.pattern, test.address, got)
		}
	}
}

// TestExample holds the example of the documentation to what it says.
func TestExample(t *testing.T) {
	text, err := os.ReadFile("../../config/samples/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	elastiCache := func(change func(*v1alpha1.ElastiCacheSpec)) func(*v1alpha1.FlagCacheSpec) {
		return func(s *v1alpha1.FlagCacheSpec) {
			s.Cache.Type, s.Cache.ElastiCache = v1alpha1.CacheElastiCache, &v1alpha1.ElastiCacheSpec{Region: "eu-central-1", NodeType: "cache.t4g.small", Replicas: 1}
			change(s.Cache.ElastiCache)
		}
	}
	tests := map[string]struct {
		namespace string
		change    func(*v1alpha1.FlagCacheSpec)
		want      []Violation
	}{
		"nothing": {change: func(*v1alpha1.FlagCacheSpec) {}},
		"what is permitted": {change: func(s *v1alpha1.FlagCacheSpec) {
			elastiCache(func(*v1alpha1.ElastiCacheSpec) {})(s)
			s.Service.Image, s.Service.ServiceAccountName = "ghcr.io/acme/flags:2", "flags-reader"
			s.Service.PodLabels = map[string]v1alpha1.LabelValue{"acme.io/team": "shop"}
			s.Canary = &v1alpha1.CanarySpec{Metrics: v1alpha1.MetricsSpec{Prometheus: &v1alpha1.PrometheusSpec{
				Address: "http://prometheus.monitoring:9090", Queries: map[string]v1alpha1.Query{"errorRate.bad": "x"},
			}}}
		}},
		"another image": {change: func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = "ghcr.io/acmeevil/flags:2" }, want: []Violation{
			{"service.image", `"ghcr.io/acmeevil/flags:2" is not permitted; permitted: ghcr.io/acme/`},
		}},
		"another service account": {change: func(s *v1alpha1.FlagCacheSpec) { s.Service.ServiceAccountName = "admin" }, want: []Violation{
			{"service.serviceAccountName", `"admin" is not permitted; permitted: flags-*`},
		}},
		"an image of Redis": {change: func(s *v1alpha1.FlagCacheSpec) { s.Cache.InCluster = &v1alpha1.InClusterSpec{Image: "redis:7"} }, want: []Violation{
			{"cache.inCluster.image", `"redis:7" is not permitted; permitted: ghcr.io/acme/`},
		}},
		"another Prometheus": {change: func(s *v1alpha1.FlagCacheSpec) {
			s.Canary = &v1alpha1.CanarySpec{Metrics: v1alpha1.MetricsSpec{Prometheus: &v1alpha1.PrometheusSpec{Address: "http://10.0.0.1:9090"}}}
		}, want: []Violation{
			{"canary.metrics.prometheus.address", `"http://10.0.0.1:9090" is not permitted; permitted: http://own.monitoring:9090, http://prometheus.monitoring:9090`},
		}},
		"CloudWatch": {change: func(s *v1alpha1.FlagCacheSpec) {
			s.Canary = &v1alpha1.CanarySpec{Metrics: v1alpha1.MetricsSpec{CloudWatch: &v1alpha1.CloudWatchSpec{}}}
		}, want: []Violation{{"canary.metrics.cloudWatch", "CloudWatch is not permitted"}}},
		"ElastiCache in another namespace": {namespace: "sandbox", change: elastiCache(func(*v1alpha1.ElastiCacheSpec) {}), want: []Violation{
			{"cache.type", "namespace sandbox may not use ElastiCache"},
		}},
		"a region by default": {change: elastiCache(func(e *v1alpha1.ElastiCacheSpec) { e.Region = "" }), want: []Violation{
			{"cache.elastiCache.region", "a region must be named; permitted: eu-central-1"},
		}},
		"another region, large nodes and many": {change: elastiCache(func(e *v1alpha1.ElastiCacheSpec) {
			e.Region, e.NodeType, e.Replicas = "us-east-1", "cache.r7g.large", 3
		}), want: []Violation{
			{"cache.elastiCache.region", `"us-east-1" is not permitted; permitted: eu-central-1`},
			{"cache.elastiCache.nodeType", `"cache.r7g.large" is not permitted; permitted: cache.t4g.*`},
			{"cache.elastiCache.replicas", "4 nodes are not permitted, at most 3 are"},
		}},
		"resources of others": {change: elastiCache(func(e *v1alpha1.ElastiCacheSpec) {
			e.SecurityGroupIDs, e.SubnetGroupName = []v1alpha1.SecurityGroupID{"sg-1", "sg-0a1b"}, "theirs"
			e.AtRestEncryption = &v1alpha1.AtRestEncryption{KMSKeyID: "k"}
		}), want: []Violation{
			{"cache.elastiCache.securityGroupIDs", `"sg-1" is not permitted; permitted: sg-0a1b`},
			{"cache.elastiCache.subnetGroupName", `"theirs" is not permitted; permitted: shared`},
			{"cache.elastiCache.atRestEncryption.kmsKeyID", `"k" is not permitted; permitted: none`},
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fc := aFlagCache(test.change)
			if test.namespace != "" {
				fc.Namespace = test.namespace
			}
			if diff := cmp.Diff(test.want, p.Check(fc, "http://own.monitoring:9090")); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMistakesInTheFile(t *testing.T) {
	tests := map[string]string{
		"":                           "it must have apiVersion: policy.flagcache.dev/v1alpha1 and kind: Policy",
		"kind: Policy":               "it must have apiVersion",
		head + "image: []":           `unknown field "image"`,
		head + "pods: {labels: [a]}": `unknown field "pods.labels"`,
		head + "elastiCache: [{namespaces: [a]}, {namespaces: [b], region: c}]": `unknown field "elastiCache[1].region"`,
		head + "elastiCache: [{namespaces: [a], maxNodes: three}]":              "elastiCache.maxNodes",
		head + "images: ghcr.io/acme/":                                          "images",
		head + "pods: {labelPrefixes: ['']}":                                    "pods.labelPrefixes, pods.annotationPrefixes: an empty prefix would permit every label",
		head + "pods: {serviceAccounts: ['[']}":                                 `pods.serviceAccounts: "[" is not a pattern`,
		head + "elastiCache: [{regions: [a]}]":                                  "elastiCache[0].namespaces is empty",
		head + "elastiCache: [{namespaces: ['[']}]":                             `elastiCache[0].namespaces: "[" is not a pattern`,
		head + "pods: {}\npods: {}":                                             `"pods" already set`,
		head + "metrics: {prometheusAddresses: ['[']}":                          `metrics.prometheusAddresses: "[" is not a pattern`,
		strings.Repeat("#", MaxBytes+1):                                         "the maximum is 1048576",
		head + "elastiCache: [{namespaces: [a], adoptableIDs: ['']}]":           "elastiCache[0].adoptableIDs: an ID is empty",
	}
	for text, want := range tests {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: got %v, want an error that contains %q", text, err, want)
		}
	}
}

// TestMistakesAreInTheOrderOfTheFields: what changes by itself looks like another mistake.
func TestMistakesAreInTheOrderOfTheFields(t *testing.T) {
	tests := map[string]string{
		"elastiCache: [{namespaces: [a], maxNodes: -1, maxMonthlyUSD: -2, maxNamespaceMonthlyUSD: -3}, {namespaces: ['[']}]": `elastiCache[0].maxNodes is -1: write 0 or more
elastiCache[0].maxMonthlyUSD is -2: write 0 or more
elastiCache[0].maxNamespaceMonthlyUSD is -3: write 0 or more
elastiCache[1].namespaces: "[" is not a pattern: write a name, with the wildcards *, ? and [a-z]`,
		"pods: {labels: [a], names: [b]}\nzone: c": `parsing the policy: unknown field "pods.labels"
unknown field "pods.names"
unknown field "zone" (docs/policy.md has the fields, and config/policy.schema.json their schema)`,
	}
	for text, want := range tests {
		for range 20 {
			if _, err := Parse([]byte(head + text)); err == nil || err.Error() != want {
				t.Fatalf("%s: got %v, want %s", text, err, want)
			}
		}
	}
}

func TestAdoptionIsPermittedByNamespaceAndID(t *testing.T) {
	p, err := Parse([]byte(`
apiVersion: policy.flagcache.dev/v1alpha1
kind: Policy
elastiCache:
- namespaces: [team-shop]
  adoptableIDs: [fc-1]
- namespaces: ["team-*"]
  adoptableIDs: [fc-2]
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		policy        *Policy
		namespace, id string
		want          bool
	}{
		{p, "team-shop", "fc-1", true},
		{p, "team-shop", "fc-2", false},
		{p, "team-shop", "fc-", false},
		{p, "team-shop", "", false},
		{p, "team-web", "fc-2", true},
		{p, "team-web", "fc-1", false},
		{p, "other", "fc-1", false},
		{Default(), "team-shop", "fc-1", false},
		{Default(), "team-shop", "", false},
	} {
		if got := test.policy.MayAdopt(test.namespace, test.id); got != test.want {
			t.Errorf("namespace %s may adopt %q: %v, want %v", test.namespace, test.id, got, test.want)
		}
	}
}
