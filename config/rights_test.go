// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// The users of the test: the roles that they have in namespace shop, and which requests by
// annotation those permit.
var users = map[string]struct {
	roles, annotations []string
	elastiCache        bool
}{
	"editor": {roles: []string{"editor"}},
	"on-call": {
		roles:       []string{"editor", "rollout"},
		annotations: []string{v1alpha1.AnnotationAbort, v1alpha1.AnnotationPause, v1alpha1.AnnotationPromote, v1alpha1.AnnotationResume, v1alpha1.AnnotationRetry},
	},
	"owner": {
		roles: []string{"admin"},
		annotations: []string{
			v1alpha1.AnnotationAbort, v1alpha1.AnnotationPause, v1alpha1.AnnotationPromote, v1alpha1.AnnotationResume, v1alpha1.AnnotationRetry,
			v1alpha1.AnnotationAdoptChildren, v1alpha1.AnnotationOperator,
		},
	},
	"cloud": {
		roles: []string{"editor", "elasticache-editor"}, elastiCache: true,
		annotations: []string{v1alpha1.AnnotationAdopt, v1alpha1.AnnotationRotateToken},
	},
}

// rights is a cluster in which config/default is installed, with clients of its users.
type rights struct {
	*testing.T
	admin client.Client
	as    map[string]client.Client
}

func TestRights(t *testing.T) {
	r := startRights(t)
	t.Run("requests by annotation", r.annotations)
	t.Run("annotations that stay as they are", r.unchanged)
	t.Run("ElastiCache", r.elastiCache)
	t.Run("controllers of Kubernetes", r.controllers)
	t.Run("the operator", r.operator)
}

// annotations lets each user create a FlagCache with each annotation, set, change and
// remove it.
func (r rights) annotations(t *testing.T) {
	for user, rights := range users {
		for _, key := range v1alpha1.RequestAnnotations() {
			c, may := r.as[user], slices.Contains(rights.annotations, key)
			verify := func(what string, err error) {
				t.Helper()
				expectAllowed(t, fmt.Sprintf("%s %ss %s", user, what, key), err, may, "flagcaches/"+strings.TrimPrefix(key, "flagcache.dev/"))
			}
			created := aFlagCache("created", v1alpha1.CacheInCluster)
			created.Annotations = map[string]string{key: ""}
			verify("create", c.Create(t.Context(), created, client.DryRunAll))

			fc := aFlagCache("demo", v1alpha1.CacheInCluster)
			must(t, r.admin.Create(t.Context(), fc))
			set := func(annotations map[string]string) error {
				changed := fc.DeepCopy()
				changed.Annotations = annotations
				return c.Patch(t.Context(), changed, client.MergeFrom(fc), client.DryRunAll)
			}
			verify("set", set(map[string]string{key: "1", "note": "mine"}))
			fc.Annotations = map[string]string{key: "1"}
			must(t, r.admin.Update(t.Context(), fc))
			verify("change", set(map[string]string{key: "2"}))
			verify("remove", set(nil))
			must(t, r.admin.Delete(t.Context(), fc))
		}
	}
}

// unchanged lets a user change everything else of a FlagCache that has all annotations, as
// tools do that apply all of it again.
func (r rights) unchanged(t *testing.T) {
	fc := aFlagCache("unchanged", v1alpha1.CacheInCluster)
	fc.Annotations = map[string]string{v1alpha1.AnnotationReconcileAt: "1"}
	for _, key := range v1alpha1.RequestAnnotations() {
		fc.Annotations[key] = "1"
	}
	must(t, r.admin.Create(t.Context(), fc))
	editor := r.as["editor"]
	applied := fc.DeepCopy()
	applied.Labels, applied.Annotations["note"], applied.Annotations[v1alpha1.AnnotationReconcileAt] = map[string]string{"team": "shop"}, "mine", "2"
	applied.Spec.Environment, applied.Spec.Suspend = "production", true
	must(t, editor.Update(t.Context(), applied))
	applied.ManagedFields, applied.ResourceVersion = nil, ""
	applied.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("FlagCache"))
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(applied)
	must(t, err)
	delete(content, "status")
	must(t, editor.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: content}), client.FieldOwner("gitops"), client.ForceOwnership))
	must(t, editor.Delete(t.Context(), fc))
}

