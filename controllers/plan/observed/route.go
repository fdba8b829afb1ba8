// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// RouteState is what looking for an HTTPRoute found.
type RouteState int

// What looking for an HTTPRoute finds.
const (
	// RouteAbsent: there is none of that name.
	RouteAbsent RouteState = iota
	// RouteUnknownKind: the cluster does not know HTTPRoutes.
	RouteUnknownKind
	// RouteThere: it was read.
	RouteThere
)

// Route is an HTTPRoute of a user's.
type Route struct {
	State RouteState
	// Object is the route that is there, with all its fields: what a newer version
	// of its kind has must survive a change of weights.
	Object *unstructured.Unstructured
}
