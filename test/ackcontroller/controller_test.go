// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackcontroller_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/flagcache/flagcache/test/ackcontroller"
	"github.com/flagcache/flagcache/test/ackcrds"
)

// limit bounds how long the controller may take to write a status.
const limit = 30 * time.Second

// deniedAWS is an AWS that identifies its caller and denies everything else.
func deniedAWS(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("Action") == "GetCallerIdentity" {
			fmt.Fprint(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>`+
				`<Arn>arn:aws:iam::012345678901:user/ack</Arn><UserId>ack</UserId><Account>012345678901</Account>`+
				`</GetCallerIdentityResult></GetCallerIdentityResponse>`)
			return
		}
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>%s is denied</Message></Error>`+
			`<RequestId>1</RequestId></ErrorResponse>`, r.FormValue("Action"))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func startServer(t *testing.T) *rest.Config {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Fatal("KUBEBUILDER_ASSETS is not set: run `make test`, or `make envtest` and set it to bin/envtest")
	}
	server := &envtest.Environment{}
	config, err := server.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := ackcrds.Install(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return config
}

func TestController(t *testing.T) {
	config := startServer(t)
	t.Run("reconciles with the field manager and the permissions of ACK", func(t *testing.T) { testReconciles(t, config) })
	t.Run("reports why it did not start", func(t *testing.T) { testReportsWhyItDidNotStart(t, config) })
}

func testReconciles(t *testing.T, config *rest.Config) {
	ack, err := ackcontroller.Start(t.Context(), ackcontroller.Options{Config: config, Endpoint: deniedAWS(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ack.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(ack.Log())
		}
	})
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	user := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"userID": "reader", "userName": "reader", "engine": "redis", "accessString": "on ~* +@read",
	}}}
	user.SetGroupVersionKind(schema.GroupVersionKind{Group: "elasticache.services.k8s.aws", Version: "v1alpha1", Kind: "User"})
	user.SetNamespace("default")
	user.SetName("reader")
	if err := c.Create(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	err = wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, limit, true, func(ctx context.Context) (bool, error) {
		err := c.Get(ctx, client.ObjectKeyFromObject(user), user)
		return strings.Contains(fmt.Sprint(user.Object["status"]), "DescribeUsers is denied"), err
	})
	if err != nil {
		t.Fatalf("waiting for the error of AWS in the status: %v\n%v", err, user.Object["status"])
	}
	if !slices.ContainsFunc(user.GetManagedFields(), func(f metav1.ManagedFieldsEntry) bool {
		return f.Manager == "controller" && f.Subresource == "status"
	}) {
		t.Errorf("the status has no field manager called controller, which is ACK's: %v", user.GetManagedFields())
	}
	expectAllowed(t, config, "patch", "elasticache.services.k8s.aws", "users", true)
	expectAllowed(t, config, "create", "", "secrets", false)
	expectAllowed(t, config, "list", "apps", "deployments", false)
}

// expectAllowed checks a permission of the controller's service account.
func expectAllowed(t *testing.T, config *rest.Config, verb, group, resource string, allowed bool) {
	t.Helper()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:               "system:serviceaccount:" + ackcontroller.Namespace + ":" + ackcontroller.ServiceAccount,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Group: group, Resource: resource},
	}}
	review, err := kubernetes.NewForConfigOrDie(config).AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if review.Status.Allowed != allowed {
		t.Errorf("%s %s.%s: allowed is %v", verb, resource, group, review.Status.Allowed)
	}
}

func testReportsWhyItDidNotStart(t *testing.T, config *rest.Config) {
	_, err := ackcontroller.Start(t.Context(), ackcontroller.Options{Config: config, Endpoint: deniedAWS(t), Args: []string{"--no-such-flag"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-flag") {
		t.Errorf("the error does not have the controller's output: %v", err)
	}
}
