// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// servicePort is 80 so that the OFREP endpoint needs no port.
const servicePort = 80

// Names of children. The longest suffix, with what Kubernetes itself appends to
// a StatefulSet's name for a label, is what bounds a FlagCache's name.
func redisName(fc *v1alpha1.FlagCache) string      { return fc.Name + "-redis" }
func connectionName(fc *v1alpha1.FlagCache) string { return fc.Name + "-connection" }
func trafficName(fc *v1alpha1.FlagCache) string    { return fc.Name + "-traffic" }
func integrityName(fc *v1alpha1.FlagCache) string  { return fc.Name + "-integrity" }
func clientName(fc *v1alpha1.FlagCache) string     { return fc.Name + "-client" }

// ServiceName is the name of the Service that clients call. Its selector is the
// record of which revision serves.
func ServiceName(fc *v1alpha1.FlagCache) string { return fc.Name }

// privateConnectionName is the Secret of one connection, by its hash.
func privateConnectionName(fc *v1alpha1.FlagCache, hash string) string {
	return connectionName(fc) + "-" + hash
}

// revisionEndpoint is where stable pods reach the pods of a revision.
func revisionEndpoint(fc *v1alpha1.FlagCache, revision string) string {
	return "http://" + revisionName(fc, revision) + "." + fc.Namespace + ".svc:" + strconv.Itoa(servicePort)
}

func revisionName(fc *v1alpha1.FlagCache, revision string) string {
	return fc.Name + "-" + revision
}

// loadTestName is the Job that tests a candidate.
func loadTestName(fc *v1alpha1.FlagCache, revision string) string {
	return revisionName(fc, revision) + "-load"
}

// ReservedNames are the names that children of a FlagCache use whatever its
// spec; revisions' names are not among them.
func ReservedNames(fc *v1alpha1.FlagCache) []string {
	return []string{ServiceName(fc), redisName(fc), connectionName(fc), integrityName(fc), clientName(fc), trafficName(fc)}
}

// childMeta is the metadata of a child. No label or annotation of the FlagCache
// is copied: GitOps tools would take the child for one of theirs.
func childMeta(fc *v1alpha1.FlagCache, name, component string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:            name,
		Namespace:       fc.Namespace,
		Labels:          childLabels(fc, component),
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(fc, v1alpha1.GroupVersion.WithKind("FlagCache"))},
	}
}

func childLabels(fc *v1alpha1.FlagCache, component string) map[string]string {
	labels := selectorLabels(fc, component)
	labels[v1alpha1.LabelManagedBy] = v1alpha1.ManagedBy
	return labels
}

// selectorLabels select the pods of one component.
func selectorLabels(fc *v1alpha1.FlagCache, component string) map[string]string {
	return map[string]string{
		v1alpha1.LabelName:      fc.Name,
		v1alpha1.LabelComponent: component,
	}
}

// secretMeta is childMeta with the label by which the operator's cache finds it.
func secretMeta(fc *v1alpha1.FlagCache, name, component string) metav1.ObjectMeta {
	meta := childMeta(fc, name, component)
	meta.Labels[v1alpha1.LabelAllow] = v1alpha1.AllowTrue
	return meta
}

func with(labels map[string]string, more map[string]string) map[string]string {
	merged := maps.Clone(labels)
	maps.Copy(merged, more)
	return merged
}

// fingerprint of a text, salted with the FlagCache's UID and cut to 32 bits so
// that it tells two values apart but does not help to guess one.
func fingerprint(uid types.UID, parts ...string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q", append([]string{string(uid)}, parts...))
	return hex.EncodeToString(h.Sum(nil)[:4])
}

func toJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("plain data does not marshal: %v", err))
	}
	return string(text)
}
