// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cost estimates what the caches of a FlagCache cost per month, and
// compares that with its budget. It is pure: replication groups in, an Assessment
// out.
package cost

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/cost/prices"
)

// hoursPerMonth is how many hours AWS counts a month as in its own estimates.
const hoursPerMonth = 730

// Group is a replication group as AWS bills it.
type Group struct {
	Engine   v1alpha1.Engine
	NodeType string
	Nodes    int32
	// Region is empty while it is unknown.
	Region string
	// SnapshotDays is the number of days for which a daily snapshot is kept; 0 is none.
	SnapshotDays int32
}

// estimate is the cost per month in whole cents, so that what is compared is what
// is displayed.
type estimate struct {
	cents int64
	// basis describes what the estimate consists of.
	basis string
	// unknown lists the missing prices; cents is then a lower bound without them.
	unknown []string
	// regionUnknown: the region of a group is unknown.
	regionUnknown bool
}

// usd formats the estimate for the status: "24.82", or "" where a price is missing.
func (e estimate) usd() string {
	if len(e.unknown) > 0 {
		return ""
	}
	return dollars(e.cents)
}

func dollars(cents int64) string {
	return fmt.Sprintf("%d.%02d", cents/100, cents%100)
}

// notCounted ends the basis of every estimate of replication groups.
const notCounted = "data transfer, reserved nodes, discounts and taxes are not counted"

// estimateGroups adds up what groups cost per month.
func estimateGroups(table prices.Table, groups []Group) estimate {
	if len(groups) == 0 {
		return estimate{basis: "There is no replication group"}
	}
	total := new(big.Rat)
	var e estimate
	var terms, dates []string
	for _, g := range groups {
		cost, term, missing := g.monthly(table)
		total.Add(total, cost)
		terms = append(terms, term)
		e.unknown = append(e.unknown, missing...)
		e.regionUnknown = e.regionUnknown || g.Region == ""
		if date := table.Regions[g.Region].Date; date != "" && !slices.Contains(dates, date) {
			dates = append(dates, date)
		}
	}
	e.cents = cents(total)
	e.unknown = unique(e.unknown)
	e.basis = strings.Join(terms, ", plus ")
	if len(e.unknown) > 0 {
		e.basis += "; " + strings.Join(e.unknown, "; ")
	}
	if len(dates) > 0 {
		e.basis += fmt.Sprintf("; on-demand prices of %s, %d hours a month; %s", strings.Join(dates, " and "), hoursPerMonth, notCounted)
	}
	return e
}

// monthly returns what a group costs per month as far as prices are known, a
// description of it, and the missing prices.
func (g Group) monthly(table prices.Table) (cost *big.Rat, term string, missing []string) {
	term = fmt.Sprintf("%s %s for %s", count(g.Nodes, "node"), g.NodeType, g.Engine)
	if g.Region == "" {
		return new(big.Rat), term, []string{"the region is not known yet"}
	}
	term += " in " + g.Region
	region := table.Regions[g.Region]
	cost = new(big.Rat)
	if hourly, ok := region.Node(g.Engine, g.NodeType); ok {
		cost.Mul(hourly, big.NewRat(int64(g.Nodes)*hoursPerMonth, 1))
	} else {
		missing = append(missing, fmt.Sprintf("no price is known of %s for %s in %s", g.NodeType, g.Engine, g.Region))
	}
	// One snapshot of each group is free.
	paid := g.SnapshotDays - 1
	if paid <= 0 {
		return cost, term, missing
	}
	term += fmt.Sprintf(" with %s beyond the free one", count(paid, "snapshot"))
	perGiB, priced := region.Snapshot()
	size, known := table.NodeMemory(g.NodeType)
	if !priced || !known {
		return cost, term, append(missing, fmt.Sprintf("no price is known of snapshots of %s in %s", g.NodeType, g.Region))
	}
	// The size of a snapshot is unknown in advance; it is no larger than the memory.
	snapshots := new(big.Rat).Mul(perGiB, size)
	cost.Add(cost, snapshots.Mul(snapshots, big.NewRat(int64(paid), 1)))
	return cost, term + ", each as large as a node's memory", missing
}

func count(n int32, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// cents rounds an amount of dollars half up.
func cents(usd *big.Rat) int64 {
	const half = 2
	doubled := new(big.Rat).Mul(usd, big.NewRat(100*half, 1))
	doubled.Add(doubled, big.NewRat(1, 1))
	return new(big.Int).Quo(doubled.Num(), new(big.Int).Mul(doubled.Denom(), big.NewInt(half))).Int64()
}

func unique(texts []string) []string {
	var distinct []string
	for _, t := range texts {
		if !slices.Contains(distinct, t) {
			distinct = append(distinct, t)
		}
	}
	return distinct
}