// elastiCache lets each user create, change and delete a FlagCache with ElastiCache, and
// turn one into the other.
func (r rights) elastiCache(t *testing.T) {
	for user, rights := range users {
		c := r.as[user]
		verify := func(what string, err error) {
			t.Helper()
			expectAllowed(t, user+" "+what, err, rights.elastiCache, "flagcaches/elasticache")
		}
		verify("creates one", c.Create(t.Context(), aFlagCache("created", v1alpha1.CacheElastiCache), client.DryRunAll))

		fc, other := aFlagCache("cloud", v1alpha1.CacheElastiCache), aFlagCache("other", v1alpha1.CacheInCluster)
		must(t, r.admin.Create(t.Context(), fc))
		must(t, r.admin.Create(t.Context(), other))
		patch := func(before *v1alpha1.FlagCache, change func(*v1alpha1.FlagCache)) error {
			after := before.DeepCopy()
			change(after)
			return c.Patch(t.Context(), after, client.MergeFrom(before), client.DryRunAll)
		}
		verify("changes it", patch(fc, func(fc *v1alpha1.FlagCache) { fc.Spec.Cache.ElastiCache.Replicas = 5 }))
		verify("turns it into another", patch(fc, func(fc *v1alpha1.FlagCache) { fc.Spec.Cache = v1alpha1.CacheSpec{Type: v1alpha1.CacheInCluster} }))
		verify("turns another into it", patch(other, func(other *v1alpha1.FlagCache) { other.Spec.Cache = fc.Spec.Cache }))
		verify("deletes it", c.Delete(t.Context(), fc.DeepCopy(), client.DryRunAll))
		must(t, patch(fc, func(fc *v1alpha1.FlagCache) { fc.Labels = map[string]string{"team": "shop"} }))
		must(t, patch(other, func(other *v1alpha1.FlagCache) { other.Spec.Environment = "production" }))
		must(t, c.Delete(t.Context(), other.DeepCopy(), client.DryRunAll))
		must(t, r.admin.Delete(t.Context(), fc))
		must(t, r.admin.Delete(t.Context(), other))
	}
}

// controllers deletes everything in a namespace as its controller does, and something
// without an owner as the garbage collector does.
func (r rights) controllers(t *testing.T) {
	for _, name := range []string{"namespace-controller", "generic-garbage-collector"} {
		fc := aFlagCache("cloud", v1alpha1.CacheElastiCache)
		fc.Annotations = map[string]string{v1alpha1.AnnotationPromote: "1"}
		must(t, r.admin.Create(t.Context(), fc))
		must(t, r.as[name].Delete(t.Context(), fc))
	}
}

// operator adds and removes the finalizer, which others must not.
func (r rights) operator(t *testing.T) {
	operator := r.as["operator"]
	fc := aFlagCache("cloud", v1alpha1.CacheElastiCache)
	fc.Annotations = map[string]string{v1alpha1.AnnotationPromote: "1"}
	must(t, r.admin.Create(t.Context(), fc))
	finalizers := func(c client.Client, list ...string) error {
		changed := fc.DeepCopy()
		changed.Finalizers = list
		return c.Patch(t.Context(), changed, client.MergeFrom(fc))
	}
	must(t, finalizers(operator, v1alpha1.Finalizer))
	must(t, r.admin.Get(t.Context(), client.ObjectKeyFromObject(fc), fc))
	expectAllowed(t, "the editor removes the finalizer", finalizers(r.as["editor"]), false, "flagcaches/finalizers")
	must(t, finalizers(r.as["editor"], v1alpha1.Finalizer, "shop.example.com/mine"))
	must(t, r.admin.Get(t.Context(), client.ObjectKeyFromObject(fc), fc))
	must(t, finalizers(r.as["editor"], v1alpha1.Finalizer))
	must(t, r.admin.Get(t.Context(), client.ObjectKeyFromObject(fc), fc))
	must(t, finalizers(r.as["owner"]))
	must(t, r.admin.Get(t.Context(), client.ObjectKeyFromObject(fc), fc))
	must(t, finalizers(operator, v1alpha1.Finalizer))
	must(t, r.admin.Delete(t.Context(), fc))
	must(t, r.admin.Get(t.Context(), client.ObjectKeyFromObject(fc), fc))
	must(t, finalizers(operator))
	if err := r.admin.Get(t.Context(), client.ObjectKeyFromObject(fc), fc); !apierrors.IsNotFound(err) {
		t.Errorf("the FlagCache is left: %v", err)
	}
}

