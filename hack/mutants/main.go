// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command mutants measures what the fault injection would notice. Each patch in
// test/fault/mutants seeds one bug into the operator; a mutant is killed when a
// plan of package fault tells it from the operator. At least 98 % must be, and
// the comparison of end states and the invariants must each kill some that the
// other does not: an oracle that adds nothing has gone blind.
//
// The operator's files are not touched: mutants are built with go test -overlay, all
// those within functions into one binary.
package main

import (
	"cmp"
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
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	hunts := prepare(dir, found)
	fmt.Printf("prepared %d mutants in %v\n", len(hunts), time.Since(began).Round(time.Second))
	results := make([]result, len(hunts))
	slots := make(chan struct{}, max(1, parallel))
	var all sync.WaitGroup
	for i, h := range hunts {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = h.run()
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

// hunt is a mutant and the binary that carries it.
type hunt struct {
	mutant
	binary string
	// own reports that the binary is yet to be built, for this mutant alone.
	own bool
	err error
}

// prepare seeds the bugs and builds the binary that carries those within functions.
func prepare(dir string, patches []string) []hunt {
	hunts := make([]hunt, len(patches))
	for i, patch := range patches {
		h := &hunts[i]
		h.mutant, h.err = seed(strings.TrimSuffix(filepath.Base(patch), ".patch"), patch)
		h.binary = filepath.Join(dir, "mutants.test")
	}
	err := combine(dir, hunts)
	for err != nil {
		fmt.Printf("The common binary is of no use: %v\n", err)
		excluded := 0
		for i := range hunts {
			if h := &hunts[i]; h.isNamedIn(err.Error()) {
				h.separate(dir)
				excluded++
			}
		}
		if excluded == 0 {
			for i := range hunts {
				hunts[i].separate(dir)
			}
			break
		}
		err = combine(dir, hunts)
	}
	return hunts
}

// combine builds the common binary.
func combine(dir string, hunts []hunt) error {
	all := combiner{files: map[string]*combined{}}
	for i := range hunts {
		h := &hunts[i]
		if h.err != nil || h.own {
			continue
		}
		if err := all.add(h.mutant); err != nil {
			fmt.Printf("%-46s gets a binary of its own: %v\n", h.name, err)
			h.separate(dir)
		}
	}
	binary := filepath.Join(dir, "mutants.test")
	if err := build(all.sources(), binary); err != nil {
		return err
	}
	return control(binary)
}

// separate gives a mutant a binary of its own.
func (h *hunt) separate(dir string) { h.own, h.binary = true, filepath.Join(dir, h.name+".test") }

// isNamedIn reports whether the compiler rejects a file that the mutant changes.
func (h *hunt) isNamedIn(text string) bool {
	for path := range h.files {
		if !h.own && strings.Contains(text, "/"+path+":") {
			return true
		}
	}
	return false
}

// control runs the binary with no bug active: there must be nothing to find.
func control(binary string) error {
	command := exec.Command(binary, "-test.run", "^TestMutant$", "-test.timeout", "2m")
	command.Dir = target
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("running it without a bug: %w\n%s", err, output)
	}
	return nil
}

// run builds a mutant where that is yet to be done, and hunts it.
func (h hunt) run() result {
	r := result{name: h.name, err: h.err}
	began := time.Now()
	if r.err == nil && h.own {
		r.err = build(h.files, h.binary)
	}
	if r.err != nil {
		return r
	}
	test := cmp.Or(header(h.patch, "Test"), "TestMutant")
	command := exec.Command(h.binary, "-test.run", "^"+test+"$", "-test.timeout", "10m")
	command.Dir = target
	command.Env = append(os.Environ(), "FAULT_MUTANT="+h.name, "FAULT_HUNT="+header(h.patch, "Hunt"), "GOMAXPROCS=1")
	output, err := command.CombinedOutput()
	r.took = time.Since(began)
	if exit := (&exec.ExitError{}); err != nil && !errors.As(err, &exit) {
		r.err = fmt.Errorf("starting the hunt: %w", err)
		return r
	}
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
