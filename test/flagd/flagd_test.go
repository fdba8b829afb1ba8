// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/open-feature/flagd/core/pkg/evaluator"
	"github.com/open-feature/flagd/core/pkg/logger"
	"github.com/open-feature/flagd/core/pkg/store"
	"github.com/open-feature/flagd/core/pkg/sync"
	"go.uber.org/zap"

	"github.com/flagcache/flagcache/service/flags"
)

// answer is the result of an evaluation.
type answer struct {
	Refused  string `json:",omitempty"`
	Error    string `json:",omitempty"`
	Reason   string `json:",omitempty"`
	Variant  string `json:",omitempty"`
	Value    any    `json:",omitempty"`
	Metadata any    `json:",omitempty"`
}

func (a answer) String() string {
	text, err := json.Marshal(a)
	if err != nil {
		return fmt.Sprintf("%#v", a)
	}
	return string(text)
}

// Answers without an evaluation.
const (
	documentRefused = "document"
	flagRefused     = "flag"
	flagAbsent      = "absent"
)

// theirs is flagd with a document; err is why it refuses the document.
type theirs struct {
	json *evaluator.JSON
	err  error
}

func newTheirs(t testing.TB, document string) theirs {
	t.Helper()
	log := logger.NewLogger(zap.NewNop(), false)
	s, err := store.NewStore(log, []string{"source"})
	if err != nil {
		t.Fatal(err)
	}
	e := evaluator.NewJSON(log, s)
	return theirs{json: e, err: e.SetState(sync.DataSync{FlagData: document, Source: "source"})}
}

func (f theirs) evaluate(key string, attributes map[string]any) answer {
	if f.err != nil {
		return answer{Refused: documentRefused}
	}
	got := f.json.ResolveAsAnyValue(context.Background(), "request", key, attributes)
	a := answer{Metadata: normalized(got.Metadata)}
	if got.Error != nil {
		a.Error = got.Error.Error()
		if a.Error == "FLAG_NOT_FOUND" {
			return answer{Refused: flagAbsent}
		}
		return a
	}
	a.Reason, a.Variant, a.Value = got.Reason, got.Variant, normalized(got.Value)
	if a.Reason == "FALLBACK" {
		// The protocol has no such reason.
		a.Reason = "DEFAULT"
	}
	return a
}

// ours is the flag service with a document.
type ours struct {
	set *flags.Set
	err error
}

func newOurs(document string) ours {
	set, _, err := flags.Parse([]byte(document))
	return ours{set: set, err: err}
}

func (f ours) evaluate(t testing.TB, key, attributes string) answer {
	t.Helper()
	if f.err != nil {
		return answer{Refused: documentRefused}
	}
	if f.set.Rejected(key) {
		return answer{Refused: flagRefused}
	}
	flag, known := f.set.Flag(key)
	if !known {
		return answer{Refused: flagAbsent}
	}
	c := flags.NewContext()
	defer c.Release()
	if err := c.Read(`{"context":`+attributes+`}`, flag.Attributes()); err != nil {
		t.Fatalf("the context %s: %v", attributes, err)
	}
	outcome, _ := flag.Evaluate(c, 1_700_000_000)
	a := answer{Error: string(outcome.ErrorCode), Metadata: normalized(outcome.Metadata)}
	if a.Error != "" {
		return a
	}
	a.Reason, a.Variant, a.Value = string(outcome.Reason), outcome.Variant, normalized(outcome.Value)
	return a
}

// normalized returns a value as decoded JSON, nil for nothing.
func normalized(value any) any {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(err)
	}
	var decoded any
	if err := json.Unmarshal(text, &decoded); err != nil {
		return fmt.Sprint(err)
	}
	if object, ok := decoded.(map[string]any); ok && len(object) == 0 {
		return nil
	}
	return decoded
}

// attributesOf decodes a context.
func attributesOf(t testing.TB, text string) map[string]any {
	t.Helper()
	var attributes map[string]any
	if err := json.Unmarshal([]byte(text), &attributes); err != nil {
		t.Fatalf("the context %s: %v", text, err)
	}
	return attributes
}