// startRights installs config/default in an empty cluster, binds the roles, and waits until
// the policies are enforced.
func startRights(t *testing.T) rights {
	t.Helper()
	cluster := startAPIServer(t)
	scheme := runtime.NewScheme()
	must(t, clientgoscheme.AddToScheme(scheme))
	must(t, v1alpha1.AddToScheme(scheme))
	clientOf := func(name string, groups ...string) (client.Client, *envtest.AuthenticatedUser) {
		user, err := cluster.AddUser(envtest.User{Name: name, Groups: groups}, nil)
		must(t, err)
		c, err := client.New(user.Config(), client.Options{Scheme: scheme})
		must(t, err)
		return c, user
	}
	admin, user := clientOf("cluster-admin", "system:masters")
	kubectl, err := user.Kubectl()
	must(t, err)
	if _, stderr, err := kubectl.Run("apply", "--server-side", "-k", "default"); err != nil {
		t.Fatalf("installing config/default: %v\n%s", err, readAll(t, stderr))
	}
	r := rights{T: t, admin: admin, as: map[string]client.Client{}}
	must(t, admin.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}))
	for name, user := range users {
		r.as[name], _ = clientOf(name, "system:authenticated")
		for _, role := range user.roles {
			must(t, admin.Create(t.Context(), &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name + "-" + role},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "flagcache-" + role + "-role"},
				Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
			}))
		}
	}
	for name, account := range map[string]string{
		"operator": "flagcache-system:flagcache-controller-manager", "namespace-controller": "kube-system:namespace-controller",
		"generic-garbage-collector": "kube-system:generic-garbage-collector",
	} {
		r.as[name], _ = clientOf("system:serviceaccount:"+account, "system:authenticated")
	}
	r.awaitPolicies(t)
	return r
}

// awaitPolicies waits until both policies refuse something.
func (r rights) awaitPolicies(t *testing.T) {
	t.Helper()
	promoted := aFlagCache("created", v1alpha1.CacheInCluster)
	promoted.Annotations = map[string]string{v1alpha1.AnnotationPromote: "1"}
	for _, refused := range []*v1alpha1.FlagCache{promoted, aFlagCache("created", v1alpha1.CacheElastiCache)} {
		var last error
		err := wait.PollUntilContextTimeout(t.Context(), 300*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			if err := r.as["editor"].Create(ctx, refused.DeepCopy(), client.DryRunAll); ctx.Err() == nil {
				last = err
			}
			return apierrors.IsForbidden(last) && strings.Contains(last.Error(), "requires the permission"), nil
		})
		if err != nil {
			t.Fatalf("no policy refuses a FlagCache with %s and %v: %v", refused.Spec.Cache.Type, refused.Annotations, last)
		}
	}
}

func aFlagCache(name string, kind v1alpha1.CacheType) *v1alpha1.FlagCache {
	fc := &v1alpha1.FlagCache{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec: v1alpha1.FlagCacheSpec{
			Flags: v1alpha1.FlagsSpec{ConfigMap: &v1alpha1.ConfigMapKey{Name: "flags"}}, Cache: v1alpha1.CacheSpec{Type: kind},
		},
	}
	if kind == v1alpha1.CacheElastiCache {
		fc.Spec.Cache.ElastiCache = &v1alpha1.ElastiCacheSpec{Replicas: 1}
	}
	return fc
}

// expectAllowed checks that a request succeeded, or was refused with the name of the
// permission that is missing.
func expectAllowed(t *testing.T, what string, err error, allowed bool, permission string) {
	t.Helper()
	switch {
	case allowed && err != nil:
		t.Errorf("%s: %v", what, err)
	case !allowed && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), permission)):
		t.Errorf("%s: got %v, want it to be forbidden for the lack of %s", what, err, permission)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
