// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// ServicePort is the port of the Services: 80, so that the OFREP endpoint needs no port.
const ServicePort = 80

// RedisName is the name of the StatefulSet, Service and Secret of an in-cluster
// Redis. Of all suffixes it is the longest, with what Kubernetes appends to the
// name of a StatefulSet for a label, and so bounds the name of a FlagCache.
func RedisName(fc *v1alpha1.FlagCache) string { return fc.Name + "-redis" }

// ConnectionName is the Secret that applications bind to.
func ConnectionName(fc *v1alpha1.FlagCache) string { return fc.Name + "-connection" }

// TrafficName is the ConfigMap from which stable pods read the candidate's share.
func TrafficName(fc *v1alpha1.FlagCache) string { return fc.Name + "-traffic" }

// IntegrityName is the Secret with the keys that authenticate cached values and pod
// templates.
func IntegrityName(fc *v1alpha1.FlagCache) string { return fc.Name + "-integrity" }

// ClientName is the ConfigMap with the variables of OpenFeature clients.
func ClientName(fc *v1alpha1.FlagCache) string { return fc.Name + "-client" }

// PublishedFlagsName is the ConfigMap from which pods read their flags. NAME-flags is what
// many users call their own.
func PublishedFlagsName(fc *v1alpha1.FlagCache) string { return fc.Name + "-published-flags" }

// ServiceName is the name of the Service that clients call.
func ServiceName(fc *v1alpha1.FlagCache) string { return fc.Name }

// PrivateConnectionName is the Secret of one connection, by its hash.
func PrivateConnectionName(fc *v1alpha1.FlagCache, hash string) string {
	return ConnectionName(fc) + "-" + hash
}

// RevisionEndpoint is where stable pods reach the pods of a revision.
func RevisionEndpoint(fc *v1alpha1.FlagCache, revision string) string {
	return "http://" + RevisionName(fc, revision) + "." + fc.Namespace + ".svc:" + strconv.Itoa(ServicePort)
}

// RevisionName is the name of the objects of one revision.
func RevisionName(fc *v1alpha1.FlagCache, revision string) string {
	return fc.Name + "-" + revision
}

// RevisionOf returns the revision in the name of an object; false if the name has none.
func RevisionOf(fc *v1alpha1.FlagCache, name string) (string, bool) {
	hash, ok := strings.CutPrefix(name, RevisionName(fc, ""))
	if !ok || len(hash) != 8 || strings.Trim(hash, "0123456789abcdef") != "" {
		return "", false
	}
	return hash, true
}

// LoadTestName is the Job that tests a candidate.
func LoadTestName(fc *v1alpha1.FlagCache, revision string) string {
	return RevisionName(fc, revision) + "-load"
}

// ChildMeta is the metadata of a child. No label or annotation of the FlagCache
// is copied: GitOps tools would take the child for one of theirs.
func ChildMeta(fc *v1alpha1.FlagCache, name, component string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:            name,
		Namespace:       fc.Namespace,
		Labels:          childLabels(fc, component),
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(fc, v1alpha1.GroupVersion.WithKind("FlagCache"))},
	}
}

func childLabels(fc *v1alpha1.FlagCache, component string) map[string]string {
	labels := SelectorLabels(fc, component)
	labels[v1alpha1.LabelManagedBy] = v1alpha1.ManagedBy
	return labels
}

// SelectorLabels select the pods of one component.
func SelectorLabels(fc *v1alpha1.FlagCache, component string) map[string]string {
	return map[string]string{
		v1alpha1.LabelName:      fc.Name,
		v1alpha1.LabelComponent: component,
	}
}

// RevisionLabels select the pods of one revision.
func RevisionLabels(fc *v1alpha1.FlagCache, revision string) map[string]string {
	return With(SelectorLabels(fc, v1alpha1.ComponentService), map[string]string{v1alpha1.LabelRevision: revision})
}

// With returns labels with more of them, which win.
func With(labels map[string]string, more map[string]string) map[string]string {
	merged := maps.Clone(labels)
	maps.Copy(merged, more)
	return merged
}

// Fingerprint is a hash of texts, salted with the UID of the FlagCache and cut to
// 32 bits, so that it distinguishes two values but does not help to guess one.
func Fingerprint(uid types.UID, parts ...string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q", append([]string{string(uid)}, parts...))
	return hex.EncodeToString(h.Sum(nil)[:4])
}

// ToJSON marshals plain data, which cannot fail.
func ToJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("plain data does not marshal: %v", err))
	}
	return string(text)
}
