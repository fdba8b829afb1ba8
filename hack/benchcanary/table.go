// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"strings"

	"github.com/flagcache/flagcache/hack/bench/page"
)

// tables formats the figures as Markdown.
func (f figures) tables() string {
	var t strings.Builder
	fmt.Fprintf(&t, "Releases within their limits (%s of each), and the proportion that is rolled back within an hour:\n\n",
		thousands(float64(f.canaries)))
	t.WriteString("| release | the verdict | threshold, 1 failure | threshold, 5 failures |\n| :-- | --: | --: | --: |\n")
	for _, r := range f.healthy {
		fmt.Fprintf(&t, "| %s | %s | %s | %s |\n", r.release, percent(r.verdict), percent(r.once), percent(r.fiveTimes))
	}

	fmt.Fprintf(&t, "\nReleases with one bad check (%s of each), and the median number of requests until they are rolled back:\n\n",
		thousands(float64(f.canaries/4)))
	t.WriteString("| check | limit | true rate | bound | the verdict | ratio | within an hour | blocks of a minute | threshold, 1 failure | 5 failures |\n")
	t.WriteString("| :-- | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n")
	for _, r := range f.faulty {
		fmt.Fprintf(&t, "| %s | %s | %g× | %s | %s | %.2f | %s | %s | %s | %s |\n",
			r.check.name, limit(r.check.limit), r.times, thousands(r.bound), thousands(r.verdict), r.ratio(), percent(r.within),
			thousands(r.blocks), thousands(r.once), thousands(r.fiveTimes))
	}

	fmt.Fprintf(&t, "\nReleases with bursts of errors (%s of each), and the proportion that is rolled back within an hour:\n\n",
		thousands(float64(f.canaries)))
	t.WriteString("| mean error rate | single events | blocks of a minute | threshold, 1 failure | 5 failures |\n")
	t.WriteString("| :-- | --: | --: | --: | --: |\n")
	for _, r := range f.bursts {
		fmt.Fprintf(&t, "| %g× the limit | %s | %s | %s | %s |\n",
			r.times, percent(r.events), percent(r.blocks), percent(r.once), percent(r.fiveTimes))
	}

	t.WriteString("\nThe same releases with other block durations, and the median number of requests until a release with evenly distributed errors is rolled back:\n\n")
	t.WriteString("| block duration | bursts, 0.5× the limit | 1× | 10× | even, 10× the limit |\n| :-- | --: | --: | --: | --: |\n")
	for _, r := range f.blockLengths {
		fmt.Fprintf(&t, "| %s | %s | %s | %s | %s |\n", r.name, percent(r.half), percent(r.limit), percent(r.ten), thousands(r.steady))
	}
	return t.String()
}

// percent formats a measured fraction with enough digits to distinguish few from none.
func percent(share float64) string {
	digits := 2
	switch {
	case share == 0 || share == 1:
		digits = 0
	case share < 0.001:
		digits = 3
	}
	return page.Percent(share, digits)
}

// limit formats a limit as in a FlagCache.
func limit(share float64) string { return fmt.Sprintf("%g %%", math.Round(1e6*share)/1e4) }

// thousands formats a count of events.
func thousands(count float64) string {
	if count >= never {
		return "never"
	}
	return page.Thousands(int(math.Round(count)))
}
