// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/csaupgrade"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// Intentional differences between the World's API server and a real one:
//
//   - it has no defaults, no schemas and no admission, so objects have only what their writers set;
//   - server-side apply is always forced, like the operator's;
//   - the times of managed fields are not kept;
//   - it supports only the calls that the operator makes.
//
// TestConformance verifies that they agree in everything else: which calls succeed, the reasons of
// errors, the resulting objects, changes of versions and generations, and the managers of fields.

// sequences is the number of random sequences, and requests their length.
const (
	sequences = 24
	requests  = 25
)

// TestConformance sends the same random requests to the World's API server and to a real one.
func TestConformance(t *testing.T) {
	real, err := client.New(realServer(t), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatalf("connecting to the API server: %v", err)
	}
	seen := map[string]int{}
	for seed := range uint64(sequences) {
		space := fmt.Sprintf("conformance-%d", seed)
		if err := real.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: space}}); err != nil {
			t.Fatalf("creating namespace %s: %v", space, err)
		}
		w := newWorld(scenario{}, plan{})
		w.writer = "user"
		simulated := &testedServer{client: operatorClient{w: w, live: true}, space: space, old: map[string]client.Object{}}
		actual := &testedServer{client: real, space: space, old: map[string]client.Object{}}
		chance := rand.New(rand.NewPCG(seed, 0))
		for i := range requests {
			r := randomAPIRequest(chance)
			want, got := actual.send(t, r), simulated.send(t, r)
			seen[fmt.Sprintf("%s %s: %q", r.Verb, r.Kind, want.Reason)]++
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("seed %d, request %d, %+v: the World differs from a real API server (-real +World):\n%s", seed, i, r, d)
			}
		}
	}
	for _, what := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%4d %s", seen[what], what)
	}
}

// realServer starts an API server with the project's CRD.
func realServer(t *testing.T) *rest.Config {
	t.Helper()
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		assets = filepath.Join("..", "..", "bin", "envtest")
	}
	if _, err := os.Stat(filepath.Join(assets, "kube-apiserver")); err != nil {
		t.Fatalf("there is no kube-apiserver in %s: run `make envtest`, or point KUBEBUILDER_ASSETS at one", assets)
	}
	server := &envtest.Environment{
		BinaryAssetsDirectory: assets,
		CRDDirectoryPaths:     []string{filepath.Join("..", "..", "config", "crd", "bases")},
		ErrorIfCRDPathMissing: true,
	}
	config, err := server.Start()
	if err != nil {
		t.Fatalf("starting an API server from %s: %v", assets, err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stopping the API server: %v", err)
		}
	})
	return config
}

// apiRequest is a request of the operator or a user.
type apiRequest struct {
	Verb string
	Kind kind
	// Variant selects the content.
	Variant int32
	// Stale requests have an earlier version of the object as precondition.
	Stale bool
}

func randomAPIRequest(chance *rand.Rand) apiRequest {
	return apiRequest{
		Verb:    []string{"create", "apply", "adopt", "finalizer", "status", "delete"}[chance.IntN(6)],
		Kind:    []kind{configMaps, deployments, flagCaches}[chance.IntN(3)],
		Variant: chance.Int32N(2) + 1,
		Stale:   chance.IntN(4) == 0,
	}
}

// testedServer is one of the two API servers.
type testedServer struct {
	client client.Client
	space  string
	// old has earlier versions of objects, by kind.
	old map[string]client.Object
}

// outcome is the result of a request.
type outcome struct {
	Reason  metav1.StatusReason
	Exists  bool
	Changed bool
	// Generation counts from the creation; it is 0 for kinds without generations.
	Generation int64
	Deleting   bool
	Finalizers []string
	Variant    int32
	Managers   []string
}

func (s *testedServer) send(t *testing.T, r apiRequest) outcome {
	t.Helper()
	before := s.read(t, r.Kind)
	bound := before
	if earlier := s.old[r.Kind.String()]; r.Stale && earlier != nil {
		bound = earlier
	}
	err := s.do(t.Context(), r, bound)
	after := s.read(t, r.Kind)
	if before != nil && (after == nil || before.GetResourceVersion() != after.GetResourceVersion()) {
		s.old[r.Kind.String()] = before
	}
	o := outcome{Reason: apierrors.ReasonForError(err), Exists: after != nil}
	if after == nil {
		return o
	}
	o.Changed = before == nil || before.GetResourceVersion() != after.GetResourceVersion()
	o.Deleting, o.Finalizers, o.Variant = after.GetDeletionTimestamp() != nil, after.GetFinalizers(), variantOf(after)
	if r.Kind != configMaps {
		o.Generation = after.GetGeneration()
	}
	if r.Kind != flagCaches {
		for _, m := range after.GetManagedFields() {
			o.Managers = append(o.Managers, fmt.Sprint(m.Manager, m.Operation, m.Subresource))
		}
		slices.Sort(o.Managers)
	}
	return o
}

