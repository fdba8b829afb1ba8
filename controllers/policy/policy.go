// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Kind and version of the file.
const (
	APIVersion = "policy.flagcache.dev/v1alpha1"
	Kind       = "Policy"
)

// MaxBytes is the maximum size of the file.
const MaxBytes = 1 << 20

// Policy is what an administrator lets FlagCaches request. A list that is omitted permits
// everything, and one that is empty nothing, unless its field says otherwise.
type Policy struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Images are prefixes of service.image and cache.inCluster.image, such as
	// ghcr.io/acme/. Images of the operator's own configuration are always permitted.
	Images *[]string `json:"images,omitempty"`
	// Pods limits what pods may have.
	Pods Pods `json:"pods,omitempty"`
	// Metrics limits where the evidence of canaries comes from.
	Metrics Metrics `json:"metrics,omitempty"`
	// Addresses opens and closes addresses of caches and of Prometheus. Without it, the
	// defaults apply: private and public addresses are open, and those of a node itself, of
	// metadata services and of the API server are closed.
	Addresses Addresses `json:"addresses,omitempty"`
	// ElastiCache has what namespaces may request in AWS. The first item that has the
	// namespace applies; a namespace that none has may not use ElastiCache. Default: none.
	ElastiCache []ElastiCache `json:"elastiCache,omitempty"`
}

// Pods limits what the pods of FlagCaches may have.
type Pods struct {
	// LabelPrefixes and AnnotationPrefixes are prefixes of keys that are permitted besides
	// those without a domain. Others may give pods an identity, a network or a
	// scheduler.
	LabelPrefixes      []string `json:"labelPrefixes,omitempty" jsonschema:"minLength=1"`
	AnnotationPrefixes []string `json:"annotationPrefixes,omitempty" jsonschema:"minLength=1"`
	// ServiceAccounts and ImagePullSecrets are names, with the wildcards of path.Match.
	ServiceAccounts  *[]string `json:"serviceAccounts,omitempty"`
	ImagePullSecrets *[]string `json:"imagePullSecrets,omitempty"`
}

// Metrics limits the sources of evidence other than the pods of a FlagCache, which hold
// the metrics of others as well. All of them are closed by default.
type Metrics struct {
	// PrometheusAddresses are the values that canary.metrics.prometheus.address may have,
	// with the wildcards of path.Match; "*" alone is any. That of the operator's flag
	// --prometheus is always permitted. Default: none.
	PrometheusAddresses []string `json:"prometheusAddresses,omitempty"`
	// Queries permits canary.metrics.prometheus.queries. Default: false.
	Queries bool `json:"queries,omitempty"`
	// CloudWatch permits type CloudWatch, with the operator's identity in AWS. Default:
	// false.
	CloudWatch bool `json:"cloudWatch,omitempty"`
}

// ElastiCache is what FlagCaches of some namespaces may request in AWS. Each list has the
// values that a field may have.
type ElastiCache struct {
	// Namespaces are names, with the wildcards of path.Match.
	Namespaces []string `json:"namespaces" jsonschema:"minItems=1,minLength=1"`
	// Regions; a FlagCache must then name one.
	Regions *[]string `json:"regions,omitempty"`
	// NodeTypes, such as cache.t4g.micro, with the wildcards of path.Match.
	NodeTypes *[]string `json:"nodeTypes,omitempty"`
	// MaxNodes is the maximum number of nodes of a cache, replicas included.
	MaxNodes *int32 `json:"maxNodes,omitempty" jsonschema:"minimum=0"`
	// MaxMonthlyUSD is the maximum cost of the caches of one FlagCache, and
	// MaxNamespaceMonthlyUSD that of all FlagCaches of a namespace together, as the
	// operator estimates it. What costs no more than before is not refused.
	MaxMonthlyUSD          *int32 `json:"maxMonthlyUSD,omitempty" jsonschema:"minimum=0"`
	MaxNamespaceMonthlyUSD *int32 `json:"maxNamespaceMonthlyUSD,omitempty" jsonschema:"minimum=0"`
	// VPCIDs, and the security groups of the cache and of its clients.
	VPCIDs           *[]string `json:"vpcIDs,omitempty"`
	SecurityGroupIDs *[]string `json:"securityGroupIDs,omitempty"`
	// SubnetIDs and SubnetGroupNames.
	SubnetIDs        *[]string `json:"subnetIDs,omitempty"`
	SubnetGroupNames *[]string `json:"subnetGroupNames,omitempty"`
	// KMSKeyIDs of the encryption at rest, TopicARNs of alarms, and RoleARNs of the flag
	// service's pods.
	KMSKeyIDs *[]string `json:"kmsKeyIDs,omitempty"`
	TopicARNs *[]string `json:"topicARNs,omitempty"`
	RoleARNs  *[]string `json:"roleARNs,omitempty"`
	// AdoptableIDs are replication groups that FlagCaches may take over although their tags
	// do not name the FlagCache. Default: none.
	AdoptableIDs []string `json:"adoptableIDs,omitempty"`
}

