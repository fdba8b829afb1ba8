// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/flagcache/flagcache/test/cluster"
)

// What every spec works on.
var (
	local  *cluster.Cluster
	record *recorder
)

func TestEndToEnd(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyPollingInterval(100 * time.Millisecond)
	SetDefaultEventuallyTimeout(time.Minute)
	EnforceDefaultTimeoutsWhenUsingContexts()
	RunSpecs(t, "FlagCache from end to end")
}

var _ = BeforeSuite(func(ctx context.Context) {
	ctrllog.SetLogger(GinkgoLogr)
	programs, err := cluster.FindPrograms()
	Expect(err).NotTo(HaveOccurred(), "make test-e2e builds what the tests run")
	Expect(programs.Redis).NotTo(BeEmpty(), "redis-server is not in PATH: make redis installs it")
	Expect(programs.ACKPlayer).NotTo(BeEmpty(), "make ackplayer builds it")

	By("starting a cluster")
	images := programs.Images()
	images[imageFaulty] = buildFaulty(ctx, programs.FlagService)
	images[imageGateway] = built(ctx, "./gateway")
	local, err = cluster.Start(ctx, cluster.Options{Kube: programs.Kube, Images: images, Progress: func(line string) {
		GinkgoWriter.Println("  " + line)
	}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(local.Stop()).To(Succeed()) })
	record = startRecorder(local)
	DeferCleanup(record.stop)

	By("installing the operator")
	Expect(local.Deploy(ctx)).To(Succeed())
})

var _ = AfterSuite(func(ctx context.Context) {
	if record != nil {
		record.expectNoCredentialTold()
		record.expectNoErrorsLogged()
	}
})

var _ = AfterEach(func(ctx context.Context) {
	if CurrentSpecReport().Failed() {
		AddReportEntry("The operator's log", local.OperatorLog(ctx, 60))
		AddReportEntry("The last FlagCaches", record.lastFlagCaches())
	}
	record.expectKstatusAgrees()
})
