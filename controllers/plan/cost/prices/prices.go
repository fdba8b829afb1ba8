// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package prices knows what AWS charges for ElastiCache: on demand, by region,
// engine and node type, each region with the date and the source of its prices.
// What no source states is not in the table, and is not guessed at.
//
// elasticache.json is written by `go run ./hack/prices FILE`, from a file in AWS's
// price list format.
package prices

import (
	"bytes"
	_ "embed" // the table
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"sync"
	"time"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// Table is what AWS charges. Amounts are decimal numbers in strings, so that none
// passes through a float.
type Table struct {
	// Memory of a node in GiB, by node type.
	Memory map[string]string `json:"memory"`
	// Regions by their code, such as eu-west-1.
	Regions map[string]Region `json:"regions"`
}

// Region is what AWS charges in one region, in US dollars.
type Region struct {
	// Date of the prices, such as 2026-10-02.
	Date string `json:"date"`
	// Source of the prices, for people.
	Source string `json:"source"`
	// Snapshots for a GiB and a month; empty where that is not known.
	Snapshots string `json:"snapshots,omitempty"`
	// Redis and Valkey for a node and an hour, by node type.
	Redis  map[string]string `json:"redis,omitempty"`
	Valkey map[string]string `json:"valkey,omitempty"`
}

// file is the table in the data file.
//
//go:embed elasticache.json
var file []byte

// ElastiCache is the table that this program was built with.
var ElastiCache = sync.OnceValue(func() Table {
	t, err := Parse(file)
	if err != nil {
		panic(fmt.Sprintf("prices: elasticache.json, which is part of the program: %v", err))
	}
	return t
})

// Parse reads a table as Encode writes it, and checks every amount.
func Parse(text []byte) (Table, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var t Table
	if err := d.Decode(&t); err != nil {
		return Table{}, fmt.Errorf("reading the table of prices: %w", err)
	}
	if err := t.check(); err != nil {
		return Table{}, fmt.Errorf("reading the table of prices: %w", err)
	}
	return t, nil
}

// Encode writes the table: sorted, a line for each amount, so that a change of a
// price is one line in review.
func (t Table) Encode() ([]byte, error) {
	text, err := json.MarshalIndent(t, "", " ")
	if err != nil {
		return nil, fmt.Errorf("writing the table of prices: %w", err)
	}
	return append(text, '\n'), nil
}

func (t Table) check() error {
	if err := checkAmounts(t.Memory); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Regions)) {
		if err := t.Regions[name].check(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (r Region) check() error {
	if _, err := time.Parse(time.DateOnly, r.Date); err != nil {
		return fmt.Errorf("the date %q is not of the form 2006-01-02", r.Date)
	}
	if r.Source == "" {
		return fmt.Errorf("no source is stated")
	}
	if _, ok := r.Snapshot(); !ok && r.Snapshots != "" {
		return fmt.Errorf("snapshots: %q is no amount", r.Snapshots)
	}
	return errors.Join(checkAmounts(r.Redis), checkAmounts(r.Valkey))
}

func checkAmounts(amounts map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(amounts)) {
		if a, ok := amount(amounts[name]); !ok || a.Sign() <= 0 {
			return fmt.Errorf("%s: %q is no amount above 0", name, amounts[name])
		}
	}
	return nil
}

// amount is a decimal number; it is false for an empty text.
func amount(text string) (*big.Rat, bool) {
	if text == "" {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}

// Node is the price of a node and an hour; it is false where the table has none.
func (r Region) Node(engine v1alpha1.Engine, nodeType string) (*big.Rat, bool) {
	if engine == v1alpha1.EngineValkey {
		return amount(r.Valkey[nodeType])
	}
	return amount(r.Redis[nodeType])
}

// Snapshot is the price of a GiB of snapshots and a month; it is false where the
// table has none.
func (r Region) Snapshot() (*big.Rat, bool) { return amount(r.Snapshots) }

// NodeMemory is the memory of a node in GiB; it is false where the table has none.
func (t Table) NodeMemory(nodeType string) (*big.Rat, bool) { return amount(t.Memory[nodeType]) }

// HasSmaller reports whether the region has a cheaper node of the engine with less
// memory.
func (t Table) HasSmaller(region string, engine v1alpha1.Engine, nodeType string) bool {
	r := t.Regions[region]
	price, priced := r.Node(engine, nodeType)
	memory, known := t.NodeMemory(nodeType)
	if !priced || !known {
		return false
	}
	for other := range t.Memory {
		otherPrice, ok := r.Node(engine, other)
		otherMemory, _ := t.NodeMemory(other)
		if ok && otherPrice.Cmp(price) < 0 && otherMemory.Cmp(memory) < 0 {
			return true
		}
	}
	return false
}
