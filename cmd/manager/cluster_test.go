// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

func TestClusterID(t *testing.T) {
	namespaces := corev1.Resource("namespaces")
	for name, test := range map[string]struct {
		configured string
		err        error
		want       string
		fails      bool
	}{
		"the UID of kube-system":                 {want: "uid-of-kube-system"},
		"as configured, whatever may be read":    {configured: "blue", err: errors.New("not to be called"), want: "blue"},
		"unknown without the permission":         {err: apierrors.NewForbidden(namespaces, "kube-system", nil)},
		"unknown where there is no such name":    {err: apierrors.NewNotFound(namespaces, "kube-system")},
		"an error while the API server is away":  {err: errors.New("connection refused"), fails: true},
		"an error while the API server is upset": {err: apierrors.NewInternalError(errors.New("etcd")), fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			reader := fake.NewClientBuilder().
				WithObjects(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: "uid-of-kube-system"}}).
				WithInterceptorFuncs(interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
					if test.err != nil {
						return test.err
					}
					return c.Get(ctx, key, o, opts...)
				}}).Build()
			got, err := clusterID(t.Context(), reader, test.configured, logr.Discard())
			if got != test.want || (err != nil) != test.fails {
				t.Errorf("%q with error %v, want %q", got, err, test.want)
			}
		})
	}
}
