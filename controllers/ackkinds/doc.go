// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ackkinds watches the kinds of AWS Controllers for Kubernetes (ACK) while
// the cluster serves them. ACK may be installed after the operator, or removed:
//
//	discovery ──▶ kind appears  ──▶ cache and client of the kind ──▶ reconcile
//	          ├─▶ kind is removed ──▶ cache stopped              ──▶ reconcile
//	          └─▶ schema changes  ──▶ fields that it lacks       ──▶ reconcile
//
// Kinds is a source of the controller; its Client routes requests for ACK's kinds to
// the client of the kind, and all others to the manager's client.
package ackkinds
