// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ack is the part that FlagCache uses of the API of AWS Controllers for
// Kubernetes (https://aws-controllers-k8s.github.io/docs): which fields it
// writes, which it reads, and what the conditions mean. ACK's own modules bring
// each service's whole SDK along; the wire is what counts, and these types say
// only what is used of it.
//
// Everything is written as server-side apply of the fields that stand in a Spec,
// so a field that is left out here belongs to somebody else. Nothing read from
// here is ever written back whole.
//
// +kubebuilder:object:generate=true
package ack
