// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ack contains the part of the API of AWS Controllers for Kubernetes (ACK,
// https://aws-controllers-k8s.github.io/docs) that FlagCache uses: the fields that it
// writes and reads, and the meaning of the conditions. ACK's own modules depend on the
// whole SDK of each service; these types match their JSON.
//
// Objects are written by server-side apply of the fields of a Spec, so fields that are
// missing here belong to other writers. No object is written back as it was read.
//
// +kubebuilder:object:generate=true
package ack
