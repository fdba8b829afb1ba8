// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package rights

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// log is an audit log. Its last line is incomplete.
const log = `
{"verb":"get","user":{"username":"system:serviceaccount:ops:flagcache-controller-manager"},"objectRef":{"resource":"leases","apiGroup":"coordination.k8s.io","namespace":"ops","name":"a"},"annotations":{"authorization.k8s.io/decision":"allow"}}
{"verb":"patch","user":{"username":"system:serviceaccount:ops:flagcache-controller-manager"},"objectRef":{"resource":"deployments","apiGroup":"apps","namespace":"shop","name":"a"},"responseStatus":{"code":201},"annotations":{"authorization.k8s.io/decision":"allow"}}
{"verb":"patch","user":{"username":"system:serviceaccount:ops:flagcache-controller-manager"},"objectRef":{"resource":"services","namespace":"shop","name":"a"},"responseStatus":{"code":200},"annotations":{"authorization.k8s.io/decision":"allow"}}
{"verb":"patch","user":{"username":"system:serviceaccount:ops:flagcache-controller-manager"},"objectRef":{"resource":"flagcaches","apiGroup":"flagcache.dev","subresource":"status","namespace":"shop","name":"a"},"annotations":{"authorization.k8s.io/decision":"allow"}}
{"verb":"watch","user":{"username":"system:serviceaccount:ops:flagcache-controller-manager"},"objectRef":{"resource":"pods"},"annotations":{"authorization.k8s.io/decision":"allow"}}
{"verb":"list","user":{"username":"system:serviceaccount:alone:flagcache-controller-manager"},"objectRef":{"resource":"secrets","namespace":"alone"},"annotations":{"authorization.k8s.io/decision":"allow"}}
{"verb":"list","user":{"username":"system:serviceaccount:alone:flagcache-controller-manager"},"objectRef":{"resource":"secrets"},"annotations":{"authorization.k8s.io/decision":"forbid"}}
{"verb":"get","user":{"username":"system:serviceaccount:ops:flagcache-controller-manager"},"requestURI":"/apis","annotations":{"authorization.k8s.io/decision":"allow"}}
{"verb":"delete","user":{"username":"system:serviceaccount:shop:gateway"},"objectRef":{"resource":"services","namespace":"shop"},"annotations":{"authorization.k8s.io/decision":"allow"}}
{"verb":"delete","user":{"username":"admin"},"objectRef":{"resource":"services","namespace":"shop"},"annotations":{"authorization.k8s.io/decision":"allow"}}
{"verb":"get","user":{"username":"system:serv`

// lines are its calls.
const lines = `default all watch pods
default other create deployments.apps
default other patch deployments.apps
default other patch flagcaches.flagcache.dev/status
default other patch services
default own get leases.coordination.k8s.io
namespaced own list secrets
`

func TestAuditLogBecomesCalls(t *testing.T) {
	record, err := ReadAudit(strings.NewReader(log), "ops")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(lines, record.Calls.String()); d != "" {
		t.Errorf("calls (-want +got):\n%s", d)
	}
	if d := cmp.Diff("namespaced all list secrets\n", record.Denied.String()); d != "" {
		t.Errorf("denied calls (-want +got):\n%s", d)
	}
	calls, err := Parse(strings.NewReader(lines))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(record.Calls, SetOf(calls)); d != "" {
		t.Errorf("calls as written and as parsed (-want +got):\n%s", d)
	}
	if rest := record.Calls.NotIn(SetOf(calls[1:])); len(rest) != 1 || !rest[calls[0]] {
		t.Errorf("NotIn returned %s", rest)
	}
}

func TestCallsAreComparedWithoutTheirScope(t *testing.T) {
	calls := SetOf([]Call{
		{Install: Default, Scope: Other, Verb: "list", Resource: "secrets"},
		{Install: Namespaced, Scope: Own, Verb: "list", Resource: "secrets"},
		{Install: Namespaced, Scope: Own, Verb: "get", Resource: "secrets"},
	})
	rest := calls.Of(Namespaced).WithoutScope().NotIn(calls.Of(Default).WithoutScope())
	if d := cmp.Diff(Set{{Verb: "get", Resource: "secrets"}: true}, rest); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestDamagedAuditLogIsAnError(t *testing.T) {
	if _, err := ReadAudit(strings.NewReader("{]"), "ops"); err == nil {
		t.Error("no error")
	}
	if _, err := Parse(strings.NewReader("default all get\n")); err == nil {
		t.Error("no error for a call of three fields")
	}
}
