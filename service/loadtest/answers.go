// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"hash/maphash"
	"sync"
)

// Question identifies what a request evaluates.
type Question struct {
	// Flag is the flag's key, empty for all flags.
	Flag string
	// User is the number of the evaluation context.
	User int
}

// Answers validates answers. Implementations must be safe for concurrent use.
type Answers interface {
	// Right reports whether the body of a 200 is correct. revision is the revision
	// that answered, empty if unknown.
	Right(q Question, revision string, body []byte) bool
}

var seed = maphash.MakeSeed()

// Consistent requires every revision to repeat its first answer to a question,
// because the same flags must give the same answers.
type Consistent struct {
	mu    sync.Mutex
	first map[answerKey]uint64
}

type answerKey struct {
	Question
	revision string
}

// Right reports whether the answer equals the revision's first one.
func (c *Consistent) Right(q Question, revision string, body []byte) bool {
	sum := maphash.Bytes(seed, body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil {
		c.first = map[answerKey]uint64{}
	}
	first, known := c.first[answerKey{q, revision}]
	if !known {
		c.first[answerKey{q, revision}] = sum
		return true
	}
	return first == sum
}

// Learned requires answers that were learned before, such as those before a
// fault, or those of another service. All other answers are wrong.
type Learned struct {
	mu    sync.RWMutex
	right map[Question][]uint64
}

// Learn adds a correct answer.
func (l *Learned) Learn(q Question, body []byte) {
	sum := maphash.Bytes(seed, body)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.right == nil {
		l.right = map[Question][]uint64{}
	}
	l.right[q] = append(l.right[q], sum)
}

// Right reports whether the answer was learned.
func (l *Learned) Right(q Question, _ string, body []byte) bool {
	sum := maphash.Bytes(seed, body)
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, right := range l.right[q] {
		if right == sum {
			return true
		}
	}
	return false
}
