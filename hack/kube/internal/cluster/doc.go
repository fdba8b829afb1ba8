// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster starts and stops clusters. A cluster has a directory and, unless it
// has no node, its own namespaces:
//
//	kube up                                 cluster-init (process 1)
//	  | makes the namespaces, passes ----->   network of the node
//	  | in the port of the API server         etcd, kube-apiserver,
//	  |                                       kube-controller-manager,
//	  | waits until the cluster is ready      kube-scheduler, node
//	  |                                         +-- pods
//	  v
//	killed: the kernel ends process 1 and with it everything else
package cluster
