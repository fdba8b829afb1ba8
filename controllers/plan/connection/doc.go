// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package connection plans how clients reach the cache: the Connection itself,
// the Secrets that hold it in the keys of the Service Binding specification, and
// the ConfigMap of OpenFeature clients.
//
// Each connection has a Secret of its own, named by its hash, which the pods of a
// revision mount; a wrong password or endpoint therefore reaches only the pods of
// a candidate. The Secret that applications bind to follows the stable revision.
package connection
