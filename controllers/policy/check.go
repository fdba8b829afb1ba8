// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// aadPodIdentity is a label that gives a pod an identity in Azure, although it has no
// domain.
const aadPodIdentity = "aadpodidbinding"

// ownKeys is the prefix of the operator's labels and annotations.
const ownKeys = "flagcache.dev/"

// Violation is a value that a FlagCache may not have.
type Violation struct {
	// Field of the spec, such as service.image.
	Field string
	// Problem says what is not permitted, and what is.
	Problem string
}

// Check returns what a FlagCache requests and may not, in the order of its fields.
// Prometheus is the address of the operator's own, "" if it has none.
func (p *Policy) Check(fc *v1alpha1.FlagCache, prometheus string) []Violation {
	c := &checker{}
	c.cache(p, fc)
	c.service(p, &fc.Spec.Service)
	if fc.Spec.Canary != nil {
		c.metrics(p.Metrics, &fc.Spec.Canary.Metrics, prometheus)
	}
	return c.found
}

// checker collects violations.
type checker struct{ found []Violation }

func (c *checker) refuse(field, format string, args ...any) {
	c.found = append(c.found, Violation{Field: field, Problem: fmt.Sprintf(format, args...)})
}

// value refuses a value that a list lacks. Without a list, or a value, nothing is refused.
func (c *checker) value(field, value string, list *[]string, matches func(item, value string) bool) {
	if list == nil || value == "" || slices.ContainsFunc(*list, func(item string) bool { return matches(item, value) }) {
		return
	}
	c.refuse(field, "%q is not permitted%s", value, permitted(*list))
}

// values is value for each of some values.
func values[T ~string](c *checker, field string, of []T, list *[]string) {
	for _, v := range of {
		c.value(field, string(v), list, equal)
	}
}

func (c *checker) service(p *Policy, s *v1alpha1.ServiceSpec) {
	c.value("service.image", s.Image, p.Images, prefix)
	for _, secret := range s.ImagePullSecrets {
		c.value("service.imagePullSecrets", secret.Name, p.Pods.ImagePullSecrets, glob)
	}
	c.keys("service.podLabels", slices.Sorted(maps.Keys(s.PodLabels)), p.Pods.LabelPrefixes)
	c.keys("service.podAnnotations", slices.Sorted(maps.Keys(s.PodAnnotations)), p.Pods.AnnotationPrefixes)
	c.value("service.serviceAccountName", s.ServiceAccountName, p.Pods.ServiceAccounts, glob)
}

// keys refuses the keys of labels and annotations that have a domain, unless it is
// listed: the tools of a cluster give keys of their domain a meaning, such as an identity
// in a cloud, a network interface or a host path, and nobody can list them all. Some write
// it without a slash, as in io.katacontainers.config. The operator's own keys are never
// permitted.
func (c *checker) keys(field string, keys, prefixes []string) {
	for _, key := range keys {
		switch {
		case strings.HasPrefix(key, ownKeys):
			c.refuse(field, "key %q is the operator's own", key)
		case !strings.ContainsAny(key, "./") && key != aadPodIdentity, slices.ContainsFunc(prefixes, func(item string) bool { return prefix(item, key) }):
		default:
			c.refuse(field, "key %q is not permitted%s", key, permitted(append([]string{"keys without a domain"}, prefixes...)))
		}
	}
}

func (c *checker) cache(p *Policy, fc *v1alpha1.FlagCache) {
	if inCluster := fc.Spec.Cache.InCluster; inCluster != nil {
		c.value("cache.inCluster.image", inCluster.Image, p.Images, prefix)
	}
	if fc.Spec.Cache.Type != v1alpha1.CacheElastiCache {
		return
	}
	if rule := p.elastiCacheOf(fc.Namespace); rule != nil {
		c.elastiCache(rule, fc.Spec.Cache.ElastiCache)
		return
	}
	c.refuse("cache.type", "namespace %s may not use ElastiCache", fc.Namespace)
}

