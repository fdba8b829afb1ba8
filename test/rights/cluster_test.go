// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package rights

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// cluster is an API server with both installations.
type cluster struct {
	client *kubernetes.Clientset
	config *rest.Config
	// roles are those of the operator of config/default.
	roles []role
}

func startCluster(t *testing.T) cluster {
	t.Helper()
	server := &envtest.Environment{}
	// Who sets an owner that is deleted last must be allowed to update its finalizers, as
	// in OpenShift.
	server.ControlPlane.GetAPIServer().Configure().Append("enable-admission-plugins", "OwnerReferencesPermissionEnforcement")
	config, err := server.Start()
	if err != nil {
		t.Fatalf("starting an API server (KUBEBUILDER_ASSETS says from where; make test sets it): %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stopping the API server: %v", err)
		}
	})
	admin, err := server.AddUser(envtest.User{Name: "admin", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	command, err := admin.Kubectl()
	if err != nil {
		t.Fatal(err)
	}
	kubectl := kubectl{command.Path, command.Opts}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	dependOn(t, "../../config")
	kubectl.run(t, "apply", "-k", "../../config/default")
	kubectl.run(t, "create", "namespace", tenantNamespace)
	kubectl.run(t, "apply", "--namespace="+tenantNamespace, "-f", "../../config/samples/flagcache_minimal.yaml")
	applyNamespaced(t, kubectl, namespacedInstall)
	c := cluster{client: client, config: config}
	c.readRoles(t)
	if len(c.roles) < 3 {
		t.Fatalf("the operator has %d roles", len(c.roles))
	}
	return c
}

// namespacedInstall is a namespace with the operator of config/namespaced.
const namespacedInstall = "flagcache-alone"

// applyNamespaced installs config/namespaced into a namespace.
func applyNamespaced(t *testing.T, kubectl kubectl, namespace string) {
	t.Helper()
	manifests := strings.ReplaceAll(kubectl.run(t, "kustomize", "../../config/namespaced"), operatorNamespace, namespace)
	if strings.Contains(manifests, "\nkind: Cluster") {
		t.Errorf("config/namespaced has objects of the whole cluster")
	}
	path := filepath.Join(t.TempDir(), "namespaced.yaml")
	if err := os.WriteFile(path, []byte(manifests), 0o600); err != nil {
		t.Fatal(err)
	}
	kubectl.run(t, "create", "namespace", namespace)
	kubectl.run(t, "apply", "-f", path)
}

// dependOn reads all files of a directory, which kubectl reads, so that go test does not
// take the result of an earlier run for that of changed files.
func dependOn(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			_, err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// kubectl is a kubectl of an administrator, with its options.
type kubectl struct {
	path    string
	options []string
}

// run returns the output of a command.
func (k kubectl) run(t *testing.T, args ...string) string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), k.path, append(slices.Clone(k.options), args...)...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	if err != nil {
		t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return string(output)
}

// readRoles reads the roles that are bound to the operator of config/default.
func (c *cluster) readRoles(t *testing.T) {
	t.Helper()
	bindings, err := c.client.RbacV1().ClusterRoleBindings().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range bindings.Items {
		if !bindsOperator(b.Subjects) {
			continue
		}
		bound, err := c.client.RbacV1().ClusterRoles().Get(t.Context(), b.RoleRef.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c.roles = append(c.roles, role{name: bound.Name, rules: bound.Rules})
	}
	local, err := c.client.RbacV1().RoleBindings(operatorNamespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range local.Items {
		if !bindsOperator(b.Subjects) {
			continue
		}
		bound, err := c.client.RbacV1().Roles(operatorNamespace).Get(t.Context(), b.RoleRef.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c.roles = append(c.roles, role{name: bound.Name, namespace: operatorNamespace, rules: bound.Rules})
	}
}

func bindsOperator(subjects []rbacv1.Subject) bool {
	return slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool { return s.Name == Account && s.Namespace == operatorNamespace })
}

// operatorIn is the user name of an installation's operator.
func operatorIn(install string) string {
	namespace := operatorNamespace
	if install == Namespaced {
		namespace = namespacedInstall
	}
	return "system:serviceaccount:" + namespace + ":" + Account
}

// variant is a user with a role without its permission i.
func variant(r role, i int) string { return fmt.Sprintf("%s-%d", r.name, i) }

// createVariants creates, for each permission of a role, a user that lacks it, and a group
// with the permissions of all other roles.
func (c *cluster) createVariants(t *testing.T, r role) {
	t.Helper()
	for _, other := range c.roles {
		if other.name != r.name {
			c.bind(t, everythingElse+r.name+"-"+other.name, role{name: other.name, namespace: other.namespace, rules: other.rules},
				rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: everythingElse + r.name})
		}
	}
	for i, p := range r.permissions() {
		user := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: variant(r, i)}
		c.bind(t, user.Name, role{namespace: r.namespace, rules: r.without(p)}, user)
	}
	// The authorizer learns of the last one last.
	last := variant(r, len(r.permissions())-1)
	call := Call{Install: Default, Scope: Own, Verb: marker.verb, Group: marker.group, Resource: marker.resource}
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, effective, true, func(context.Context) (bool, error) {
		return c.permitted(t, call, last, nil), nil
	})
	if err != nil {
		t.Fatalf("waiting for the authorizer: %v", err)
	}
}

