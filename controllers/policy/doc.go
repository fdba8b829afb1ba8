// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package policy decides what FlagCaches may request that belongs to others: images,
// identities of pods, metrics, and resources in AWS.
//
// Whoever may create a FlagCache has the permissions of the operator through it, as far
// as the operator lets them. The administrator of the cluster limits them with a file;
// without one, the limits are those of Default.
package policy
