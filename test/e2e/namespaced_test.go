// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"os"
	"path/filepath"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/flagcache/flagcache/test/programs"
)

// Serial, because the operator of the cluster is stopped.
var _ = Describe("An operator with permissions in its own namespace only", Serial, func() {
	It("works there and nowhere else", func(ctx context.Context) {
		here, elsewhere := aNamespace(ctx), aNamespace(ctx)
		stopOperator(ctx)
		DeferCleanup(startOperator)
		installNamespaced(ctx, here)

		mine, theirs := aFlagCache(here, "mine"), aFlagCache(elsewhere, "theirs")
		created(ctx, someFlags(here), someFlags(elsewhere), theirs, mine)
		expectReady(ctx, mine)
		expectEveryPodServes(ctx, mine, "colour", "blue")
		Expect(read(ctx, theirs).Status.Conditions).To(BeEmpty())

		Expect(local.Client.Delete(ctx, mine)).To(Succeed())
		expectDeleted(ctx, mine)
		Expect(read(ctx, theirs).Finalizers).To(BeEmpty())
	})
})

// installNamespaced installs config/namespaced into a namespace.
func installNamespaced(ctx context.Context, namespace string) {
	GinkgoHelper()
	root, err := programs.Root()
	Expect(err).NotTo(HaveOccurred())
	overlay := GinkgoT().TempDir()
	base, err := filepath.Rel(overlay, filepath.Join(root, "config", "namespaced"))
	Expect(err).NotTo(HaveOccurred())
	kustomization := "namespace: " + namespace + "\nresources: [" + base + "]\n"
	Expect(os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), []byte(kustomization), 0o600)).To(Succeed())
	kubectl(ctx, "apply", "--server-side", "--kustomize", overlay)
	Expect(local.AwaitOperator(ctx, namespace)).To(Succeed())
}
