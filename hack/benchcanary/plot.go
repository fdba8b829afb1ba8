// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"strings"
)

// An image cannot always detect whether the page is light or dark, so it has no background
// and all colors are readable on white and on black.
const style = `<style>
text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#6e7781}
.title{font-weight:600}
.grid{stroke:#8c959f;stroke-opacity:.3}
.line{fill:none;stroke-width:2.2;stroke-linejoin:round}
.bound{fill:none;stroke:#8c959f;stroke-width:1.6;stroke-dasharray:5 4}
.line.verdict{stroke:#2f81f7}.line.once{stroke:#cf4b87}.line.five{stroke:#b8720a}
text.verdict{fill:#2f81f7;font-weight:600}text.once{fill:#cf4b87}text.five{fill:#b8720a}
</style>
`

// plot draws the figures as SVG: rollbacks of healthy releases on the left, the time
// until bad ones are detected on the right.
func (f figures) plot() string {
	var s strings.Builder
	s.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 340" role="img" aria-label="` +
		`Left: proportion of healthy releases that are rolled back within an hour, by method. Right: median number of requests until a bad release is rolled back.">` + "\n")
	s.WriteString(style)
	f.plotHealthy(&s)
	f.plotFaulty(&s)
	s.WriteString("</svg>\n")
	return s.String()
}

// panel is a coordinate system: x and y map values to pixels.
type panel struct {
	out  *strings.Builder
	x, y func(float64) float64
}

// The drawing area of a panel.
const (
	width, height = 330.0, 230.0
	top           = 56.0
)

// linear maps the range from low to high linearly to the range of pixels.
func linear(low, high, from, to float64) func(float64) float64 {
	return func(v float64) float64 { return from + (v-low)/(high-low)*(to-from) }
}

// logarithmic is linear on a logarithmic scale.
func logarithmic(low, high, from, to float64) func(float64) float64 {
	place := linear(math.Log(low), math.Log(high), from, to)
	return func(v float64) float64 { return place(math.Log(v)) }
}

// text draws a text at a position in pixels.
func (p panel) text(x, y float64, class, anchor, content string) {
	fmt.Fprintf(p.out, `<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`+"\n", x, y, class, anchor, content)
}

// titles draws the titles above and below the panel that begins at left.
func (p panel) titles(left float64, title, below string) {
	p.text(left, top-30, "title", "start", title)
	p.text(left+width/2, top+height+38, "", "middle", below)
}

// gridY draws a horizontal line with a label at each value.
func (p panel) gridY(left float64, values []float64, label func(float64) string) {
	for _, v := range values {
		fmt.Fprintf(p.out, `<path class="grid" d="M%.1f %.1fh%.1f"/>`+"\n", left, p.y(v), width)
		p.text(left-8, p.y(v)+4, "", "end", label(v))
	}
}

// labelsX labels the horizontal axis.
func (p panel) labelsX(values []float64, label func(float64) string) {
	for _, v := range values {
		p.text(p.x(v), top+height+18, "", "middle", label(v))
	}
}

// point is a point of a line, in values.
type point struct{ x, y float64 }

// line draws a line through points.
func (p panel) line(class string, points []point) {
	var d strings.Builder
	for i, pt := range points {
		fmt.Fprintf(&d, "%c%.1f %.1f", "ML"[min(i, 1)], p.x(pt.x), p.y(pt.y))
	}
	fmt.Fprintf(p.out, `<path class="%s" d="%s"/>`+"\n", class, d.String())
}

func (f figures) plotHealthy(s *strings.Builder) {
	const left = 56.0
	p := panel{out: s, x: linear(0, 60, left, left+width), y: linear(0, 1, top+height, top)}
	p.titles(left, "Healthy releases rolled back (half of all limits)", "minutes")
	p.gridY(left, []float64{0, 0.25, 0.5, 0.75, 1}, func(v float64) string { return fmt.Sprintf("%g %%", 100*v) })
	p.labelsX([]float64{0, 10, 20, 30, 40, 50, 60}, func(v float64) string { return fmt.Sprintf("%g", v) })
	for _, judge := range []struct {
		class, label string
		end          func(outcome) int64
	}{
		{"once", "1 failure", once},
		{"five", "5 failures", fiveTimes},
	} {
		curve := f.curve(judge.end)
		p.line("line "+judge.class, curve)
		at := curve[half(curve)]
		p.text(p.x(at.x)+12, p.y(at.y)+4, judge.class, "start", judge.label)
	}
	curve := f.curve(verdict)
	p.line("line verdict", curve)
	p.text(left+width, p.y(0)-10, "verdict", "end", "the verdict: "+percent(curve[len(curve)-1].y))
}

// curve is the fraction that is rolled back by each minute of the hour.
func (f figures) curve(judge func(outcome) int64) []point {
	ends := endsBy(f.half, judge)
	curve := make([]point, 61)
	for minute := range curve {
		curve[minute] = point{float64(minute), share(ends, int64(minute)*perMinute)}
	}
	return curve
}

// half is the index at which the curve first reaches one half.
func half(curve []point) int {
	for i, p := range curve {
		if p.y >= 0.5 {
			return i
		}
	}
	return len(curve) - 1
}

func (f figures) plotFaulty(s *strings.Builder) {
	const left = 506.0
	p := panel{out: s, x: logarithmic(1.8, 11, left, left+width), y: logarithmic(100, 40_000, top+height, top)}
	p.titles(left, "Requests until rollback, error rate (limit 0.1 %)", "true rate, as a multiple of the limit")
	p.gridY(left, []float64{100, 300, 1000, 3000, 10_000, 30_000}, thousands)
	p.labelsX([]float64{2, 3, 5, 10}, func(v float64) string { return fmt.Sprintf("%g×", v) })
	var bound, verdict, once, five []point
	for _, r := range f.faulty {
		if r.check != checks[0] {
			continue
		}
		bound = append(bound, point{r.times, r.bound})
		verdict = append(verdict, point{r.times, r.verdict})
		once = append(once, point{r.times, r.once})
		five = append(five, point{r.times, r.fiveTimes})
	}
	p.line("line once", once)
	p.line("line five", five)
	p.line("line verdict", verdict)
	p.line("bound", bound)
	p.text(p.x(2), p.y(once[0].y)+18, "once", "start", "threshold, 1 failure")
	p.text(left+width, p.y(five[len(five)-1].y)-10, "five", "end", "threshold, 5 failures")
	p.text(p.x(2.5), p.y(11_500), "verdict", "start", "the verdict")
	p.text(p.x(2), p.y(1650), "", "start", "lower bound")
}
