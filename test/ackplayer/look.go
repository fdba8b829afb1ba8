// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	"context"
	"errors"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
)

// States that mean the same for every kind.
const (
	stateActive  = "active"
	messageBusy  = "replication group currently being created."
	messageLeave = "replication group currently being deleted."
)

// service is AWS' API for one kind, as ACK's code for the kind uses it.
type service interface {
	// id is what AWS calls an object with this spec.
	id(spec map[string]any) string
	// read is what AWS says of an ID, nil when it has nothing there.
	read(id string) *answer
	create(ctx context.Context, o *object) error
	// update calls AWS for what differs. What it returns is written over the spec,
	// because ACK takes what AWS answers to its call for what is wanted.
	update(ctx context.Context, o *object) (over map[string]any, err error)
	delete(ctx context.Context, id string) error
}

// answer is what AWS says of something.
type answer struct {
	// state is AWS' word, "" for kinds that have none; it is also in status, under
	// stateField.
	state, stateField string
	status            map[string]any
	// leaving says that AWS deletes it and that ACK calls it gone already.
	leaving bool
	// mentioned and late are fields that ACK writes into the spec where they are
	// missing there: first one, then the other.
	mentioned, late map[string]any
}

// looker is the controller of one kind: one worker that looks at one object at a
// time.
type looker struct {
	kind    ack.Kind
	service service
	client  client.Client
	poll    time.Duration
	resync  time.Duration
	gate    *gate
}

// outcome is what a look came to.
type outcome struct {
	// gone says that the object is no longer ACK's to write to.
	gone       bool
	status     map[string]any
	conditions []ack.Condition
	// again is when to look again; zero is never.
	again time.Duration
	// err is looked into again with back-off.
	err error
}

// Reconcile looks at one object.
func (l *looker) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	if err := l.gate.pass(ctx); err != nil {
		return ctrl.Result{}, err
	}
	o, err := fetch(ctx, l.client, l.kind, request.NamespacedName)
	if o == nil || err != nil {
		return ctrl.Result{}, err
	}
	var out outcome
	if o.GetDeletionTimestamp() != nil {
		out = l.remove(ctx, o)
	} else {
		out = l.sync(ctx, o)
	}
	if !out.gone && out.conditions != nil {
		out.err = errors.Join(out.err, o.report(ctx, out.status, out.conditions))
	}
	return ctrl.Result{RequeueAfter: out.again}, out.err
}

func (l *looker) sync(ctx context.Context, o *object) outcome {
	found := l.service.read(l.service.id(o.spec()))
	switch {
	case found == nil:
		return l.create(ctx, o)
	case o.managed():
		return l.update(ctx, o, found)
	case o.adopts():
		return l.adopt(ctx, o, found)
	default:
		return outcome{conditions: taken()}
	}
}

// create also makes anew what was managed and is gone.
func (l *looker) create(ctx context.Context, o *object) outcome {
	if err := o.manage(ctx, nil); err != nil {
		return outcome{err: err}
	}
	if err := l.service.create(ctx, o); err != nil {
		out := l.refuse(err, nil)
		if out.err != nil {
			out.err = errors.Join(out.err, o.unmanage(ctx))
		}
		return out
	}
	if err := o.manage(ctx, l.lastRequested(o)); err != nil {
		return outcome{err: err}
	}
	made := l.service.read(l.service.id(o.spec()))
	if made == nil {
		return outcome{again: l.poll}
	}
	return l.tell(ctx, o, made, made.mentioned)
}

// adopt takes over what AWS has, and calls it ready before it was compared.
func (l *looker) adopt(ctx context.Context, o *object, found *answer) outcome {
	if err := o.manage(ctx, map[string]any{annotationAdopted: "true"}); err != nil {
		return outcome{err: err}
	}
	return outcome{status: found.status, conditions: settled(false), again: l.poll}
}

func (l *looker) update(ctx context.Context, o *object, found *answer) outcome {
	over, err := l.service.update(ctx, o)
	if err != nil {
		return l.refuse(err, found)
	}
	if over != nil {
		if err := o.manage(ctx, l.lastRequested(o)); err != nil {
			return outcome{err: err}
		}
	}
	return l.tell(ctx, o, l.service.read(l.service.id(o.spec())), over)
}

// tell writes into the spec what AWS said, and judges: an object is settled when
// it is now, and was at the look before.
func (l *looker) tell(ctx context.Context, o *object, said *answer, over map[string]any) outcome {
	if said == nil { // it went in this very moment
		return outcome{again: l.poll}
	}
	before := text(o.status(), said.stateField)
	err := errors.Join(o.overwrite(ctx, over), o.fill(ctx, said.mentioned), o.fill(ctx, said.late))
	if err != nil {
		return outcome{err: err}
	}
	if rests(said.state) && (before == "" || rests(before)) {
		return outcome{status: said.status, conditions: settled(said.state == ack.GroupCreateFailed), again: l.resync}
	}
	message := textNotSynced
	if l.kind.Kind == "ReplicationGroup" {
		message = messageBusy // also while it is being changed
	}
	return outcome{status: said.status, conditions: unsettled(message), again: l.poll}
}

func rests(state string) bool {
	switch state {
	case "", ack.GroupAvailable, ack.GroupCreateFailed, stateActive:
		return true
	}
	return false
}

// refuse says that something failed; found is nil for what does not exist.
func (l *looker) refuse(err error, found *answer) outcome {
	out := outcome{conditions: refused(err.Error(), terminal(err), found != nil)}
	if found != nil {
		out.status = found.status
	}
	var later pending
	switch {
	case terminal(err):
	case errors.As(err, &later):
		out.again = l.poll
	default:
		out.err = err
	}
	return out
}

// remove takes what AWS has away, and then the finalizer.
func (l *looker) remove(ctx context.Context, o *object) outcome {
	id := l.service.id(o.spec())
	retained, err := o.retained(ctx)
	if err != nil {
		return outcome{err: err}
	}
	found := l.service.read(id)
	if !o.managed() || retained || found == nil {
		return outcome{gone: true, err: o.unmanage(ctx)}
	}
	before := conditionsOf(o)
	switch found.state {
	case ack.GroupModifying:
		return outcome{status: found.status, conditions: leaving(before, textModifying, textNotSynced), again: l.poll}
	case ack.GroupDeleting:
		return outcome{status: found.status, conditions: leaving(before, textDeleting, messageLeave), again: l.poll}
	}
	if err := l.service.delete(ctx, id); err != nil {
		out := l.refuse(err, found)
		out.conditions = leaving(before, err.Error(), textNotSynced)
		if terminal(err) {
			out.conditions[0].Type = ack.ConditionTerminal
		}
		return out
	}
	if found = l.service.read(id); found == nil || found.leaving {
		return outcome{gone: true, err: o.unmanage(ctx)}
	}
	return outcome{status: found.status, conditions: leaving(before, textDeleting, messageLeave), again: l.poll}
}

// lastRequested are the annotations by which ACK remembers what it asked for.
func (l *looker) lastRequested(o *object) map[string]any {
	if l.kind.Kind != "ReplicationGroup" {
		return nil
	}
	return map[string]any{
		annotationPrefix + "last-requested-cache-node-type":             text(o.spec(), "cacheNodeType"),
		annotationPrefix + "last-requested-num-node-groups":             "1",
		annotationPrefix + "last-requested-node-group-configuration":    "null",
		annotationPrefix + "last-requested-log-delivery-configurations": "null",
	}
}
