// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package exporter exports the operator's own metrics, whose names begin with
// flagcache_. A Collector derives gauges from the statuses of FlagCaches when it is
// scraped; Rollbacks counts the rollbacks that the reconciler reports.
package exporter
