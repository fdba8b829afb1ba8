// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers"
)

var _ = Describe("The operator's metrics", func() {
	It("say what the statuses say", func(ctx context.Context) {
		s := newStage(ctx)
		s.create(ctx, s.aFlagCache())
		s.reconcile(ctx)
		want := strings.ReplaceAll(`
# HELP flagcache_canary_weight Share of the traffic that the candidate gets, in percent; 0 without a canary.
# TYPE flagcache_canary_weight gauge
flagcache_canary_weight{name="demo",namespace="NS"} 0
# HELP flagcache_condition A condition of a FlagCache with its present status, True, False or Unknown; always 1.
# TYPE flagcache_condition gauge
flagcache_condition{name="demo",namespace="NS",status="True",type="Reconciling"} 1
flagcache_condition{name="demo",namespace="NS",status="Unknown",type="Ready"} 1
# HELP flagcache_info A FlagCache with its cache type and the revision that serves; always 1.
# TYPE flagcache_info gauge
flagcache_info{cache="InCluster",name="demo",namespace="NS",revision=""} 1
`, "NS", s.namespace)
		Expect(testutil.CollectAndCompare(&controllers.Collector{FlagCaches: client.NewNamespacedClient(k8s, s.namespace)}, strings.NewReader(want))).To(Succeed())
	})
})
