// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package e2e tests all of FlagCache on a real cluster: real control plane, real
// kubelet, real Redis, and the operator as config/ installs it, under its own
// ServiceAccount.
//
// The specs tell what a person sees who applies, changes and deletes FlagCaches,
// and can be read as such. They run one after the other on one cluster, each in a
// namespace of its own under Pod Security's level "restricted".
//
// A recorder watches the whole run: every version of every FlagCache, every
// event, and the log of every container. After each spec it says whether kstatus,
// by which GitOps tools judge, ever called a FlagCache something else than it was;
// after the last one, whether a credential was ever told to anyone.
//
//	make test-e2e
package e2e
