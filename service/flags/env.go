// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"errors"
	"sync"
)

// env is the state of one evaluation.
type env struct {
	// frames holds the data: the context, then the element of each iteration.
	frames [MaxDepth + 2]any
	// stack holds arguments between their evaluation and the operator's.
	stack []any
	// steps is how many the evaluation may still take.
	steps int
	// err is the first failure. Parts return nil after it and the value that comes
	// out in the end is not used.
	err     error
	flagKey string
	now     int64
}

var errTooManySteps = errors.New("the evaluation took more steps than it may")

var envs = sync.Pool{New: func() any { return &env{stack: make([]any, 0, 16)} }}

func newEnv(flagKey string, data any, now int64) *env {
	e := envs.Get().(*env)
	e.frames[0], e.steps, e.flagKey, e.now = data, MaxSteps, flagKey, now
	return e
}

// release gives the environment back without what it referred to.
func (e *env) release() {
	clear(e.frames[:])
	e.stack, e.err = e.stack[:0], nil
	envs.Put(e)
}

// fail ends the evaluation; the first failure is kept. It returns nil, the value
// of a part that failed.
func (e *env) fail(err error) any {
	if e.err == nil {
		e.err = err
	}
	return nil
}

// spend takes steps and says whether the evaluation may go on.
func (e *env) spend(steps int) bool {
	e.steps -= steps
	if e.steps < 0 {
		e.fail(errTooManySteps)
	}
	return e.err == nil
}

// spendText takes steps for work on text, of which short ones are free.
func (e *env) spendText(text string) bool { return e.spend(len(text) >> 6) }
