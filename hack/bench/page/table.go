// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package page

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Median returns the median, the lower one of two. There must be at least one value.
func Median[T cmp.Ordered](values []T) T {
	return slices.Sorted(slices.Values(values))[(len(values)-1)/2]
}

// Thousands formats a number with thousands separators.
func Thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", Thousands(n/1000), n%1000)
}

// Percent formats a fraction as a percentage with so many digits after the point.
func Percent(fraction float64, digits int) string {
	return fmt.Sprintf("%.*f %%", digits, 100*fraction)
}

// Verdict formats whether a target was met.
func Verdict(met bool) string {
	if met {
		return "met"
	}
	return "**not met**"
}

// Table is a Markdown table with aligned columns.
type Table struct{ rows [][]string }

// NewTable returns a table with a header and no rows.
func NewTable(header ...string) *Table { return &Table{rows: [][]string{header}} }

// Row adds a row, which must have as many cells as the header.
func (t *Table) Row(cells ...string) { t.rows = append(t.rows, cells) }

// String formats the table without a final line break. The first column is left-aligned,
// the others are right-aligned.
func (t *Table) String() string {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell), 3)
		}
	}
	var lines []string
	for _, row := range t.rows {
		lines = append(lines, line(row, widths))
	}
	return strings.Join(slices.Insert(lines, 1, rule(widths)), "\n")
}

func line(cells []string, widths []int) string {
	text := "|"
	for i, cell := range cells {
		width := widths[i]
		if i == 0 {
			width = -width
		}
		text += fmt.Sprintf(" %*s |", width, cell)
	}
	return text
}

func rule(widths []int) string {
	text := "|"
	for i, width := range widths {
		left, right := "-", ":"
		if i == 0 {
			left, right = ":", "-"
		}
		text += " " + left + strings.Repeat("-", width-2) + right + " |"
	}
	return text
}
