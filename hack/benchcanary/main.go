// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command benchcanary simulates the claims of docs/canary.md about the verdict on
// canaries: how rarely it rolls back a healthy release, and how quickly a bad one. The
// default methods of other operators are simulated for comparison.
//
//	benchcanary [-canaries 20000] [-docs docs]
//
// It prints tables and writes them and a plot to docs/canary.md and docs/canary.svg. Time
// is virtual and random numbers are seeded, so every run gives the same figures. It exits
// with status 1 if a claim does not hold.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	canaries := flag.Int("canaries", 20_000, "Number of healthy releases to simulate in each world.")
	docs := flag.String("docs", "docs", "Directory of canary.md and canary.svg.")
	flag.Parse()
	if err := run(os.Stdout, *canaries, *docs); err != nil {
		fmt.Fprintf(os.Stderr, "benchcanary: %v\n", err)
		os.Exit(1)
	}
}

// minCanaries is the minimum number of releases for meaningful results.
const minCanaries = 400

func run(out io.Writer, canaries int, docs string) error {
	if canaries < minCanaries {
		return fmt.Errorf("%d canaries are too few, the minimum is %d", canaries, minCanaries)
	}
	f := measure(canaries, 0.99)
	tables := f.tables()
	fmt.Fprintln(out, tables)
	if err := publish(docs, tables, f.plot()); err != nil {
		return err
	}
	return verify(out, f.claims())
}

// publish writes the tables to the page and the plot beside it.
func publish(docs, tables, plot string) error {
	page := filepath.Join(docs, "canary.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("reading the page: %w", err)
	}
	updated, err := splice(string(text), tables)
	if err != nil {
		return fmt.Errorf("writing the tables to %s: %w", page, err)
	}
	if err := os.WriteFile(page, []byte(updated), 0o644); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	if err := os.WriteFile(filepath.Join(docs, "canary.svg"), []byte(plot), 0o644); err != nil {
		return fmt.Errorf("writing the plot: %w", err)
	}
	return nil
}

// Markers of the generated part of the page.
const (
	begin = "<!-- begin: written by make bench-canary -->\n"
	end   = "<!-- end -->"
)

// splice replaces the generated part of the page.
func splice(page, tables string) (string, error) {
	before, rest, ok := strings.Cut(page, begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", errors.New("the markers of the generated part are missing")
	}
	return before + begin + "\n" + tables + "\n" + end + after, nil
}

// verify prints all claims and fails if one does not hold.
func verify(out io.Writer, claims []claim) error {
	broken := 0
	for _, c := range claims {
		status := "holds "
		if !c.holds() {
			status = "FAILED"
			broken++
		}
		fmt.Fprintf(out, "%s  %s\n", status, c)
	}
	if broken > 0 {
		return fmt.Errorf("%d of %d claims do not hold", broken, len(claims))
	}
	return nil
}
