// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ack gathers the API of AWS Controllers for Kubernetes (ACK,
// https://aws-controllers-k8s.github.io/docs) that FlagCache uses: the types of ACK's own
// modules under one name, the kinds in use, and pure readings of their objects. Only
// MetricAlarm is declared here, because the cloudwatch-controller's module is not
// available.
//
// Every field of ACK's types is a pointer. Value reads one, and an absent field as zero.
//
// Objects are written by server-side apply of the fields that FlagCache plans; all others
// belong to other writers. No object is written back as it was read.
//
// +kubebuilder:object:generate=true
package ack
