// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rights holds what the operator asks of the API server: the calls that the
// end-to-end tests recorded from the audit log. The test of the manifests compares them
// with the operator's roles: each call is permitted, and each permission is needed.
//
// A call is a line of text such as
//
//	default other patch deployments.apps
//
// which is the installation, the namespaces, the verb and the resource.
package rights
