// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"hash/maphash"
	"sync"
)

// Question is what a request asks.
type Question struct {
	// Flag is the flag's key, empty for all flags.
	Flag string
	// User is the number of the evaluation context.
	User int
}

// Answers says whether an answer is right. It is safe for concurrent use.
type Answers interface {
	// Right judges the body of a 200. Revision is who answered, empty if it did not
	// say.
	Right(q Question, revision string, body []byte) bool
}

var seed = maphash.MakeSeed()

// Consistent holds every revision to the first answer that it gave to a
// question: the same flags answer the same.
type Consistent struct {
	mu    sync.Mutex
	first map[said]uint64
}

type said struct {
	Question
	revision string
}

// Right is false if the revision has answered otherwise before.
func (c *Consistent) Right(q Question, revision string, body []byte) bool {
	sum := maphash.Bytes(seed, body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil {
		c.first = map[said]uint64{}
	}
	first, known := c.first[said{q, revision}]
	if !known {
		c.first[said{q, revision}] = sum
		return true
	}
	return first == sum
}

// Learned holds services to the answers that were learned before, such as those
// of a calm time, or of another service. What was not learned is wrong.
type Learned struct {
	mu    sync.RWMutex
	right map[Question][]uint64
}

// Learn makes a further answer right.
func (l *Learned) Learn(q Question, body []byte) {
	sum := maphash.Bytes(seed, body)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.right == nil {
		l.right = map[Question][]uint64{}
	}
	l.right[q] = append(l.right[q], sum)
}

// Right is true if the answer was learned.
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
