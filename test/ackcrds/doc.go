// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ackcrds installs the CRDs of AWS Controllers for Kubernetes (ACK) in an API
// server: those of ACK's own modules, in the versions of go.mod. Only the CRD of
// MetricAlarm is kept here, because the cloudwatch-controller's module is not available.
package ackcrds
