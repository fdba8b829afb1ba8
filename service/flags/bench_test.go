// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"fmt"
	"strings"
	"testing"

	"github.com/flagcache/flagcache/service/benchmark"
)

const benchContext = `{"targetingKey":"user-1","email":"ann@corp.com","tier":"gold","age":30}`

// evaluations are the benchmarked evaluations, each with an equivalent
// handwritten closure over a context that is a map.
var evaluations = []struct {
	name, definition string
	byHand           func(on, off *Outcome, context map[string]any) *Outcome
}{
	{
		"static", `{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on"}`,
		func(on, _ *Outcome, _ map[string]any) *Outcome { return on },
	},
	{
		"ends_with", targeted(`{"if":[{"ends_with":[{"var":"email"},"@corp.com"]},"on","off"]}`),
		func(on, off *Outcome, context map[string]any) *Outcome {
			if email, ok := context["email"].(string); ok && strings.HasSuffix(email, "@corp.com") {
				return on
			}
			return off
		},
	},
	{
		"fractional", targeted(`{"fractional":[["on",50],["off",50]]}`),
		func(on, off *Outcome, context map[string]any) *Outcome {
			key, _ := context["targetingKey"].(string)
			if uint64(bucketHash("flag", key))*100>>32 < 50 {
				return on
			}
			return off
		},
	},
	{
		"comparisons", targeted(`{"if":[{"and":[{">":[{"var":"age"},18]},{"==":[{"var":"tier"},"gold"]},{"in":[{"var":"tier"},["gold","silver"]]}]},"on","off"]}`),
		func(on, off *Outcome, context map[string]any) *Outcome {
			age, _ := context["age"].(float64)
			tier, _ := context["tier"].(string)
			if age > 18 && tier == "gold" && (tier == "gold" || tier == "silver") {
				return on
			}
			return off
		},
	},
}

func TestEvaluationAllocatesNothing(t *testing.T) {
	for _, evaluation := range evaluations {
		t.Run(evaluation.name, func(t *testing.T) {
			flag := parseFlag(t, evaluation.definition)
			ctx := read(t, benchContext, flag.Attributes())
			allocations := testing.AllocsPerRun(1000, func() {
				if outcome, _ := flag.Evaluate(ctx, 1); outcome.Value == nil {
					t.Fatal("the evaluation has no value")
				}
			})
			if allocations > 0 {
				t.Errorf("an evaluation allocates %v times", allocations)
			}
		})
	}
}

func TestReadingAllocatesNothing(t *testing.T) {
	flag := parseFlag(t, evaluations[3].definition)
	body := `{"context":` + benchContext + `}`
	c := NewContext()
	defer c.Release()
	allocations := testing.AllocsPerRun(1000, func() {
		if err := c.Read(body, flag.Attributes()); err != nil {
			t.Fatal(err)
		}
	})
	if allocations > 0 {
		t.Errorf("reading allocates %v times", allocations)
	}
}

// BenchmarkEvaluate measures one evaluation of a decoded context. The ratio is
// to the handwritten closure, measured alternately in the same run.
func BenchmarkEvaluate(b *testing.B) {
	for _, evaluation := range evaluations {
		b.Run(evaluation.name, func(b *testing.B) {
			flag := parseFlag(b, evaluation.definition)
			ctx := read(b, benchContext, flag.Attributes())
			on, off := flag.match("on"), flag.fallback
			attributes := decodeScanned(benchContext).(map[string]any)
			benchmark.Alternate(b, 1000,
				func() { _, _ = flag.Evaluate(ctx, 1) },
				func() { outcome = evaluation.byHand(on, off, attributes) },
			)
		})
	}
}

// outcome keeps the compiler from eliminating the benchmarked calls.
var outcome *Outcome

// BenchmarkRead measures scanning a request's body for one attribute of many.
func BenchmarkRead(b *testing.B) {
	flag := parseFlag(b, evaluations[1].definition)
	for _, more := range []int{0, 10, 100} {
		b.Run(fmt.Sprintf("%d-more", more), func(b *testing.B) {
			body := `{"context":{"email":"ann@corp.com","targetingKey":"user-1"`
			for i := range more {
				body += fmt.Sprintf(`,"attribute-%d":"value %d"`, i, i)
			}
			body += `}}`
			c := NewContext()
			defer c.Release()
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := c.Read(body, flag.Attributes()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
