// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/cluster"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// childKind is a kind of child.
type childKind struct {
	object client.Object
	list   client.ObjectList
}

// projection returns that only the metadata of a kind is watched, if it is.
func (k childKind) projection() []builder.OwnsOption {
	switch k.object.(type) {
	case *corev1.Secret, *corev1.ConfigMap:
		return []builder.OwnsOption{builder.OnlyMetadata}
	default:
		return nil
	}
}

// childKinds returns the kinds of children, except those of ACK.
func childKinds() []childKind {
	return []childKind{
		{&corev1.Secret{}, &corev1.SecretList{}},
		{&corev1.ConfigMap{}, &corev1.ConfigMapList{}},
		{&corev1.Service{}, &corev1.ServiceList{}},
		{&corev1.ServiceAccount{}, &corev1.ServiceAccountList{}},
		{&appsv1.Deployment{}, &appsv1.DeploymentList{}},
		{&appsv1.StatefulSet{}, &appsv1.StatefulSetList{}},
		{&appsv1.ControllerRevision{}, &appsv1.ControllerRevisionList{}},
		{&batchv1.Job{}, &batchv1.JobList{}},
		{&policyv1.PodDisruptionBudget{}, &policyv1.PodDisruptionBudgetList{}},
		{&autoscalingv2.HorizontalPodAutoscaler{}, &autoscalingv2.HorizontalPodAutoscalerList{}},
		{&networkingv1.NetworkPolicy{}, &networkingv1.NetworkPolicyList{}},
	}
}

// CacheOptions restrict the manager's cache to children of FlagCaches, and to ConfigMaps,
// any of which may hold flags. Of Secrets and ConfigMaps it has only metadata: package
// bodies reads the rest. No namespaces means all.
func CacheOptions(namespaces []string) cache.Options {
	byObject := map[client.Object]cache.ByObject{&v1alpha1.FlagCache{}: {Transform: slimFlagCache}}
	for _, kind := range childKinds() {
		switch kind.object.(type) {
		case *corev1.Secret:
			byObject[kind.object] = cache.ByObject{Label: managed(), Transform: identify}
		case *corev1.ConfigMap:
			byObject[kind.object] = cache.ByObject{Transform: identify}
		default:
			byObject[kind.object] = cache.ByObject{Label: managed(), Transform: slimChild}
		}
	}
	return cache.Options{DefaultTransform: slim, DefaultNamespaces: only(namespaces), ByObject: byObject}
}

// AllowedCacheOptions restrict a cache to the Secrets whose owners allow FlagCaches to use
// them, of which it has only metadata. They are not part of CacheOptions because no label
// selector selects these and the children, which do not have the label.
func AllowedCacheOptions(namespaces []string) cache.Options {
	allowed := labels.SelectorFromSet(labels.Set{v1alpha1.LabelAllow: v1alpha1.AllowTrue})
	return cache.Options{
		DefaultTransform: slim, DefaultNamespaces: only(namespaces),
		ByObject: map[client.Object]cache.ByObject{&corev1.Secret{}: {Label: allowed, Transform: identify}},
	}
}

// AddAllowed adds a cache of the Secrets whose owners allow FlagCaches to use them to a
// manager.
func AddAllowed(mgr ctrl.Manager, namespaces []string) (cluster.Cluster, error) {
	allowed, err := cluster.New(mgr.GetConfig(), func(o *cluster.Options) {
		o.Scheme, o.HTTPClient, o.Logger = mgr.GetScheme(), mgr.GetHTTPClient(), mgr.GetLogger()
		o.MapperProvider = func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return mgr.GetRESTMapper(), nil }
		o.Cache = AllowedCacheOptions(namespaces)
	})
	if err != nil {
		return nil, fmt.Errorf("setting up the cache of the Secrets of others: %w", err)
	}
	if err := mgr.Add(allowed); err != nil {
		return nil, fmt.Errorf("adding the cache of the Secrets of others: %w", err)
	}
	return allowed, nil
}

// ClientOptions are those of the client of the manager's cache: it reads what it wrote.
func ClientOptions() client.Options {
	return client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: ptr.To(true)}}
}

// managed selects the children of FlagCaches. The label is the operator's own: others
// that are in common use, such as LabelManagedBy, may be owned by policies of the cluster.
func managed() labels.Selector {
	named, err := labels.NewRequirement(v1alpha1.LabelName, selection.Exists, nil)
	if err != nil {
		panic(fmt.Sprintf("the name of a label is not valid: %v", err))
	}
	return labels.NewSelector().Add(*named)
}

// ACKCacheOptions restrict a cache of ACK's kinds to the children of FlagCaches. They
// are not part of CacheOptions because the manager's cache requires its kinds to
// exist.
func ACKCacheOptions(namespaces []string) cache.Options {
	return cache.Options{DefaultTransform: slimChild, DefaultNamespaces: only(namespaces), DefaultLabelSelector: managed()}
}

