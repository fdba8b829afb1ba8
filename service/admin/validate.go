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

// validate returns a definition in the form to be stored. It is refused if the flag would
// not be served, or has a problem that it does not have now: a flag with a rule that does
// not work as intended, which an earlier release or a client of the database wrote, must
// be disabled quickly.
func validate(e postgres.Environment, key string, current *postgres.Flag, definition []byte) ([]byte, error) {
	if err := flags.CheckSyntax(definition); err != nil {
		return nil, invalid("the definition is unusable: "+err.Error(), nil)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, definition); err != nil {
		return nil, err
	}
	is, before, err := check(e, key, definition)
	if err != nil {
		return nil, invalid("the definition is invalid: "+err.Error(), nil)
	}
	var was verdict
	if current != nil {
		// One that cannot be read has no problems in common.
		was, _, _ = check(e, key, current.Definition)
	}
	problems := newProblems(was.problems, is.problems)
	if !is.served {
		problems = is.problems
	}
	if !is.served || len(problems) > 0 {
		return nil, invalid("the definition has problems", findings(problems, before))
	}
	return compact.Bytes(), nil
}

// verdict is what a flag service would do with a flag.
type verdict struct {
	served   bool
	problems []flags.Problem
}

// check checks a definition with the parts that the flags of its environment share. The
// definition begins on a new line, after lines of the document before it.
func check(e postgres.Environment, key string, definition []byte) (v verdict, lines int, err error) {
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
		return verdict{}, 0, err
	}
	fmt.Fprintf(b, "\"flags\":{%s:\n", name)
	lines = bytes.Count(b.Bytes(), []byte("\n"))
	b.Write(definition)
	b.WriteString("}}")
	set, problems, err := flags.Parse(b.Bytes())
	if err != nil {
		return verdict{}, lines, err
	}
	_, v.served = set.Flag(key)
	v.problems = slices.DeleteFunc(problems, func(p flags.Problem) bool { return p.Flag != key })
	return v, lines, nil
}

// newProblems returns the problems in is that are not in was.
func newProblems(was, is []flags.Problem) []flags.Problem {
	known := map[[2]string]bool{}
	for _, p := range was {
		known[[2]string{p.Path, p.Message}] = true
	}
	return slices.DeleteFunc(slices.Clone(is), func(p flags.Problem) bool { return known[[2]string{p.Path, p.Message}] })
}

// lost returns the problems of flags that are not served any more.
func lost(was, is *flags.Set) []flags.Problem {
	var list []flags.Problem
	for _, flag := range was.Flags() {
		if _, served := is.Flag(flag.Key); !served {
			list = append(list, flags.Problem{Flag: flag.Key, Path: "flags." + flag.Key, Message: "the flag would not be served any more"})
		}
	}
	return list
}
