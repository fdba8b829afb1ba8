// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/flagcache/flagcache/controllers/ack"
)

// Refuse makes the next calls of an operation on an ID fail with an error code, such
// as ClusterQuotaForCustomerExceeded. With the code CreateFailed the call that creates
// a group succeeds, and the creation fails afterwards.
func (p *Player) Refuse(op Operation, id, code string, times int) {
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	p.account.refusals = append(p.account.refusals, refusal{op, id, code, times})
}

// Calls returns all mutating AWS calls in order, including those that were refused.
func (p *Player) Calls() []Call {
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	return slices.Clone(p.account.calls)
}

// Groups returns the IDs of the replication groups that exist in AWS, sorted.
func (p *Player) Groups() []string {
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	for id := range p.account.groups {
		p.account.findGroup(id)
	}
	return slices.Sorted(maps.Keys(p.account.groups))
}

// Failover promotes a replica of a group for real. ACK does not notice.
func (p *Player) Failover(ctx context.Context, id string) error {
	g, err := p.available(id)
	if err != nil {
		return err
	}
	return g.fleet.failover(ctx, p.options.CutOnFailover)
}

// Cut closes all client connections of a group.
func (p *Player) Cut(id string) error {
	g, err := p.available(id)
	if err != nil {
		return err
	}
	g.fleet.cut()
	return nil
}

// Snapshotting puts a group into the state snapshotting for a time, as AWS does for
// its nightly backup.
func (p *Player) Snapshotting(id string, d time.Duration) error {
	g, err := p.available(id)
	if err != nil {
		return err
	}
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	p.account.startPhase(g, ack.GroupSnapshotting, d, nil)
	return nil
}

// DeleteOutOfBand deletes a group without ACK. On its next reconcile ACK creates an
// empty one in its place.
func (p *Player) DeleteOutOfBand(id string) error {
	p.account.mu.Lock()
	g := p.account.groups[id]
	delete(p.account.groups, id)
	p.account.mu.Unlock()
	if g == nil {
		return fmt.Errorf("group %s does not exist", id)
	}
	g.fleet.stop()
	return nil
}

func (p *Player) available(id string) (*group, error) {
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	g := p.account.findGroup(id)
	if g == nil {
		return nil, fmt.Errorf("group %s does not exist", id)
	}
	if state := g.state(); state != ack.GroupAvailable {
		return nil, fmt.Errorf("group %s is %s", id, state)
	}
	return g, nil
}

// Pause stops ACK from reconciling, as if it hung, until Resume.
func (p *Player) Pause() { p.gate.close() }

// Resume ends a Pause.
func (p *Player) Resume() { p.gate.open() }

// Slow delays every reconcile of ACK by d.
func (p *Player) Slow(d time.Duration) { p.gate.setDelay(d) }

// Resync makes ACK reconcile every object, as after a restart.
func (p *Player) Resync(ctx context.Context) error {
	for _, k := range ack.Kinds() {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(k.GroupVersion().WithKind(k.Kind + "List"))
		if err := p.client.List(ctx, list); err != nil {
			return fmt.Errorf("listing %s: %w", k.Resource, err)
		}
		for i := range list.Items {
			var o client.Object = &list.Items[i]
			select {
			case p.resyncs[k.Kind] <- event.GenericEvent{Object: o}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// gate holds back or delays reconciles.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // nil while the gate is open; closed when it opens again
	delay  time.Duration
}

// wait returns once the gate is open and the delay has passed.
func (g *gate) wait(ctx context.Context) error {
	for {
		g.mu.Lock()
		closed, delay := g.closed, g.delay
		g.mu.Unlock()
		if closed == nil {
			return sleep(ctx, delay)
		}
		select {
		case <-closed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// sleep waits for d, or returns an error when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed == nil {
		g.closed = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
}

func (g *gate) setDelay(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.delay = d
}