// only restricts a cache to the namespaces; none means all.
func only(namespaces []string) map[string]cache.Config {
	if len(namespaces) == 0 {
		return nil
	}
	configs := map[string]cache.Config{}
	for _, namespace := range namespaces {
		configs[namespace] = cache.Config{}
	}
	return configs
}

// slim is a cache transform. It drops what no reader needs and what may be as large as
// the rest of the object: the managed fields, and the annotation that client-side
// kubectl apply sets.
func slim(o any) (any, error) {
	m, err := meta.Accessor(o)
	if err != nil {
		return o, nil // a tombstone, whose object was transformed before
	}
	// An object may be transformed again while it is read, so write only what differs.
	if m.GetManagedFields() != nil {
		m.SetManagedFields(nil)
	}
	if annotations := m.GetAnnotations(); annotations[corev1.LastAppliedConfigAnnotation] != "" {
		delete(annotations, corev1.LastAppliedConfigAnnotation)
	}
	return o, nil
}

// isRequest reports whether people request something of the operator by an annotation of a
// FlagCache.
func isRequest(key string) bool {
	return key == v1alpha1.AnnotationReconcileAt || slices.Contains(v1alpha1.RequestAnnotations(), key)
}

// slimFlagCache is a cache transform. It keeps the annotations by which people request
// actions; the operator reads no other ones, and no labels. One that is not in the list of
// config/admission thus has no effect.
func slimFlagCache(o any) (any, error) {
	fc, ok := o.(*v1alpha1.FlagCache)
	if !ok {
		return o, nil // a tombstone
	}
	foreign := func(key, _ string) bool { return !isRequest(key) }
	if hasAny(fc.Annotations, foreign) {
		fc.Annotations = maps.Clone(fc.Annotations)
		maps.DeleteFunc(fc.Annotations, foreign)
	}
	if fc.Labels != nil {
		fc.Labels = nil
	}
	return slim(fc)
}

func hasAny(m map[string]string, is func(key, value string) bool) bool {
	for key, value := range m {
		if is(key, value) {
			return true
		}
	}
	return false
}

// The maximum sizes of a child that is kept, as the API server stores it: in a message of
// protocol buffers, or in JSON. Those that the operator writes have a few KiB. In memory, lists
// of small items are up to 20 times as large, and those of ACK's kinds up to 50 times.
const (
	maxChild    = 384 << 10
	maxACKChild = 128 << 10
)

// slimChild is a cache transform. Of an object with the label of children which is none,
// and which the operator did not leave, only the name is used, and of one that somebody made
// too large.
func slimChild(o any) (any, error) {
	child, ok := o.(client.Object)
	if !ok {
		return o, nil // a tombstone
	}
	if _, err := slim(child); err != nil {
		return nil, err
	}
	large := isLarge(child)
	if !large && (flagCacheOf(child) != "" || observed.Orphaned(child)) {
		return child, nil
	}
	foreign := reflect.New(reflect.TypeOf(child).Elem()).Interface().(client.Object)
	setIdentity(foreign, child)
	if large {
		foreign.SetOwnerReferences([]metav1.OwnerReference{{Kind: foreignKind, Controller: ptr.To(true)}})
	}
	return foreign, nil
}

// isLarge reports whether an object has more than the operator writes.
func isLarge(o client.Object) bool {
	if message, ok := o.(interface{ Size() int }); ok {
		return message.Size() > maxChild
	}
	text, err := json.Marshal(o)
	return err != nil || len(text) > maxACKChild
}

// identify is a cache transform of metadata. It keeps what identifies an object, its
// FlagCache, and whether it may be used.
func identify(o any) (any, error) {
	m, ok := o.(*metav1.PartialObjectMetadata)
	if !ok {
		return o, nil // a tombstone
	}
	identity := &metav1.PartialObjectMetadata{TypeMeta: m.TypeMeta}
	setIdentity(identity, m)
	return identity, nil
}

// setIdentity copies the names, the version, the labels that readers select by, and who
// controls an object.
func setIdentity(to, from client.Object) {
	to.SetNamespace(from.GetNamespace())
	to.SetName(from.GetName())
	to.SetUID(from.GetUID())
	to.SetResourceVersion(from.GetResourceVersion())
	for _, key := range []string{v1alpha1.LabelName, v1alpha1.LabelAllow} {
		if value, ok := from.GetLabels()[key]; ok {
			kept := to.GetLabels()
			if kept == nil {
				kept = map[string]string{}
			}
			kept[key] = value
			to.SetLabels(kept)
		}
	}
	switch owner := metav1.GetControllerOf(from); {
	case owner != nil && flagCacheOf(from) != "":
		to.SetOwnerReferences([]metav1.OwnerReference{*owner})
	case owner != nil:
		to.SetOwnerReferences([]metav1.OwnerReference{{Kind: foreignKind, Controller: ptr.To(true)}})
	case len(from.GetOwnerReferences()) > 0:
		to.SetOwnerReferences([]metav1.OwnerReference{{Kind: foreignKind}})
	}
}

// foreignKind stands for the kind of an owner that is no FlagCache. The names of owners
// are as long as whoever writes them likes.
const foreignKind = "Foreign"