func (s *testedServer) read(t *testing.T, k kind) client.Object {
	t.Helper()
	o := kindInfos[k].new()
	switch err := s.client.Get(t.Context(), client.ObjectKey{Namespace: s.space, Name: name}, o); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		t.Fatalf("reading %s: %v", k, err)
	}
	return o
}

// do makes a request like the operator, with a version as precondition.
func (s *testedServer) do(ctx context.Context, r apiRequest, bound client.Object) error {
	o := s.object(r)
	manager := client.FieldOwner(v1alpha1.FieldManager)
	if r.Verb == "create" {
		return s.client.Create(ctx, o, manager)
	}
	if bound == nil {
		return nil
	}
	bound = bound.DeepCopyObject().(client.Object)
	switch r.Verb {
	case "apply":
		if r.Kind == flagCaches {
			return nil
		}
		return s.client.Patch(ctx, o, applyOf(o, bound), client.ForceOwnership, manager)
	case "adopt":
		return s.adopt(ctx, r.Kind, bound)
	case "finalizer":
		return s.toggleFinalizer(ctx, bound)
	case "status":
		return s.writeStatus(ctx, r, bound)
	default:
		return s.client.Delete(ctx, o, client.Preconditions{UID: ptr.To(bound.GetUID()), ResourceVersion: ptr.To(bound.GetResourceVersion())})
	}
}

func applyOf(o, bound client.Object) client.Patch {
	fields, err := k8sruntime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		panic(err)
	}
	delete(fields, "status")
	metadata := fields["metadata"].(map[string]any)
	metadata["uid"], metadata["resourceVersion"] = string(bound.GetUID()), bound.GetResourceVersion()
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return client.RawPatch(types.ApplyPatchType, text)
}

func (s *testedServer) adopt(ctx context.Context, k kind, bound client.Object) error {
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(bound, sets.New(v1alpha1.FieldManager), v1alpha1.FieldManager)
	if err != nil || patch == nil || k == flagCaches {
		return err
	}
	return s.client.Patch(ctx, bound, client.RawPatch(types.JSONPatchType, patch))
}

func (s *testedServer) toggleFinalizer(ctx context.Context, bound client.Object) error {
	if _, ok := bound.(*v1alpha1.FlagCache); !ok {
		return nil
	}
	patch := client.MergeFromWithOptions(bound.DeepCopyObject().(client.Object), client.MergeFromWithOptimisticLock{})
	if len(bound.GetFinalizers()) > 0 {
		bound.SetFinalizers(nil)
	} else {
		bound.SetFinalizers([]string{v1alpha1.Finalizer})
	}
	return s.client.Patch(ctx, bound, patch, client.FieldOwner(v1alpha1.FieldManager))
}

func (s *testedServer) writeStatus(ctx context.Context, r apiRequest, bound client.Object) error {
	fc, ok := bound.(*v1alpha1.FlagCache)
	if !ok {
		return nil
	}
	patch := client.MergeFromWithOptions(fc.DeepCopy(), client.MergeFromWithOptimisticLock{})
	fc.Status.LastHandledReconcileAt = fmt.Sprint(r.Variant)
	return s.client.Status().Patch(ctx, fc, patch, client.FieldOwner(v1alpha1.FieldManager))
}

// object returns the object of a request, in one of its variants.
func (s *testedServer) object(r apiRequest) client.Object {
	var o client.Object
	switch r.Kind {
	case configMaps:
		o = &corev1.ConfigMap{Data: map[string]string{"variant": fmt.Sprint(r.Variant)}}
	case deployments:
		labels := map[string]string{"app": name}
		o = &appsv1.Deployment{Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To(r.Variant), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}},
		}}
	default:
		fc := aFlagCache()
		fc.Spec.Service.Replicas = ptr.To(r.Variant)
		o = fc
	}
	o.SetName(name)
	o.SetNamespace(s.space)
	o.GetObjectKind().SetGroupVersionKind(kindInfos[r.Kind].gvk)
	return o
}

func variantOf(o client.Object) int32 {
	switch o := o.(type) {
	case *appsv1.Deployment:
		return ptr.Deref(o.Spec.Replicas, 0)
	case *v1alpha1.FlagCache:
		return ptr.Deref(o.Spec.Service.Replicas, 0)
	default:
		var n int32
		if _, err := fmt.Sscan(o.(*corev1.ConfigMap).Data["variant"], &n); err != nil {
			return 0
		}
		return n
	}
}
