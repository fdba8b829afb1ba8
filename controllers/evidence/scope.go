// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// namespaceLabel is the label of the namespace that a target runs in.
const namespaceLabel = "namespace"

// maxSyntaxError is the maximum length of a syntax error in a message.
const maxSyntaxError = 200

// invalidQueryError is a query that is not run. Its text is part of condition messages:
// it repeats only what the author of the FlagCache wrote.
type invalidQueryError string

// Error implements error.
func (e invalidQueryError) Error() string { return string(e) }

// scoped fills in a user's query and restricts each of its selectors to the namespace of
// the FlagCache: a Prometheus usually holds the metrics of the whole cluster, and its
// answers show in the status. The revision must select series; in a comment or a string
// it would let both revisions be judged by the same series.
func scoped(q v1alpha1.Query, revision string, t Target) (string, error) {
	expr, err := parser.ParseExpr(fill(string(q), revision, t))
	if err != nil {
		return "", syntaxError(err)
	}
	if expr.Type() != parser.ValueTypeVector {
		return "", invalidQueryError(fmt.Sprintf("the result of the query is a %s, not an instant vector", parser.DocumentedType(expr.Type())))
	}
	namespace := labels.MustNewMatcher(labels.MatchEqual, namespaceLabel, t.FlagCache.Namespace)
	selects := false
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		selector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		for _, m := range selector.LabelMatchers {
			positive := m.Type == labels.MatchEqual || m.Type == labels.MatchRegexp
			selects = selects || positive && strings.Contains(m.Value, revision)
		}
		selector.LabelMatchers = append(selector.LabelMatchers, namespace)
		return nil
	})
	if !selects {
		return "", invalidQueryError("no selector of the query has a label matcher with $revision")
	}
	return expr.String(), nil
}

// syntaxError describes the first syntax error, with its position in the query.
func syntaxError(err error) error {
	var all parser.ParseErrors
	if !errors.As(err, &all) || len(all) == 0 {
		return invalidQueryError("the query is not PromQL")
	}
	first := all[0]
	text := strings.ToValidUTF8(first.Err.Error()[:min(len(first.Err.Error()), maxSyntaxError)], "")
	return invalidQueryError(fmt.Sprintf("the query is not PromQL: character %d: %s", first.PositionRange.Start+1, text))
}
