// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command prices writes the table of ElastiCache's prices that the operator
// estimates with, from files in AWS's price list format: the JSON or the CSV of the
// offer AmazonElastiCache, of all regions or of one. The files are downloaded by
// hand; the command itself uses no network.
//
//	go run ./hack/prices index.json
//	go run ./hack/prices eu-west-1.csv us-east-1.csv
//
// A region that is in a file is replaced as a whole; the others keep their prices,
// with the date and the source that they have.
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

// run brings the table up to date with the price lists.
func run(file string, lists []string) error {
	if len(lists) == 0 {
		return errors.New("name one price list or more: go run ./hack/prices FILE.json|FILE.csv [FILE]")
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
		fmt.Printf("%s, of %s: %d regions\n", name, list.date, regions)
	}
	text, err := table.Encode()
	if err != nil {
		return err
	}
	// What was written must be readable by the operator.
	if _, err := prices.Parse(text); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// readTable reads the table as it is; a table that does not exist is empty.
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
