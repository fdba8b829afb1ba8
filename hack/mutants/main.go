// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command mutants measures what the fault injection detects. Each patch in test/fault/mutants seeds
// one bug into the operator. A mutant is killed if a plan of package fault detects it. At least 98 %
// of the mutants must be killed, and the comparison of end states and the invariants must each kill
// some that the other does not, because an oracle that adds nothing may be broken.
//
// The operator's files are not modified: mutants are built with go test -overlay, all those within
// functions into one binary.
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
	parallel := flag.Int("parallel", 2, "Number of mutants to test in parallel.")
	only := flag.String("only", "", "Test only the mutants whose name contains this.")
	flag.Parse()
	if err := run(*parallel, *only); err != nil {
		fmt.Fprintf(os.Stderr, "mutants: %v\n", err)
		os.Exit(1)
	}
}

// result is the result of a mutant.
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
	start := time.Now()
	dir, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	tests := prepare(dir, found)
	fmt.Printf("prepared %d mutants in %v\n", len(tests), time.Since(start).Round(time.Second))
	results := make([]result, len(tests))
	slots := make(chan struct{}, max(1, parallel))
	var all sync.WaitGroup
	for i, test := range tests {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = test.run()
			fmt.Println(results[i])
		})
	}
	all.Wait()
	fmt.Printf("took %v\n", time.Since(start).Round(time.Second))
	return judge(results, only == "")
}

func (r result) String() string {
	if r.err != nil {
		return fmt.Sprintf("%-46s BROKEN: %v", r.name, r.err)
	}
	return fmt.Sprintf("%-46s %s [%v]", r.name, r.line, r.took.Round(100*time.Millisecond))
}

// mutantTest is a mutant and the binary that contains it.
type mutantTest struct {
	mutant
	binary string
	// own reports that the mutant needs a binary of its own, which is yet to be built.
	own bool
	err error
}

// prepare seeds the bugs and builds the binary with those within functions.
func prepare(dir string, patches []string) []mutantTest {
	tests := make([]mutantTest, len(patches))
	for i, patch := range patches {
		t := &tests[i]
		t.mutant, t.err = seed(strings.TrimSuffix(filepath.Base(patch), ".patch"), patch)
		t.binary = filepath.Join(dir, "mutants.test")
	}
	err := combine(dir, tests)
	for err != nil {
		fmt.Printf("The shared binary is not usable: %v\n", err)
		excluded := 0
		for i := range tests {
			if t := &tests[i]; t.isNamedIn(err.Error()) {
				t.separate(dir)
				excluded++
			}
		}
		if excluded == 0 {
			for i := range tests {
				tests[i].separate(dir)
			}
			break
		}
		err = combine(dir, tests)
	}
	return tests
}

// combine builds the shared binary.
func combine(dir string, tests []mutantTest) error {
	all := combiner{files: map[string]*combined{}}
	for i := range tests {
		t := &tests[i]
		if t.err != nil || t.own {
			continue
		}
		if err := all.add(t.mutant); err != nil {
			fmt.Printf("%-46s gets a binary of its own: %v\n", t.name, err)
			t.separate(dir)
		}
	}
	binary := filepath.Join(dir, "mutants.test")
	if err := build(all.sources(), binary); err != nil {
		return err
	}
	return control(binary)
}

// separate gives a mutant a binary of its own.
func (t *mutantTest) separate(dir string) { t.own, t.binary = true, filepath.Join(dir, t.name+".test") }

// isNamedIn reports whether the compiler rejects a file that the mutant changes.
func (t *mutantTest) isNamedIn(text string) bool {
	for path := range t.files {
		if !t.own && strings.Contains(text, "/"+path+":") {
			return true
		}
	}
	return false
}

// control runs the binary without an active bug, which must not be detected as a mutant.
func control(binary string) error {
	command := exec.Command(binary, "-test.run", "^TestMutant$", "-test.timeout", "2m")
	command.Dir = target
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("running without an active bug: %w\n%s", err, output)
	}
	return nil
}

// run tests a mutant, and builds its binary before if necessary.
func (t mutantTest) run() result {
	r := result{name: t.name, err: t.err}
	start := time.Now()
	if r.err == nil && t.own {
		r.err = build(t.files, t.binary)
	}
	if r.err != nil {
		return r
	}
	test := cmp.Or(header(t.patch, "Test"), "TestMutant")
	command := exec.Command(t.binary, "-test.run", "^"+test+"$", "-test.timeout", "10m")
	command.Dir = target
	command.Env = append(os.Environ(), "FAULT_MUTANT="+t.name, "FAULT_SCOPE="+header(t.patch, "Plans"), "GOMAXPROCS=1")
	output, err := command.CombinedOutput()
	r.took = time.Since(start)
	if exit := (&exec.ExitError{}); err != nil && !errors.As(err, &exit) {
		r.err = fmt.Errorf("starting the test: %w", err)
		return r
	}
	if test == "TestMutant" {
		r.line, r.killers = verdict(string(output), err)
	} else {
		r.line, r.killers = verdictOf(test, err)
	}
	return r
}

// header returns the value of a line above the patch, or "": "Plans: scenario/family" restricts the
// plans to run, and "Test: name" is the test that detects the mutant if no plan can.
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

// verdictOf returns the result of a mutant with a test of its own.
func verdictOf(test string, err error) (line string, killers []string) {
	if err == nil {
		return "SURVIVED", nil
	}
	return "KILLED by " + test, []string{test}
}

// verdict parses the output of TestMutant. A mutant that panics or does not end is killed as well.
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

// judge summarizes the results.
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
	fmt.Printf("mutants: %d of %d killed, %d only by end states and %d only by invariants\n",
		killed, len(results), alone["end state"], alone["invariant"])
	switch {
	case killed*100 < enough*len(results):
		return fmt.Errorf("%d mutants survived, at most %d %% may", len(results)-killed, 100-enough)
	case all && (alone["end state"] == 0 || alone["invariant"] == 0):
		return errors.New("one of the oracles kills no mutant that the other does not kill")
	}
	return nil
}
