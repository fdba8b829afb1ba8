// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster brings a cluster up and down. A cluster lives in one directory
// and, unless it has no node, in namespaces of its own:
//
//	kube up                                 cluster-init (process 1)
//	  | makes the namespaces, passes ----->   network of the node
//	  | in the port of the API server         etcd, kube-apiserver,
//	  |                                       kube-controller-manager,
//	  | waits until users can rely on it      kube-scheduler, node
//	  |                                         +-- pods
//	  v
//	killed: the kernel ends process 1 and with it everything else
package cluster