// Default is the policy without a file: it permits what whoever may create pods can have
// without the operator, and nothing in AWS.
func Default() *Policy { return &Policy{APIVersion: APIVersion, Kind: Kind} }

// Parse reads a policy. Unknown fields are errors: a misspelled limit would permit
// everything.
func Parse(text []byte) (*Policy, error) {
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("the policy has %d bytes, the maximum is %d", len(text), MaxBytes)
	}
	p := &Policy{}
	if err := yaml.UnmarshalStrict(text, p); err != nil {
		if unknown := unknownFields(text); unknown != nil {
			err = unknown
		}
		return nil, fmt.Errorf("parsing the policy: %w (docs/policy.md has the fields, and config/policy.schema.json their schema)", err)
	}
	if p.APIVersion != APIVersion || p.Kind != Kind {
		return nil, fmt.Errorf("parsing the policy: it must have apiVersion: %s and kind: %s, and has %q and %q", APIVersion, Kind, p.APIVersion, p.Kind)
	}
	return p, p.validate()
}

// unknownFields returns an error with the paths of the fields that a policy does not have, nil
// for none.
func unknownFields(text []byte) error {
	document, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil
	}
	unknown, err := json.UnmarshalStrict(document, &Policy{}, json.DisallowUnknownFields)
	if err != nil {
		return nil
	}
	return errors.Join(unknown...)
}

// validate reports patterns that cannot match.
func (p *Policy) validate() error {
	var problems []error
	pattern := func(field string, patterns []string) {
		for _, text := range patterns {
			if _, err := path.Match(text, ""); err != nil || text == "" {
				problems = append(problems, fmt.Errorf("%s: %q is not a pattern: write a name, with the wildcards *, ? and [a-z]", field, text))
			}
		}
	}
	pattern("pods.serviceAccounts", listed(p.Pods.ServiceAccounts))
	pattern("pods.imagePullSecrets", listed(p.Pods.ImagePullSecrets))
	for _, key := range append(append([]string{}, p.Pods.LabelPrefixes...), p.Pods.AnnotationPrefixes...) {
		if strings.TrimSpace(key) == "" {
			problems = append(problems, errors.New("pods.labelPrefixes, pods.annotationPrefixes: an empty prefix would permit every label or annotation; name the domains"))
		}
	}
	prefixes := func(field string, list []Prefix) {
		for i := range list {
			if err := list[i].validate(); err != nil {
				problems = append(problems, fmt.Errorf("%s[%d]: %w", field, i, err))
			}
		}
	}
	prefixes("addresses.allow", p.Addresses.Allow)
	prefixes("addresses.deny", p.Addresses.Deny)
	pattern("metrics.prometheusAddresses", p.Metrics.PrometheusAddresses)
	for i, rule := range p.ElastiCache {
		field := fmt.Sprintf("elastiCache[%d]", i)
		if len(rule.Namespaces) == 0 {
			problems = append(problems, fmt.Errorf("%s.namespaces is empty, so that it applies to no FlagCache: name the namespaces", field))
		}
		pattern(field+".namespaces", rule.Namespaces)
		pattern(field+".nodeTypes", listed(rule.NodeTypes))
		for _, limit := range []struct {
			name    string
			maximum *int32
		}{{"maxNodes", rule.MaxNodes}, {"maxMonthlyUSD", rule.MaxMonthlyUSD}, {"maxNamespaceMonthlyUSD", rule.MaxNamespaceMonthlyUSD}} {
			if limit.maximum != nil && *limit.maximum < 0 {
				problems = append(problems, fmt.Errorf("%s.%s is %d: write 0 or more", field, limit.name, *limit.maximum))
			}
		}
		if slices.Contains(rule.AdoptableIDs, "") {
			problems = append(problems, fmt.Errorf("%s.adoptableIDs: an ID is empty", field))
		}
	}
	return errors.Join(problems...)
}

// listed returns the items of a list, none if it is omitted.
func listed[T any](list *[]T) []T {
	if list == nil {
		return nil
	}
	return *list
}
