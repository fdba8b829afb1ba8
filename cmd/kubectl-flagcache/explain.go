// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"text/tabwriter"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
)

// maxBytes of input; annotations have at most 256 KiB.
const maxBytes = 1 << 20

// read finds a record in a file: in the annotation of a ControllerRevision, or by itself.
func read(file string, stdin io.Reader) (canary.Record, error) {
	in := stdin
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return canary.Record{}, fmt.Errorf("reading the record: %w", err)
		}
		defer opened.Close()
		in = opened
	}
	text, err := io.ReadAll(io.LimitReader(in, maxBytes))
	if err != nil {
		return canary.Record{}, fmt.Errorf("reading the record: %w", err)
	}
	var object metav1.PartialObjectMetadata
	if err := yaml.Unmarshal(text, &object); err == nil && object.Annotations[v1alpha1.AnnotationRecord] != "" {
		text = []byte(object.Annotations[v1alpha1.AnnotationRecord])
	}
	if text, err = yaml.YAMLToJSON(text); err != nil {
		return canary.Record{}, fmt.Errorf("reading the record: %w", err)
	}
	record, err := canary.Decode(string(text))
	if err != nil {
		return canary.Record{}, fmt.Errorf("reading a record, or an object with the annotation %s: %w", v1alpha1.AnnotationRecord, err)
	}
	return record, nil
}

// explain prints the verdict, and reports whether it agrees with the outcome.
func explain(out io.Writer, record canary.Record) bool {
	_, _ = fmt.Fprintf(out, "Revision  %s\nOutcome   %s\n", record.Revision, outcome(record))
	if record.Canary == nil {
		_, _ = fmt.Fprintln(out, "\nThere was no canary.")
		return true
	}
	state := *record.Canary
	results := state.Judge()
	if l := state.Progress.LoadTest; l != nil {
		passed := map[bool]string{true: "passed", false: "failed"}[l.Passed]
		_, _ = fmt.Fprintln(out, "Load test", strings.TrimSuffix(passed+": "+l.Summary(), ": "))
	}
	_, _ = fmt.Fprintln(out)
	printChecks(out, results, state.Policy)
	if block := state.Policy.Block; block > 0 {
		_, _ = fmt.Fprintf(out, "\nA block is %s of observed time and counts once, as the share of its events that were bad. Observed is the mean of complete blocks.\n", block)
	}
	_, _ = fmt.Fprintf(out, "\nA check breaches when its evidence reaches log(1/alpha) = %.2f, alpha = %g.\n",
		math.Log(1/state.Policy.Alpha), state.Policy.Alpha)
	if contradiction := contradiction(record, results); contradiction != "" {
		_, _ = fmt.Fprintln(out, "Contradiction:", contradiction)
		return false
	}
	return true
}

func outcome(record canary.Record) string {
	if record.Outcome == "" {
		return "none yet"
	}
	return fmt.Sprintf("%s (%s): %s", record.Outcome, record.Reason, record.Message)
}

func printChecks(out io.Writer, results []canary.CheckResult, p canary.Policy) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	header, blocks := "", func(canary.CheckResult) string { return "" }
	if p.Block > 0 {
		header, blocks = "BLOCKS\t", func(r canary.CheckResult) string { return fmt.Sprintf("%d\t", r.Blocks) }
	}
	_, _ = fmt.Fprintln(w, "CHECK\tEVENTS\tBAD\t"+header+"OBSERVED\tINTERVAL\tLIMIT\tEVIDENCE\tVERDICT")
	for _, r := range results {
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%s%s\t%s to %s\t%s\t%.2f\t%s\n", r.Check, r.Counts.Total, r.Counts.Bad, blocks(r),
			percent(r.Result.Observed), percent(r.Result.Lower), percent(r.Result.Upper), percent(r.Limit), r.Result.LogEvidence, r.Verdict)
	}
	_ = w.Flush() // it writes to a person's terminal
}

func percent(p float64) string { return fmt.Sprintf("%.3g%%", 100*p) }

// contradiction is how the verdict and the recorded outcome exclude each other, "" if
// they do not. A person may promote what breaches, and roll back what does not; neither
// is a verdict.
func contradiction(record canary.Record, results []canary.CheckResult) string {
	breached := ""
	for _, r := range results {
		if r.Verdict == canary.Breach {
			breached = string(r.Check)
			break
		}
	}
	switch {
	case record.Outcome == canary.RolledBack && record.Reason == canary.ReasonBreach && breached == "":
		return "the revision was rolled back for a breach, and no check breaches"
	case record.Outcome == canary.Promoted && !record.Canary.Progress.Forced && breached != "":
		return "the revision was promoted, and " + breached + " breaches"
	}
	return ""
}
