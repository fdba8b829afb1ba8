// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package rights

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	operatorNamespace = "flagcache-system"
	tenantNamespace   = "shop"
	// everythingElse is a group that has all permissions of the operator but those of one
	// role, followed by the name of that role.
	everythingElse = "everything-but-"
)

// effective bounds the time until the API server follows a change.
const effective = 30 * time.Second

// role is a Role or ClusterRole that is bound to the operator.
type role struct {
	name string
	// namespace is "" for a ClusterRole.
	namespace string
	rules     []rbacv1.PolicyRule
}

// permission is one verb on one resource.
// Its name is that of the one object that it is for, "" for all.
type permission struct{ group, resource, verb, name string }

func (p permission) String() string {
	return strings.TrimSpace(p.verb + " " + Qualified(p.group, p.resource) + " " + p.name)
}

// permissions are all of a role.
func (r role) permissions() []permission {
	var all []permission
	for _, rule := range r.rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					p := permission{group: group, resource: resource, verb: verb}
					if len(rule.ResourceNames) == 0 {
						all = append(all, p)
					}
					for _, p.name = range rule.ResourceNames {
						all = append(all, p)
					}
				}
			}
		}
	}
	return all
}

// without are the rules of a role without one permission.
func (r role) without(p permission) []rbacv1.PolicyRule {
	rules := []rbacv1.PolicyRule{ruleFor(marker)}
	for _, other := range r.permissions() {
		if other != p {
			rules = append(rules, ruleFor(other))
		}
	}
	return rules
}

func ruleFor(p permission) rbacv1.PolicyRule {
	rule := rbacv1.PolicyRule{APIGroups: []string{p.group}, Resources: []string{p.resource}, Verbs: []string{p.verb}}
	if p.name != "" {
		rule.ResourceNames = []string{p.name}
	}
	return rule
}

// setsOwner is a permission that no call shows. The admission plugin
// OwnerReferencesPermissionEnforcement, which OpenShift enables, demands it of who sets an
// owner that is deleted after the object.
var setsOwner = permission{group: "flagcache.dev", resource: "flagcaches/finalizers", verb: "update"}

// identifiesCluster is the permission to get the namespace whose UID is that of the cluster.
var identifiesCluster = permission{resource: "namespaces", verb: "get", name: metav1.NamespaceSystem}

// locatesAPIServer is the permission to get the EndpointSlice of the API servers.
var locatesAPIServer = permission{group: "discovery.k8s.io", resource: "endpointslices", verb: "get", name: "kubernetes"}

// named are the permissions for one object, with its namespace.
var named = map[permission]string{identifiesCluster: metav1.NamespaceSystem, locatesAPIServer: metav1.NamespaceDefault}

// marker is a permission of each variant of a role, to learn that it is in effect.
var marker = permission{group: "test.flagcache.dev", resource: "markers", verb: "get"}

// TestOperatorHasItsRights compares the operator's roles with the calls that the end-to-end tests
// recorded, by the authorizer of a real API server: each call is permitted, and is not
// without the permission that it needs; no permission is needed by no call.
func TestOperatorHasItsRights(t *testing.T) {
	c := startCluster(t)
	calls := readCalls(t)

	t.Run("each call of the operator is permitted", func(t *testing.T) {
		for _, call := range calls {
			if !c.permitted(t, call, operatorIn(call.Install), nil) {
				t.Errorf("the operator may not %s", call)
			}
		}
	})

	for _, r := range c.roles {
		t.Run("each permission of "+r.name+" is needed", func(t *testing.T) {
			c.createVariants(t, r)
			for i, p := range r.permissions() {
				user, groups := variant(r, i), []string{everythingElse + r.name}
				if p == setsOwner {
					c.expectOwnersNeed(t, user, groups)
					continue
				}
				call, ok := callThatNeeds(p, r, calls)
				if !ok && listsWithoutStreaming(p, r, calls) {
					continue
				}
				if !ok {
					t.Errorf("no call of the operator needs %q: remove it, or add an end-to-end test that does", p)
					continue
				}
				if c.permitted(t, call, user, groups) {
					t.Errorf("the operator may %s without %q", call, p)
				}
			}
		})
	}

	t.Run("nobody gets what is forbidden", func(t *testing.T) {
		for _, r := range c.roles {
			for _, p := range r.permissions() {
				if reason := forbidden(p); reason != "" {
					t.Errorf("%s has %q: %s", r.name, p, reason)
				}
			}
		}
	})

	t.Run("the operator for one namespace may do nothing in others", func(t *testing.T) {
		for _, call := range calls {
			for _, scope := range []string{Other, All} {
				call.Install, call.Scope = Namespaced, scope
				if c.permitted(t, call, operatorIn(Namespaced), nil) {
					t.Errorf("it may %s", call)
				}
			}
		}
	})
}

// callThatNeeds returns a call that needs a permission of a role.
func callThatNeeds(p permission, r role, calls []Call) (Call, bool) {
	for _, call := range calls {
		needs := call.Install == Default && permission{call.Group, call.Resource, call.Verb, p.name} == p
		// A permission in all namespaces needs a call in another one than the operator's.
		if needs && (call.Scope == Own) == (r.namespace != "") {
			return call, true
		}
	}
	return Call{}, false
}

// listsWithoutStreaming reports whether a permission is for the lists of an informer. An API
// server that can send them at the beginning of a watch, as here, is not asked for them.
func listsWithoutStreaming(p permission, r role, calls []Call) bool {
	watch := p
	watch.verb = "watch"
	_, watched := callThatNeeds(watch, r, calls)
	return p.verb == "list" && watched
}

// forbidden is why the operator must never have a permission, "" if it may.
func forbidden(p permission) string {
	reads := []string{"get", "list", "watch"}
	switch resource, subresource, _ := strings.Cut(p.resource, "/"); {
	case slices.Contains([]string{p.group, p.resource, p.verb}, "*"):
		return "permissions are listed one by one"
	case slices.Contains([]string{"escalate", "bind", "impersonate", "approve", "sign"}, p.verb):
		return "it gives any other permission"
	case p.verb == "deletecollection":
		return "objects are deleted one by one"
	case resource == "pods" && !slices.Contains(reads, p.verb), resource == "pods" && subresource != "":
		return "pods are written by Kubernetes, and nobody enters them"
	case resource == "serviceaccounts" && subresource != "":
		return "it gives the permissions of any other account"
	case p == identifiesCluster:
		return ""
	case p.group == rbacv1.GroupName, resource == "namespaces", resource == "nodes", resource == "customresourcedefinitions",
		strings.HasPrefix(p.group, "admissionregistration"), strings.HasPrefix(p.group, "certificates"):
		return "it is the administrator's"
	case p.group == "flagcache.dev" && p.resource == "flagcaches" && slices.Contains([]string{"create", "update", "delete"}, p.verb):
		return "FlagCaches are the user's"
	}
	return ""
}

// readCalls reads the calls that the end-to-end tests recorded.
func readCalls(t *testing.T) []Call {
	t.Helper()
	file, err := os.Open("../e2e/testdata/calls.golden")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	calls, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(calls) < 50 {
		t.Fatalf("there are %d calls", len(calls))
	}
	return calls
}
