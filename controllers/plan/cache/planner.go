// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cache is the contract between the plan and the types of caches. A type is
// a package with a Planner; the registry of the types is package caches.
package cache

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/cost"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// Planner plans the caches of one type. It is pure. Base is a Planner of caches that
// consist of nothing but ordinary children of the FlagCache.
type Planner interface {
	// Dependencies are what plans of a FlagCache with a cache of the type rest on,
	// beside the children that every FlagCache has.
	Dependencies(fc *v1alpha1.FlagCache) Dependencies
	// Workload is what pods need to use the cache that the spec requests.
	Workload(fc *v1alpha1.FlagCache) Workload
	// Plan plans the cache that the spec requests.
	Plan(in Input) Part
	// Retire takes down caches of the type that nothing uses any more. It is called
	// with the part of the requested cache, whatever its type.
	Retire(x *observed.Index, part Part) Retirement
	// TearDown takes the next step towards no cache of the type being left, when the
	// FlagCache is deleted.
	TearDown(x *observed.Index) Retirement
	// Bill is what the existing caches of the type are billed as.
	Bill(x *observed.Index) []cost.Group
	// Requested is what the existing caches of the type and the one that the spec requests
	// are billed as. It is called for the type that the spec has.
	Requested(x *observed.Index) []cost.Group
	// ProbeConnection is a connection as the operator's probe uses it.
	ProbeConnection(x *observed.Index, c connection.Connection) connection.Connection
	// Hints are what to do about the size of a cache.
	Hints() Hints
}

// Dependencies are what plans rest on.
type Dependencies struct {
	// Secret that the operator does not own and that holds the connection; "" for none.
	Secret string
	// ACK: a kind of ACK's that is installed and cannot be read is an error, and the
	// FlagCache is reconciled when one is installed or removed.
	ACK bool
	// Current are lists of the kinds of children of which an outdated view would do harm: they are
	// compared with the API server before anything is written.
	Current []List
}

// List is a list of objects of one kind.
type List interface {
	metav1.ListInterface
	runtime.Object
}

// Workload is what pods need to use a cache.
type Workload struct {
	// Annotations of the pods.
	Annotations map[string]string
	// ServiceAccount of the pods; nil for the spec's.
	ServiceAccount *corev1.ServiceAccount
	// Spec of a cache that is created for a revision and deleted with it, as text: its
	// connection differs each time, so that a rejected revision is recognized by the
	// spec. It is "" where the connection does not depend on the revision.
	Spec string
}

// Input is what a Planner decides on.
type Input struct {
	*observed.Index
	// Rejected: the revision that was to use the requested cache was rolled back.
	Rejected bool
	// MayBeRejected: the record of a revision cannot be decoded, so that it may have been
	// rolled back and was to use the requested cache.
	MayBeRejected bool
	// Bill is what the existing caches of all types are billed as.
	Bill []cost.Group
}

// Part is what a Planner decides.
type Part struct {
	// Apply are the cache's objects as they should be, in order.
	Apply []observed.Object
	// Keep are objects that are left as they are.
	Keep []observed.Object
	// Connection is how clients reach the cache; nil while that is unknown.
	Connection *connection.Connection
	// KeepsConnection: while Connection is nil, the one of the stable revision remains
	// published.
	KeepsConnection bool
	// Probe is a connection that is to be probed before anybody uses it; nil for none.
	Probe *connection.Connection
	// Provisioned is the condition CacheProvisioned, Conditions are further ones.
	Provisioned metav1.Condition
	Conditions  []metav1.Condition
	// AdoptableID is the ID in AWS that a group must have to be adopted as the cache that
	// the spec requests, "" if none is.
	AdoptableID string
	// Status has the facts about the cache that Planners know.
	Status v1alpha1.CacheStatus
	// Progress is what is still being done while the cache serves.
	Progress Progress
	// RequeueAfter is when to reconcile again, 0 for never.
	RequeueAfter time.Duration
	Cost         cost.Assessment
}

// Progress is what is being done to a cache that serves. It does not affect Ready, not
// even where CacheProvisioned is False with the same reason.
type Progress struct {
	// Reason and Message of the condition Reconciling; "" for nothing.
	Reason, Message string
}

// States of a cache, for status.cache.state.
const (
	StateProvisioning = "Provisioning"
	StateAvailable    = "Available"
	StateExternal     = "External"
)

// Hints are what to do about the size of a cache, to complete "Memory stays over
// 80 %: ".
type Hints struct {
	HighMemory, HighCPU string
	// Low is shown where there is a smaller node.
	Low string
}

// Retirement is the next step of taking caches down.
type Retirement struct {
	Apply, Delete []observed.Object
	// WaitsFor is what is not deleted yet, for people; "" when nothing is left.
	WaitsFor string
}

// ProbeKey is the key that the probe writes and reads back. It is the FlagCache's
// alone, also on a Redis that several clusters share.
func ProbeKey(fc *v1alpha1.FlagCache) string {
	return "flagcache_probe:" + fc.Namespace + "/" + fc.Name + ":" + string(fc.UID)
}

// Sooner of two times to reconcile again, of which 0 is never.
func Sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
