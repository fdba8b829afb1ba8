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

// Statuses and messages of ElastiCache and ACK, verbatim.
const (
	stateActive          = "active"
	messageGroupCreating = "replication group currently being created."
	messageGroupDeleting = "replication group currently being deleted."
)

// service is the AWS API for one kind, as ACK's code for the kind uses it.
type service interface {
	// id is the ID in AWS of an object with this spec.
	id(spec map[string]any) string
	// read describes the resource with an ID, nil if it does not exist.
	read(id string) *observation
	create(ctx context.Context, o *object) error
	// update calls AWS for the fields that differ. The fields it returns overwrite the
	// spec, because ACK takes the response of AWS for the desired state.
	update(ctx context.Context, o *object) (over map[string]any, err error)
	delete(ctx context.Context, id string) error
}

// observation is a resource as AWS describes it.
type observation struct {
	// state is the status in AWS, "" for kinds without one. The ACK status has it as
	// stateField.
	state, stateField string
	status            map[string]any
	// deleting is set while AWS deletes the resource and ACK already considers it deleted.
	deleting bool
	// returned and lateInitialized are fields that ACK writes into the spec where they
	// are missing, in this order.
	returned, lateInitialized map[string]any
}

// reconciler is ACK's controller for one kind.
type reconciler struct {
	kind    ack.Kind
	service service
	client  client.Client
	poll    time.Duration
	resync  time.Duration
	gate    *gate
}

// result is the outcome of a reconcile.
type result struct {
	// released is set when ACK no longer manages the object and must not write to it.
	released   bool
	status     map[string]any
	conditions ack.Conditions
	// requeueAfter is the time until the next reconcile; zero means none is scheduled.
	requeueAfter time.Duration
	// err is retried with back-off.
	err error
}

// Reconcile reconciles one object as ACK does.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	if err := r.gate.wait(ctx); err != nil {
		return ctrl.Result{}, err
	}
	o, err := fetch(ctx, r.client, r.kind, request.NamespacedName)
	if o == nil || err != nil {
		return ctrl.Result{}, err
	}
	var out result
	if o.GetDeletionTimestamp() != nil {
		out = r.delete(ctx, o)
	} else {
		out = r.sync(ctx, o)
	}
	if !out.released && out.conditions != nil {
		out.err = errors.Join(out.err, o.patchStatus(ctx, out.status, out.conditions))
	}
	return ctrl.Result{RequeueAfter: out.requeueAfter}, out.err
}

func (r *reconciler) sync(ctx context.Context, o *object) result {
	found := r.service.read(r.service.id(o.spec()))
	switch {
	case found == nil:
		return r.create(ctx, o)
	case o.managed():
		return r.update(ctx, o, found)
	case o.mayAdopt():
		return r.adopt(ctx, o, found)
	default:
		return result{conditions: alreadyExistsConditions()}
	}
}

// create also recreates a managed resource that no longer exists in AWS.
func (r *reconciler) create(ctx context.Context, o *object) result {
	if err := o.markManaged(ctx, nil); err != nil {
		return result{err: err}
	}
	if err := r.service.create(ctx, o); err != nil {
		out := r.fail(err, nil)
		if out.err != nil {
			out.err = errors.Join(out.err, o.markUnmanaged(ctx))
		}
		return out
	}
	if err := o.markManaged(ctx, r.lastRequested(o)); err != nil {
		return result{err: err}
	}
	created := r.service.read(r.service.id(o.spec()))
	if created == nil {
		return result{requeueAfter: r.poll}
	}
	return r.record(ctx, o, created, created.returned)
}

// adopt takes over an existing resource and reports it ready before comparing it.
func (r *reconciler) adopt(ctx context.Context, o *object, found *observation) result {
	if err := o.markManaged(ctx, map[string]any{annotationAdopted: "true"}); err != nil {
		return result{err: err}
	}
	return result{status: found.status, conditions: syncedConditions(false), requeueAfter: r.poll}
}

