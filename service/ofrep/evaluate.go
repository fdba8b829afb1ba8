// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"errors"

	"github.com/flagcache/flagcache/service/flags"
)

// Errors of evaluations without an outcome. All others are those of an invalid context.
var (
	// ErrNoFlags means that Serve has not been called yet.
	ErrNoFlags = errors.New("no flags have been loaded yet")
	// ErrNotFound means that there is no such flag.
	ErrNotFound = errors.New("the flag does not exist")
	// ErrRejected means that the flag was left out of the set as invalid.
	ErrRejected = errors.New(DetailsRejected)
)

// Evaluate evaluates one flag for a handler of another protocol. The body is that of an
// OFREP request.
func (c *Core) Evaluate(key string, body []byte) (*flags.Set, *flags.Outcome, error) {
	view, outcome, err := c.evaluate(key, body)
	if err != nil {
		return nil, nil, err
	}
	return view.set, outcome, nil
}

func (c *Core) evaluate(key string, body []byte) (*view, *flags.Outcome, error) {
	view := c.view.Load()
	if view == nil {
		return nil, nil, ErrNoFlags
	}
	flag, known := view.set.Flag(key)
	attributes := view.set.Attributes()
	if known {
		attributes = flag.Attributes()
	}
	context := flags.NewContext()
	defer context.Release()
	if err := context.Read(string(body), attributes); err != nil {
		return nil, nil, err
	}
	switch {
	case !known && view.set.Rejected(key):
		return nil, nil, ErrRejected
	case !known:
		return nil, nil, ErrNotFound
	}
	outcome, err := flag.Evaluate(context, c.time(attributes))
	c.metrics.evaluated(view, outcome, err)
	return view, outcome, nil
}

// EvaluateAll evaluates all flags for a handler of another protocol, sorted by key.
func (c *Core) EvaluateAll(body []byte) (*flags.Set, []*flags.Outcome, error) {
	view := c.view.Load()
	if view == nil {
		return nil, nil, ErrNoFlags
	}
	context := flags.NewContext()
	defer context.Release()
	if err := context.Read(string(body), view.set.Attributes()); err != nil {
		return nil, nil, err
	}
	now, outcomes := c.time(view.set.Attributes()), make([]*flags.Outcome, 0, view.set.Len())
	for _, flag := range view.set.Flags() {
		outcome, err := flag.Evaluate(context, now)
		c.metrics.evaluated(view, outcome, err)
		outcomes = append(outcomes, outcome)
	}
	return view.set, outcomes, nil
}