// elastiCacheOf is what a namespace may request in AWS, nil for nothing.
func (p *Policy) elastiCacheOf(namespace string) *ElastiCache {
	for i, rule := range p.ElastiCache {
		if slices.ContainsFunc(rule.Namespaces, func(pattern string) bool { return glob(pattern, namespace) }) {
			return &p.ElastiCache[i]
		}
	}
	return nil
}

// MayAdopt reports whether FlagCaches of a namespace may take over a replication group
// whose tags do not name them.
func (p *Policy) MayAdopt(namespace, id string) bool {
	rule := p.elastiCacheOf(namespace)
	return rule != nil && slices.Contains(rule.AdoptableIDs, id)
}

func (c *checker) elastiCache(rule *ElastiCache, spec *v1alpha1.ElastiCacheSpec) {
	if spec == nil {
		spec = &v1alpha1.ElastiCacheSpec{}
	}
	const field = "cache.elastiCache."
	if rule.Regions != nil && spec.Region == "" {
		c.refuse(field+"region", "a region must be named%s", permitted(*rule.Regions))
	}
	c.value(field+"region", spec.Region, rule.Regions, equal)
	c.value(field+"nodeType", spec.NodeType, rule.NodeTypes, glob)
	if nodes := spec.Replicas + 1; rule.MaxNodes != nil && nodes > *rule.MaxNodes {
		c.refuse(field+"replicas", "%d nodes are not permitted, at most %d are", nodes, *rule.MaxNodes)
	}
	c.value(field+"vpcID", spec.VPCID, rule.VPCIDs, equal)
	values(c, field+"clientSecurityGroupIDs", spec.ClientSecurityGroupIDs, rule.SecurityGroupIDs)
	values(c, field+"securityGroupIDs", spec.SecurityGroupIDs, rule.SecurityGroupIDs)
	values(c, field+"subnetIDs", spec.SubnetIDs, rule.SubnetIDs)
	c.value(field+"subnetGroupName", spec.SubnetGroupName, rule.SubnetGroupNames, equal)
	c.value(field+"authentication.roleARN", spec.Authentication.RoleARN, rule.RoleARNs, equal)
	if atRest := spec.AtRestEncryption; atRest != nil {
		c.value(field+"atRestEncryption.kmsKeyID", atRest.KMSKeyID, rule.KMSKeyIDs, equal)
	}
	if alarms := spec.Alarms; alarms != nil {
		c.value(field+"alarms.topicARN", alarms.TopicARN, rule.TopicARNs, equal)
	}
}

func (c *checker) metrics(m Metrics, spec *v1alpha1.MetricsSpec, own string) {
	const field = "canary.metrics."
	if prometheus := spec.Prometheus; prometheus != nil {
		addresses := m.PrometheusAddresses
		if own != "" {
			addresses = slices.Insert(slices.Clone(addresses), 0, own)
		}
		c.value(field+"prometheus.address", prometheus.Address, &addresses, address)
		if len(prometheus.Queries) > 0 && !m.Queries {
			c.refuse(field+"prometheus.queries", "queries are not permitted")
		}
	}
	if spec.CloudWatch != nil && !m.CloudWatch {
		c.refuse(field+"cloudWatch", "CloudWatch is not permitted")
	}
}

// address reports whether a pattern matches an address. A slash at the end has no meaning,
// and the brackets of an IPv6 address, which are those of a pattern, have theirs.
func address(pattern, value string) bool {
	pattern, value = strings.TrimRight(pattern, "/"), strings.TrimRight(value, "/")
	return pattern == "*" || pattern == value || glob(pattern, value)
}

func equal(item, value string) bool { return item == value }

func prefix(item, value string) bool { return strings.HasPrefix(value, item) }

// glob reports whether a pattern matches; that it is one was checked when it was read.
func glob(pattern, value string) bool {
	matched, _ := path.Match(pattern, value)
	return matched
}

// permitted lists what is permitted instead.
func permitted(list []string) string {
	const shown = 5
	more := ""
	if len(list) > shown {
		more = fmt.Sprintf(" and %d more", len(list)-shown)
		list = list[:shown]
	}
	return "; permitted: " + cmp.Or(strings.Join(list, ", "), "none") + more
}
