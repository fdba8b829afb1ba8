// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// median is the middle one, the lower of two. There must be at least one.
func median[T cmp.Ordered](values []T) T {
	return slices.Sorted(slices.Values(values))[(len(values)-1)/2]
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

func wholeSeconds(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }

func inSeconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }

// thousands is a number with its thousands apart.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}

// table is one in Markdown, its columns aligned for who reads it as text.
type table struct{ rows [][]string }

func newTable(header ...string) *table { return &table{rows: [][]string{header}} }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// String is the table without a line end after it. The first column is aligned
// to the left, the others to the right.
func (t *table) String() string {
	widths := make([]int, len(t.rows[0]))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell), 3)
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