// expectOwnersNeed expects that the operator may set FlagCaches as owners, and a user may
// not.
func (c *cluster) expectOwnersNeed(t *testing.T, user string, groups []string) {
	t.Helper()
	flagCache := &unstructured.Unstructured{}
	text, err := c.client.RESTClient().Get().AbsPath("/apis/flagcache.dev/v1alpha1/namespaces/" + tenantNamespace + "/flagcaches/minimal").DoRaw(t.Context())
	if err == nil {
		err = flagCache.UnmarshalJSON(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	create := func(user string, groups []string) error {
		as := rest.CopyConfig(c.config)
		as.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: groups}
		client, err := kubernetes.NewForConfig(as)
		if err != nil {
			t.Fatal(err)
		}
		owned := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "owned-", OwnerReferences: []metav1.OwnerReference{
			*metav1.NewControllerRef(flagCache, flagCache.GroupVersionKind()),
		}}}
		_, err = client.CoreV1().ConfigMaps(tenantNamespace).Create(t.Context(), owned, metav1.CreateOptions{})
		return err
	}
	// The API server learns of new kinds only now and then.
	err = wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, effective, true, func(context.Context) (bool, error) {
		err = create(operatorIn(Default), nil)
		return err == nil, nil
	})
	if err != nil {
		t.Fatalf("creating an object with an owner: %v", err)
	}
	if err := create(user, groups); err == nil || !strings.Contains(err.Error(), "blockOwnerDeletion") {
		t.Errorf("creating an object with an owner, without %q: %v", setsOwner, err)
	}
}

// bind creates a role and binds it to a subject.
func (c *cluster) bind(t *testing.T, name string, r role, subject rbacv1.Subject) {
	t.Helper()
	meta, ref := metav1.ObjectMeta{Name: name}, rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}
	_, err := c.client.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: meta, Rules: r.rules}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r.namespace != "" {
		binding := &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: []rbacv1.Subject{subject}}
		_, err = c.client.RbacV1().RoleBindings(r.namespace).Create(t.Context(), binding, metav1.CreateOptions{})
	} else {
		binding := &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: ref, Subjects: []rbacv1.Subject{subject}}
		_, err = c.client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// permitted asks the API server's authorizer about a call of a user.
func (c *cluster) permitted(t *testing.T, call Call, user string, groups []string) bool {
	t.Helper()
	resource, subresource, _ := strings.Cut(call.Resource, "/")
	attributes := &authorizationv1.ResourceAttributes{
		Verb: call.Verb, Group: call.Group, Version: "*", Resource: resource, Subresource: subresource,
	}
	switch call.Scope {
	case Own:
		attributes.Namespace = operatorNamespace
		if call.Install == Namespaced {
			attributes.Namespace = namespacedInstall
		}
	case Other:
		attributes.Namespace = tenantNamespace
	}
	for p, namespace := range named {
		if p.group == call.Group && p.resource == resource {
			attributes.Namespace, attributes.Name = namespace, p.name
		}
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user, Groups: append(groups, "system:authenticated"), ResourceAttributes: attributes,
	}}
	answer, err := c.client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Allowed
}
