// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ackcontroller runs the elasticache-controller of AWS Controllers for
// Kubernetes (ACK) as a process beside an API server. It is the controller's own code,
// built by hack/tools/ack, with the ClusterRole of its module.
//
//	tests ──▶ API server ◀── controller ──▶ AWS's API at Options.Endpoint
//
// There are two builds. Released polls objects that are not in sync every 30 seconds, as
// ACK's image does. Quick polls every second, and differs from it in that constant alone.
package ackcontroller
