// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command mutants measures what the fault injection would notice. Each patch in
// test/fault/mutants seeds one bug into the operator; a mutant is killed when a
// plan of package fault tells it from the operator. At least 98 % must be, and
// the comparison of end states and the invariants must each kill some that the
// other does not: an oracle that adds nothing has gone blind.
//
// The operator's files are not touched: a mutant is built with go test -overlay.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	patches = "test/fault/mutants"
	target  = "./test/fault"
	// enough is the share that must be killed, in percent.
	enough = 98
)

func main() {
	parallel := flag.Int("parallel", 2, "How many mutants are tried at a time.")
	only := flag.String("only", "", "Try only mutants whose names contain this.")
	flag.Parse()
	if err := run(*parallel, *only); err != nil {
		fmt.Fprintf(os.Stderr, "mutants: %v\n", err)
		os.Exit(1)
	}
}

// result is what became of a mutant.
type result struct {
	name    string
	killers []string
	line    string
	took    time.Duration
	err     error
}

func run(parallel int, only string) error {
	found, err := filepath.Glob(filepath.Join(patches, "*"+only+"*.patch"))
	if err != nil || len(found) == 0 {
		return fmt.Errorf("finding mutants in %s: %w", patches, errors.Join(err, errors.New("there are none; run it in the repository's root")))
	}
	began := time.Now()
	results := make([]result, len(found))
	slots := make(chan struct{}, max(1, parallel))
	var all sync.WaitGroup
	for i, patch := range found {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = try(patch)
			fmt.Println(results[i])
		})
	}
	all.Wait()
	fmt.Printf("took %v\n", time.Since(began).Round(time.Second))
	return judge(results, only == "")
}

func (r result) String() string {
	if r.err != nil {
		return fmt.Sprintf("%-46s BROKEN: %v", r.name, r.err)
	}
	return fmt.Sprintf("%-46s %s [%v]", r.name, r.line, r.took.Round(100*time.Millisecond))
}

// try builds one mutant and hunts it.
func try(patch string) result {
	r := result{name: strings.TrimSuffix(filepath.Base(patch), ".patch")}
	began := time.Now()
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return result{name: r.name, err: err}
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := filepath.Join(dir, "mutant.test")
	if r.err = build(patch, dir, binary); r.err != nil {
		return r
	}
	test := cmp.Or(header(patch, "Test"), "TestMutant")
	hunt := exec.Command(binary, "-test.run", "^"+test+"$", "-test.timeout", "2m")
	hunt.Dir = target
	hunt.Env = append(os.Environ(), "FAULT_MUTANT="+r.name, "FAULT_HUNT="+header(patch, "Hunt"), "GOMAXPROCS=1")
	output, err := hunt.CombinedOutput()
	r.took = time.Since(began)
	if test == "TestMutant" {
		r.line, r.killers = verdict(string(output), err)
	} else {
		r.line, r.killers = verdictOf(test, err)
	}
	return r
}

// header is a line above the patch, empty when there is none: "Hunt:
// scenario/sweep" is where to begin to look for the mutant, and "Test: name" the
// test that finds it where no plan can.
func header(patch, key string) string {
	text, err := os.ReadFile(patch)
	if err != nil {
		return ""
	}
	if match := regexp.MustCompile(`(?m)^` + key + `: (.+)$`).FindSubmatch(text); match != nil {
		return string(match[1])
	}
	return ""
}

// verdictOf says whether a test of its own found a mutant.
func verdictOf(test string, err error) (line string, killers []string) {
	if err == nil {
		return "SURVIVED", nil
	}
	return "KILLED by " + test, []string{test}
}

// build seeds the bug into copies of the files and builds the test with them.
func build(patch, dir, binary string) error {
	text, err := os.ReadFile(patch)
	if err != nil {
		return fmt.Errorf("reading the mutant: %w", err)
	}
	replace := map[string]string{}
	for _, match := range regexp.MustCompile(`(?m)^\+\+\+ b/(.+)$`).FindAllStringSubmatch(string(text), -1) {
		original, err := filepath.Abs(match[1])
		if err != nil {
			return err
		}
		copied := filepath.Join(dir, match[1])
		if err := copyFile(original, copied); err != nil {
			return err
		}
		replace[original] = copied
	}
	apply := exec.Command("git", "apply", "-C1", "-")
	apply.Dir, apply.Stdin = dir, bytes.NewReader(text)
	if output, err := apply.CombinedOutput(); err != nil {
		return fmt.Errorf("the patch does not apply to the operator as it is, write it anew: %s", bytes.TrimSpace(output))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return err
	}
	if output, err := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", file, "-o", binary, target).CombinedOutput(); err != nil {
		return fmt.Errorf("building it: %s", bytes.TrimSpace(output))
	}
	return nil
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("reading what the mutant changes: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

// verdict reads what the hunt said. A mutant that panics or never ends is found
// out too.
func verdict(output string, err error) (line string, killers []string) {
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "SURVIVED") {
			return line, nil
		}
		if list, ok := strings.CutPrefix(line, "KILLED by "); ok {
			for _, part := range strings.Split(list, "; ") {
				oracle, _, _ := strings.Cut(part, " (")
				killers = append(killers, oracle)
			}
			return line, killers
		}
	}
	return fmt.Sprintf("KILLED by crash (%v)", err), []string{"crash"}
}

// judge sums up.
func judge(results []result, all bool) error {
	killed, alone := 0, map[string]int{}
	for _, r := range results {
		if r.err != nil {
			return fmt.Errorf("%s: %w", r.name, r.err)
		}
		if len(r.killers) > 0 {
			killed++
		}
		has := map[string]bool{}
		for _, k := range r.killers {
			has[k] = true
		}
		if has["end state"] && !has["invariant"] {
			alone["end state"]++
		}
		if has["invariant"] && !has["end state"] {
			alone["invariant"]++
		}
	}
	fmt.Printf("mutants: %d of %d killed; not by invariants but by end states %d, not by end states but by invariants %d\n",
		killed, len(results), alone["end state"], alone["invariant"])
	switch {
	case killed*100 < enough*len(results):
		return fmt.Errorf("%d mutants survive, at most %d %% may", len(results)-killed, 100-enough)
	case all && (alone["end state"] == 0 || alone["invariant"] == 0):
		return errors.New("one of the oracles kills nothing that the other does not")
	}
	return nil
}
