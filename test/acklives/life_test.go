// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package acklives

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
)

// life is a history of objects of ACK in a namespace of their own.
type life struct {
	name  string
	steps []step
}

// step is an action and what is waited for after it: states that follow each other.
type step struct {
	name  string
	do    func(stage)
	until []*state
}

// stage is where lives are played: a model or the real world.
type stage interface {
	// create, edit and remove act as a user.
	create(client.Object)
	edit(o client.Object, change func(client.Object))
	remove(client.Object)
	// secret sets the only value of a Secret, or deletes the Secret if it is empty.
	secret(name, value string)
	// ownerAccount annotates the namespace with an account, or removes the annotation.
	ownerAccount(account string)
	// refuse fails the next calls of an action for an ID, as often as given.
	refuse(action, id, code, message string, times int)
	// failCreation fails the next creation of a group, and rollBack its next modification.
	failCreation(id string)
	rollBack(id string)
	// deleteInAWS deletes a group behind ACK's back.
	deleteInAWS(id string)
}

// state is a state of an object.
type state struct {
	object client.Object
	name   string
	// holds reports whether a version of the object is in the state. It is nil if the object does
	// not exist in it.
	holds func(client.Object) bool
	// during reports that AWS must not complete its operation before the state was reached.
	during bool
	// after is a call of AWS that must have succeeded in the step, if it is not empty.
	after string
}

// ready is the state in which ACK says that an object is synced; for a group only if it is available.
func ready(o client.Object) *state {
	return &state{object: o, name: "ready", holds: func(o client.Object) bool {
		g, isGroup := o.(*ack.ReplicationGroup)
		return ack.ConditionsOf(o).Is(ack.ConditionReady) && (!isGroup || ack.GroupState(g) == ack.GroupAvailable)
	}}
}

// notReady is the state in which ACK says that an object is not synced.
func notReady(o client.Object) *state {
	return &state{object: o, name: "not ready", holds: func(o client.Object) bool {
		c := ack.ConditionsOf(o).Get(ack.ConditionReady)
		return c != nil && c.Status == corev1.ConditionFalse
	}}
}

// has is the state with a condition, and optionally a message.
func has(o client.Object, kind ack.ConditionType, messages ...string) *state {
	return &state{object: o, name: "has " + string(kind), holds: func(o client.Object) bool {
		c := ack.ConditionsOf(o).Get(kind)
		return c != nil && c.Status == corev1.ConditionTrue && (len(messages) == 0 || slices.Contains(messages, ack.Value(c.Message)))
	}}
}

// says is the state in which a condition has a message, whatever its status.
func says(o client.Object, kind ack.ConditionType, message string) *state {
	return &state{object: o, name: "says " + message, holds: func(o client.Object) bool {
		c := ack.ConditionsOf(o).Get(kind)
		return c != nil && ack.Value(c.Message) == message
	}}
}

// inAWS is the state in which a group has a status of AWS.
func inAWS(o client.Object, status string) *state {
	return &state{object: o, name: status, holds: func(o client.Object) bool { return ack.GroupState(o.(*ack.ReplicationGroup)) == status }}
}

// during holds the operation of AWS until a state was reached.
func during(s *state) *state {
	s.during = true
	return s
}

// changed are the states of a group while AWS changes it, all of which ACK observes, and after that.
func changed(g *ack.ReplicationGroup) []*state {
	return append(changing(g), ready(g))
}

func changing(g *ack.ReplicationGroup) []*state {
	const message = "replication group currently being modified. cannot delete."
	return []*state{during(inAWS(g, ack.GroupModifying)), during(says(g, ack.ConditionSynced, message))}
}

// gone is the state in which the object does not exist.
func gone(o client.Object) *state { return &state{object: o, name: "gone"} }

// readyAfter is ready after a call of AWS, since an object remains ready for a moment after a change.
func readyAfter(o client.Object, call string) *state {
	s := ready(o)
	s.after = call
	return s
}

// progress is how many of the states of a step were reached.
type progress struct {
	states []*state
	// succeeded are the calls of AWS in the step that succeeded.
	succeeded []string
	// latest are the latest versions of all objects, nil for those that do not exist anymore.
	latest map[string]client.Object
}

// begin begins a step.
func (p *progress) begin(s step) { p.states, p.succeeded = s.until, nil }

// see advances by a version of an object, which is nil if it does not exist.
func (p *progress) see(key string, version client.Object) {
	if p.latest == nil {
		p.latest = map[string]client.Object{}
	}
	p.latest[key] = version
	p.advance()
}

// advance removes the states that were reached.
func (p *progress) advance() {
	for len(p.states) > 0 {
		version, known := p.latest[keyOf(p.states[0].object)]
		if !known || !p.states[0].reached(version, p.succeeded) {
			return
		}
		p.states = p.states[1:]
	}
}

func (s *state) reached(version client.Object, calls []string) bool {
	if s.holds == nil || version == nil {
		return s.holds == nil && version == nil
	}
	return (s.after == "" || slices.Contains(calls, s.after)) && s.holds(version)
}

func keyOf(o client.Object) string { return ack.KindOf(o).Kind + " " + o.GetName() }