func (r *reconciler) update(ctx context.Context, o *object, found *observation) result {
	over, err := r.service.update(ctx, o)
	if err != nil {
		return r.fail(err, found)
	}
	if over != nil {
		if err := o.markManaged(ctx, r.lastRequested(o)); err != nil {
			return result{err: err}
		}
	}
	return r.record(ctx, o, r.service.read(r.service.id(o.spec())), over)
}

// record writes the fields of AWS into the spec and derives the conditions: an object
// is synced if its state is stable now and was at the previous reconcile.
func (r *reconciler) record(ctx context.Context, o *object, latest *observation, over map[string]any) result {
	if latest == nil { // deleted in the meantime
		return result{requeueAfter: r.poll}
	}
	before := stringField(o.status(), latest.stateField)
	err := errors.Join(o.overwrite(ctx, over), o.fillMissing(ctx, latest.returned), o.fillMissing(ctx, latest.lateInitialized))
	if err != nil {
		return result{err: err}
	}
	if isStable(latest.state) && (before == "" || isStable(before)) {
		return result{status: latest.status, conditions: syncedConditions(latest.state == ack.GroupCreateFailed), requeueAfter: r.resync}
	}
	message := messageNotSynced
	if r.kind.Kind == "ReplicationGroup" {
		message = messageGroupCreating // ACK uses it for modifications too
	}
	return result{status: latest.status, conditions: notSyncedConditions(message), requeueAfter: r.poll}
}

func isStable(state string) bool {
	switch state {
	case "", ack.GroupAvailable, ack.GroupCreateFailed, stateActive:
		return true
	}
	return false
}

// fail reports a failed call; found is nil if the resource does not exist.
func (r *reconciler) fail(err error, found *observation) result {
	out := result{conditions: errorConditions(err.Error(), terminal(err), found != nil)}
	if found != nil {
		out.status = found.status
	}
	var later requeueError
	switch {
	case terminal(err):
	case errors.As(err, &later):
		out.requeueAfter = r.poll
	default:
		out.err = err
	}
	return out
}

// delete deletes the resource in AWS and then removes the finalizer.
func (r *reconciler) delete(ctx context.Context, o *object) result {
	id := r.service.id(o.spec())
	retained, err := o.retained(ctx)
	if err != nil {
		return result{err: err}
	}
	found := r.service.read(id)
	if !o.managed() || retained || found == nil {
		return result{released: true, err: o.markUnmanaged(ctx)}
	}
	before := conditionsOf(o)
	switch found.state {
	case ack.GroupModifying:
		return result{status: found.status, conditions: deletingConditions(before, messageModifying, messageNotSynced), requeueAfter: r.poll}
	case ack.GroupDeleting:
		return result{status: found.status, conditions: deletingConditions(before, messageDeleting, messageGroupDeleting), requeueAfter: r.poll}
	}
	if err := r.service.delete(ctx, id); err != nil {
		out := r.fail(err, found)
		out.conditions = deletingConditions(before, err.Error(), messageNotSynced)
		if terminal(err) {
			out.conditions[0].Type = ack.ConditionTerminal
		}
		return out
	}
	if found = r.service.read(id); found == nil || found.deleting {
		return result{released: true, err: o.markUnmanaged(ctx)}
	}
	return result{status: found.status, conditions: deletingConditions(before, messageDeleting, messageGroupDeleting), requeueAfter: r.poll}
}

// lastRequested are the annotations in which ACK keeps the values it last sent.
func (r *reconciler) lastRequested(o *object) map[string]any {
	if r.kind.Kind != "ReplicationGroup" {
		return nil
	}
	return map[string]any{
		annotationPrefix + "last-requested-cache-node-type":             stringField(o.spec(), "cacheNodeType"),
		annotationPrefix + "last-requested-num-node-groups":             "1",
		annotationPrefix + "last-requested-node-group-configuration":    "null",
		annotationPrefix + "last-requested-log-delivery-configurations": "null",
	}
}
