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

// The usage of a plain node and of a snapshot, after the short name of the region,
// which us-east-1 has none of. The same node type has further prices, which are
// added to that one (ExtendedSupportYr3-NodeUsage, SyncDurability-NodeUsage) or are
// for something else (Outpost-NodeUsage).
var (
	nodeUsage     = regexp.MustCompile(`^([A-Z0-9]+-)?NodeUsage:cache\.`)
	snapshotUsage = regexp.MustCompile(`^([A-Z0-9]+-)?(ElastiCache:)?BackupUsage`)
)

// addTo puts the regions of the list into the table, and says how many there were.
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
		return 0, errors.New("it has no on-demand price of a cache node")
	}
	for name, r := range regions {
		t.Regions[name] = r
	}
	return len(regions), nil
}

// source says where the prices are from, in a sentence for people.
func (l priceList) source() string {
	return fmt.Sprintf("AWS Price List, %s, version %s", l.offer, l.version)
}

// price is an offer's price as the table writes it; it is false for one that costs
// nothing or is not in US dollars.
func (o offer) price() (string, bool) {
	usd, ok := new(big.Rat).SetString(o.usd)
	if !ok || usd.Sign() <= 0 || o.region == "" || o.locationType != "AWS Region" {
		return "", false
	}
	return formatDecimal(usd), true
}

// formatDecimal writes a decimal number without the zeros at its end.
func formatDecimal(n *big.Rat) string {
	const digits = 10 // as many as AWS has
	return strings.TrimSuffix(strings.TrimRight(n.FloatString(digits), "0"), ".")
}

func (o offer) isNode() bool {
	return o.family == "Cache Instance" && o.unit == "Hrs" && nodeUsage.MatchString(o.usage)
}

func (o offer) isSnapshot() bool {
	return o.family == "Storage Snapshot" && strings.HasPrefix(o.unit, "GB-Mo") && snapshotUsage.MatchString(o.usage)
}

// addNode records a node's price and memory. Two prices for one node mean that the
// list is not understood.
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

// higher is the higher of two prices: snapshots of one engine may cost more than
// those of another.
func higher(a, b string) string {
	x, known := new(big.Rat).SetString(a)
	y, _ := new(big.Rat).SetString(b)
	if known && x.Cmp(y) > 0 {
		return a
	}
	return b
}
