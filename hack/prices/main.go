// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command prices updates the operator's table of ElastiCache prices from AWS price list
// files: the JSON or CSV file of the offer AmazonElastiCache for all regions or for one.
// The files must be downloaded beforehand; the command uses no network.
//
//	go run ./hack/prices index.json
//	go run ./hack/prices eu-west-1.csv us-east-1.csv
//
// A region in a file is replaced completely; other regions keep their prices with their
// date and source.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/flagcache/flagcache/controllers/plan/cost/prices"
)

const tableFile = "controllers/plan/cost/prices/elasticache.json"

func main() {
	if err := run(tableFile, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "prices: %v\n", err)
		os.Exit(1)
	}
}

// run updates the table from price lists.
func run(file string, lists []string) error {
	if len(lists) == 0 {
		return errors.New("usage: go run ./hack/prices FILE.json|FILE.csv [FILE]")
	}
	table, err := readTable(file)
	if err != nil {
		return err
	}
	for _, name := range lists {
		list, err := readList(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		regions, err := list.addTo(&table)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Printf("%s, published %s: %d regions\n", name, list.date, regions)
	}
	text, err := table.Encode()
	if err != nil {
		return err
	}
	// The operator must be able to parse the table.
	if _, err := prices.Parse(text); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// readTable reads the existing table; a table that does not exist is empty.
func readTable(file string) (prices.Table, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return prices.Table{Memory: map[string]string{}, Regions: map[string]prices.Region{}}, nil
	}
	if err != nil {
		return prices.Table{}, err
	}
	return prices.Parse(text)
}
