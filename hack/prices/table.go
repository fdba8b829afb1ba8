// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"

	"github.com/flagcache/flagcache/controllers/plan/cost/prices"
)

// The usage types of a plain node and of a snapshot, after the prefix of the region, which
// us-east-1 does not have. A node type has further prices, which are surcharges
// (ExtendedSupportYr3-NodeUsage, SyncDurability-NodeUsage) or for other products
// (Outpost-NodeUsage).
var (
	nodeUsage     = regexp.MustCompile(`^([A-Z0-9]+-)?NodeUsage:cache\.`)
	snapshotUsage = regexp.MustCompile(`^([A-Z0-9]+-)?(ElastiCache:)?BackupUsage`)
)

// addTo replaces the regions of the list in the table and returns their number.
func (l priceList) addTo(t *prices.Table) (int, error) {
	regions := map[string]prices.Region{}
	for _, o := range l.offers {
		price, ok := o.price()
		if !ok {
			continue
		}
		r, seen := regions[o.region]
		if !seen {
			r = prices.Region{Date: l.date, Source: l.source(), Redis: map[string]string{}, Valkey: map[string]string{}}
		}
		switch {
		case o.isNode():
			if err := o.addNode(t, r, price); err != nil {
				return 0, err
			}
		case o.isSnapshot():
			r.Snapshots = higher(r.Snapshots, price)
		default:
			continue
		}
		regions[o.region] = r
	}
	if len(regions) == 0 {
		return 0, errors.New("no on-demand price of a cache node")
	}
	for name, r := range regions {
		t.Regions[name] = r
	}
	return len(regions), nil
}

// source describes the origin of the prices.
func (l priceList) source() string {
	return fmt.Sprintf("AWS Price List, %s, version %s", l.offer, l.version)
}

// price returns the price in the format of the table, or false for offers that are free
// or not in US dollars.
func (o offer) price() (string, bool) {
	usd, ok := new(big.Rat).SetString(o.usd)
	if !ok || usd.Sign() <= 0 || o.region == "" || o.locationType != "AWS Region" {
		return "", false
	}
	return formatDecimal(usd), true
}

// formatDecimal formats a decimal number without trailing zeros.
func formatDecimal(n *big.Rat) string {
	const digits = 10 // as in AWS price lists
	return strings.TrimSuffix(strings.TrimRight(n.FloatString(digits), "0"), ".")
}

func (o offer) isNode() bool {
	return o.family == "Cache Instance" && o.unit == "Hrs" && nodeUsage.MatchString(o.usage)
}

func (o offer) isSnapshot() bool {
	return o.family == "Storage Snapshot" && strings.HasPrefix(o.unit, "GB-Mo") && snapshotUsage.MatchString(o.usage)
}

// addNode adds the price and the memory of a node. Two prices for one node mean that the
// list has an unknown structure.
func (o offer) addNode(t *prices.Table, r prices.Region, price string) error {
	nodes := map[string]map[string]string{"Redis": r.Redis, "Valkey": r.Valkey}[o.engine]
	if nodes == nil {
		return nil // Memcached
	}
	if other, ok := nodes[o.nodeType]; ok && other != price {
		return fmt.Errorf("%s in %s has two prices for %s: %s and %s", o.nodeType, o.region, o.engine, other, price)
	}
	nodes[o.nodeType] = price
	if gib, ok := new(big.Rat).SetString(strings.TrimSuffix(o.memory, " GiB")); ok {
		t.Memory[o.nodeType] = formatDecimal(gib)
	}
	return nil
}

// higher returns the higher of two prices: the engines' snapshot prices may differ.
func higher(a, b string) string {
	x, known := new(big.Rat).SetString(a)
	y, _ := new(big.Rat).SetString(b)
	if known && x.Cmp(y) > 0 {
		return a
	}
	return b
}
