// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package supplychain tests how FlagCache is built: what others wrote is pinned by digest,
// workflows have the permissions that they need and no others, a build can be reproduced,
// and each module that programs contain has a license that permits it.
package supplychain
