// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/flagcache/flagcache/hack/bench/page"
)

func mebibytes(n uint64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

func formatWholeSeconds(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }

func formatSeconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func percent(fraction float64) string { return page.Percent(fraction, 1) }
