// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/flagcache/flagcache/test/cluster"
)

var (
	// local is the cluster that all specs share.
	local *cluster.Cluster
	// record is what this process recorded of the cluster.
	record *recorder
)

func TestEndToEnd(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyPollingInterval(100 * time.Millisecond)
	SetDefaultEventuallyTimeout(soon)
	EnforceDefaultTimeoutsWhenUsingContexts()
	RunSpecs(t, "FlagCache from end to end")
}

// shared is what the first process passes to the others.
type shared struct{ Kube, Dir string }

// The first process starts the cluster and records everything; the others join it and
// record what their own specs read.
var _ = SynchronizedBeforeSuite(func(ctx context.Context) []byte {
	ctrllog.SetLogger(GinkgoLogr)
	programs, err := cluster.FindPrograms()
	Expect(err).NotTo(HaveOccurred(), "make test-e2e builds what the tests run")
	Expect(programs.Redis).NotTo(BeEmpty(), "redis-server is not in PATH: make redis installs it")
	Expect(programs.ACK).NotTo(BeEmpty(), "make ack builds it")
	Expect(programs.AWSPlayer).NotTo(BeEmpty(), "make awsplayer builds it")

	By("starting a cluster")
	images := programs.Images()
	images[imageFaulty] = buildFaulty(ctx, programs.FlagService)
	images[imageGateway] = built(ctx, "./gateway")
	local, err = cluster.Start(ctx, cluster.Options{Kube: programs.Kube, Images: images, Progress: func(line string) {
		GinkgoWriter.Println("  " + line)
	}})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(local.Stop()).To(Succeed()) })
	record = startRecorder(local, wholeCluster)
	DeferCleanup(record.stop)

	By("installing the operator")
	Expect(local.Deploy(ctx)).To(Succeed())
	joined, err := json.Marshal(shared{Kube: programs.Kube, Dir: local.Dir})
	Expect(err).NotTo(HaveOccurred())
	return joined
}, func(_ context.Context, joined []byte) {
	if local != nil {
		return
	}
	ctrllog.SetLogger(GinkgoLogr)
	var first shared
	Expect(json.Unmarshal(joined, &first)).To(Succeed())
	var err error
	local, err = cluster.Join(first.Kube, first.Dir)
	Expect(err).NotTo(HaveOccurred())
	record = startRecorder(local, flagCachesOnly)
	DeferCleanup(record.stop)
})

// After all specs the first process judges what it recorded of all of them.
var _ = SynchronizedAfterSuite(func() {}, func() {
	if record != nil {
		record.expectKstatusAgrees()
		record.expectKnownCalls()
		record.expectNoSecretLeaked()
		record.expectNoErrorsLogged()
	}
})

var _ = AfterEach(func(ctx context.Context) {
	if CurrentSpecReport().Failed() {
		AddReportEntry("The operator's log", local.OperatorLog(ctx, 60))
		AddReportEntry("The last FlagCaches", record.lastFlagCaches())
	}
	record.expectKstatusAgrees(ownNamespaces...)
})
