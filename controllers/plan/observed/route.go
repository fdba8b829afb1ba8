// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// RouteState is the result of reading an HTTPRoute.
type RouteState int

// Results of reading an HTTPRoute.
const (
	// RouteAbsent: it does not exist.
	RouteAbsent RouteState = iota
	// RouteUnknownKind: the API server does not serve HTTPRoutes.
	RouteUnknownKind
	// RoutePresent: it was read.
	RoutePresent
)

// Route is an HTTPRoute that a user owns.
type Route struct {
	State RouteState
	// Object is the route with all its fields: those of a newer API version must
	// survive a change of weights.
	Object *unstructured.Unstructured
}
