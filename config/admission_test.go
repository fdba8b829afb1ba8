// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// requestNames are the annotations that the operator obeys, without their domain.
func requestNames() []string {
	var names []string
	for _, key := range v1alpha1.RequestAnnotations() {
		names = append(names, strings.TrimPrefix(key, v1alpha1.GroupVersion.Group+"/"))
	}
	slices.Sort(names)
	return names
}

// TestAdmissionHasEveryRequest: an annotation that the operator obeys, and the policy does not
// know, could be set by whoever may edit a FlagCache.
func TestAdmissionHasEveryRequest(t *testing.T) {
	text, err := os.ReadFile("admission/requests.yaml")
	must(t, err)
	document, _, _ := strings.Cut(string(text), "\n---\n")
	policy := &admissionv1.ValidatingAdmissionPolicy{}
	must(t, yaml.UnmarshalStrict([]byte(document), policy))
	i := slices.IndexFunc(policy.Spec.Variables, func(v admissionv1.Variable) bool { return v.Name == "changed" })
	if i < 0 {
		t.Fatal("the policy has no variable changed")
	}
	list, _, _ := strings.Cut(strings.TrimPrefix(policy.Spec.Variables[i].Expression, "["), "]")
	if diff := cmp.Diff("'"+strings.Join(requestNames(), "', '")+"'", list); diff != "" {
		t.Errorf("annotations of the variable changed (-want +got):\n%s", diff)
	}
	var want, got []string
	for _, name := range requestNames() {
		want = append(want, fmt.Sprintf("!('%[1]s' in variables.changed) || authorizer.group('flagcache.dev').resource('flagcaches').subresource('%[1]s').namespace(request.namespace).name(object.metadata.name).check('update').allowed(): "+
			"changing the annotation flagcache.dev/%[1]s requires the permission to update flagcaches/%[1]s in the namespace", name))
	}
	for _, v := range policy.Spec.Validations {
		if strings.Contains(v.Expression, "variables.changed") {
			got = append(got, v.Expression+": "+v.Message)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("validations (-want +got):\n%s", diff)
	}
}

// TestRolesGiveEveryRequest: each request is in a role of people, and no role has one that
// does not exist.
func TestRolesGiveEveryRequest(t *testing.T) {
	files, err := filepath.Glob("rbac/flagcache_*_role.yaml")
	must(t, err)
	given := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		role := &rbacv1.ClusterRole{}
		must(t, yaml.UnmarshalStrict(text, role))
		for _, rule := range role.Rules {
			for _, resource := range rule.Resources {
				name, ok := strings.CutPrefix(resource, "flagcaches/")
				if !ok || slices.Contains([]string{"elasticache", "finalizers", "status"}, name) {
					continue
				}
				given[name] = true
				if !slices.Contains(requestNames(), name) {
					t.Errorf("%s has %s, which is no request by annotation", file, resource)
				}
			}
		}
	}
	for _, name := range requestNames() {
		if !given[name] {
			t.Errorf("no role has flagcaches/%s", name)
		}
	}
}
