// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/source/postgres"
)

// validate returns a definition in the form to be stored, or the problems that
// flag-service lint would report for it in its environment.
func validate(e postgres.Environment, key string, definition []byte) ([]byte, error) {
	if err := flags.CheckSyntax(definition); err != nil {
		return nil, invalid("the definition is unusable: "+err.Error(), nil)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, definition); err != nil {
		return nil, err
	}
	b := bytes.NewBufferString("{")
	for _, shared := range []struct {
		name  string
		value json.RawMessage
	}{{"metadata", e.Metadata}, {"$evaluators", e.Evaluators}} {
		if shared.value != nil {
			fmt.Fprintf(b, "%q:%s,\n", shared.name, shared.value)
		}
	}
	name, err := json.Marshal(key)
	if err != nil {
		return nil, err
	}
	// The definition begins on a new line, so that lines can be counted from its
	// start.
	fmt.Fprintf(b, "\"flags\":{%s:\n", name)
	before := bytes.Count(b.Bytes(), []byte("\n"))
	b.Write(definition)
	b.WriteString("}}")
	_, problems, err := flags.Parse(b.Bytes())
	if err != nil {
		return nil, invalid("the definition is invalid: "+err.Error(), nil)
	}
	problems = slices.DeleteFunc(problems, func(p flags.Problem) bool { return p.Flag != key })
	if len(problems) > 0 {
		return nil, invalid("the definition has problems", findings(problems, before))
	}
	return compact.Bytes(), nil
}

// newProblems returns the problems in is that are not in was.
func newProblems(was, is []flags.Problem) []flags.Problem {
	known := map[[2]string]bool{}
	for _, p := range was {
		known[[2]string{p.Path, p.Message}] = true
	}
	return slices.DeleteFunc(is, func(p flags.Problem) bool { return known[[2]string{p.Path, p.Message}] })
}
