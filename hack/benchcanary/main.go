// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command benchcanary shows by simulation what docs/canary.md says about the
// verdict on canaries: how rarely it rolls back a healthy release, and how
// quickly a bad one. Beside it the same releases are judged as other operators
// do by default.
//
//	benchcanary [-canaries 20000] [-docs docs]
//
// It prints the tables, and writes them and a plot into docs/canary.md and
// docs/canary.svg. Time is virtual and chance is seeded: the figures are the same on
// every run. It ends with status 1 when a claim is not kept.
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
	canaries := flag.Int("canaries", 20_000, "How many healthy releases are played in each world.")
	docs := flag.String("docs", "docs", "The folder of canary.md and canary.svg.")
	flag.Parse()
	if err := run(os.Stdout, *canaries, *docs); err != nil {
		fmt.Fprintf(os.Stderr, "benchcanary: %v\n", err)
		os.Exit(1)
	}
}

// minCanaries releases of which the medians and shares still mean something.
const minCanaries = 400

func run(out io.Writer, canaries int, docs string) error {
	if canaries < minCanaries {
		return fmt.Errorf("%d canaries say nothing, %d are the fewest", canaries, minCanaries)
	}
	f := measure(canaries, 0.99)
	tables := f.tables()
	fmt.Fprintln(out, tables)
	if err := publish(docs, tables, f.plot()); err != nil {
		return err
	}
	return verify(out, f.claims())
}

// publish writes the tables into the page and the plot beside it.
func publish(docs, tables, plot string) error {
	page := filepath.Join(docs, "canary.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("reading the page: %w", err)
	}
	updated, err := splice(string(text), tables)
	if err != nil {
		return fmt.Errorf("putting the tables into %s: %w", page, err)
	}
	if err := os.WriteFile(page, []byte(updated), 0o644); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	if err := os.WriteFile(filepath.Join(docs, "canary.svg"), []byte(plot), 0o644); err != nil {
		return fmt.Errorf("writing the plot: %w", err)
	}
	return nil
}

// The tables stand between these lines of the page.
const (
	begin = "<!-- begin: written by make bench-canary -->\n"
	end   = "<!-- end -->"
)

// splice replaces what is between the marks in the page.
func splice(page, tables string) (string, error) {
	before, rest, ok := strings.Cut(page, begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", errors.New("the marks are missing between which they belong")
	}
	return before + begin + "\n" + tables + "\n" + end + after, nil
}

// verify prints every claim and fails when one is not kept.
func verify(out io.Writer, claims []claim) error {
	broken := 0
	for _, c := range claims {
		word := "kept  "
		if !c.holds() {
			word = "BROKEN"
			broken++
		}
		fmt.Fprintf(out, "%s  %s\n", word, c)
	}
	if broken > 0 {
		return fmt.Errorf("%d of %d claims are not kept", broken, len(claims))
	}
	return nil
}
