// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/test/cluster"
)

var _ = Describe("The operator's metrics", func() {
	It("are for clients that may read them", func(ctx context.Context) {
		namespace := aNamespace(ctx)
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "prometheus"}}
		created(ctx, account)
		token := tokenOf(ctx, account)
		Eventually(ctx, func() int { status, _ := operatorMetrics(ctx, ""); return status }).Should(Equal(http.StatusUnauthorized), "without a token")
		status, _ := operatorMetrics(ctx, token)
		Expect(status).To(Equal(http.StatusForbidden), "without the permission")

		binding := &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: namespace},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "flagcache-metrics-reader"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account.Name}},
		}
		created(ctx, binding)
		DeferCleanup(func(ctx context.Context) { Expect(local.Client.Delete(ctx, binding)).To(Succeed()) })
		var text string
		// A denial is cached for some seconds.
		Eventually(ctx, func() int { status, text = operatorMetrics(ctx, token); return status }).WithTimeout(soon).Should(Equal(http.StatusOK))
		Expect(text).To(ContainSubstring("controller_runtime_reconcile_total"))
		keep("metrics of the operator", namespace, text)
	})
})

// operatorMetrics requests the operator's metrics with a token, or without one if it is "".
func operatorMetrics(ctx context.Context, token string) (status int, text string) {
	GinkgoHelper()
	url := "https://flagcache-controller-manager-metrics-service." + cluster.OperatorNamespace + ".svc:8443/metrics"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	Expect(err).NotTo(HaveOccurred())
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	web := &http.Client{Transport: &http.Transport{
		DialContext: local.Dial, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the operator's certificate is its own
	}}
	response, err := web.Do(request)
	if err != nil {
		return 0, err.Error() // it may be starting
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	Expect(err).NotTo(HaveOccurred())
	return response.StatusCode, string(body)
}

// tokenOf is a token of a ServiceAccount.
func tokenOf(ctx context.Context, account *corev1.ServiceAccount) string {
	GinkgoHelper()
	request := &authenticationv1.TokenRequest{}
	Expect(local.Client.SubResource("token").Create(ctx, account, request)).To(Succeed())
	return request.Status.Token
}
