// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/flagcache/flagcache/test/cluster"
	"github.com/flagcache/flagcache/test/golden"
	"github.com/flagcache/flagcache/test/rights"
)

// callsFile has the calls of the operator of config/default in testdata. The test in
// test/rights compares it with the operator's roles.
const callsFile = "calls.golden"

// deniedCalls are those that the operator does without: one for a single namespace may get neither
// namespace kube-system, and is identified by --cluster-id, nor the endpoints of the API server.
var deniedCalls = rights.SetOf([]rights.Call{
	{Install: rights.Namespaced, Scope: rights.Other, Verb: "get", Resource: "namespaces"},
	{Install: rights.Namespaced, Scope: rights.Other, Verb: "get", Group: "discovery.k8s.io", Resource: "endpointslices"},
})

// expectKnownCalls expects that the operator was denied no other call, and that callsFile has what
// it asked of the API server during the run. What the file has and nothing asked for is
// reported: it depends on which specs ran, and on the time that they had. The flag -update
// rewrites the file.
func (r *recorder) expectKnownCalls() {
	GinkgoHelper()
	seen := r.audit()
	Expect(seen.Denied.NotIn(deniedCalls).String()).To(BeEmpty(), "the operator lacks permissions")
	if flag.Lookup("update").Value.String() == "true" {
		golden.Expect(GinkgoTB(), callsFile, seen.Calls.Of(rights.Default).String())
	}
	file, err := os.Open(filepath.Join("testdata", callsFile))
	Expect(err).NotTo(HaveOccurred())
	defer file.Close()
	calls, err := rights.Parse(file)
	Expect(err).NotTo(HaveOccurred())
	known := rights.SetOf(calls)
	Expect(seen.Calls.Of(rights.Default).NotIn(known).String()).To(BeEmpty(),
		"calls that are not in %s: if they are right, rewrite it with -update", callsFile)
	Expect(seen.Calls.Of(rights.Namespaced).WithoutScope().NotIn(known.WithoutScope()).String()).To(BeEmpty(),
		"calls of the operator for one namespace alone")
	if unseen := known.NotIn(seen.Calls); len(unseen) > 0 && !focused() {
		AddReportEntry("Calls in "+callsFile+" that nothing needed", unseen.String(), ReportEntryVisibilityAlways)
	}
}

// audit reads the audit log of the cluster.
func (r *recorder) audit() rights.Record {
	GinkgoHelper()
	logs, err := filepath.Glob(filepath.Join(r.cluster.Dir, "logs", "audit*.log"))
	Expect(err).NotTo(HaveOccurred())
	if !focused() {
		Expect(logs).NotTo(BeEmpty(), "the local cluster has no audit log: make kube builds one that has")
	}
	var all strings.Builder
	for _, path := range logs {
		text, err := os.ReadFile(path)
		Expect(err).NotTo(HaveOccurred())
		all.Write(text)
	}
	seen, err := rights.ReadAudit(strings.NewReader(all.String()), cluster.OperatorNamespace)
	Expect(err).NotTo(HaveOccurred())
	return seen
}
