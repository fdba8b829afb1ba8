// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package e2e tests all of FlagCache on a real cluster: real control plane, real
// kubelet, real Redis, and the operator as config/ installs it, under its own
// ServiceAccount.
//
// The specs describe what a user observes who applies, changes and deletes FlagCaches.
// They share one cluster, each in namespaces of its own under the Pod Security level
// "restricted", and run in parallel in several processes. Specs that affect all
// others, such as those that stop or kill the operator, are Serial and say why.
//
// A recorder watches the whole run: every version of every object, the log of every
// container, metrics, what the kubectl plugin prints, and the audit log of the API server.
// After each spec it compares the status that kstatus, which GitOps tools use, computes of
// each version with what the version reports. After the last one it searches everything for
// the values of all Secrets (test/leak), and compares what the operator asked of the API
// server with testdata/calls.golden, which the operator's roles are compared with
// (test/rights). After a change of those calls, rewrite the file with a whole run:
//
//	make test-e2e E2E_FLAGS=-update
//
//	make test-e2e
package e2e
