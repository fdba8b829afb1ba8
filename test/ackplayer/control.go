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

// Refuse has AWS refuse the next calls of an operation on an ID with a code, such
// as ClusterQuotaForCustomerExceeded. With CreateFailed, a group's creation begins
// and fails.
func (p *Player) Refuse(op Operation, id, code string, times int) {
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	p.account.refusals = append(p.account.refusals, refusal{op, id, code, times})
}

// Calls are all that changed something in AWS, or were refused to, in order.
func (p *Player) Calls() []Call {
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	return slices.Clone(p.account.calls)
}

// Groups are the IDs of the replication groups that AWS has, sorted.
func (p *Player) Groups() []string {
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	for id := range p.account.groups {
		p.account.groupOf(id)
	}
	return slices.Sorted(maps.Keys(p.account.groups))
}

// Failover makes a replica of a group its primary, really. ACK does not notice.
func (p *Player) Failover(ctx context.Context, id string) error {
	g, err := p.available(id)
	if err != nil {
		return err
	}
	return g.fleet.failover(ctx, p.options.CutOnFailover)
}

// Cut closes the connections of a group's clients.
func (p *Player) Cut(id string) error {
	g, err := p.available(id)
	if err != nil {
		return err
	}
	g.fleet.cut()
	return nil
}

// Snapshotting has AWS back a group up for a time, as it does each night.
func (p *Player) Snapshotting(id string, d time.Duration) error {
	g, err := p.available(id)
	if err != nil {
		return err
	}
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	p.account.begin(g, ack.GroupSnapshotting, d, nil)
	return nil
}

// Lose deletes a group behind ACK's back. At its next look ACK makes an empty one
// in its place.
func (p *Player) Lose(id string) error {
	p.account.mu.Lock()
	g := p.account.groups[id]
	delete(p.account.groups, id)
	p.account.mu.Unlock()
	if g == nil {
		return fmt.Errorf("there is no group %s", id)
	}
	g.fleet.stop()
	return nil
}

func (p *Player) available(id string) (*group, error) {
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	g := p.account.groupOf(id)
	if g == nil {
		return nil, fmt.Errorf("there is no group %s", id)
	}
	if state := g.state(); state != ack.GroupAvailable {
		return nil, fmt.Errorf("group %s is %s", id, state)
	}
	return g, nil
}

// Pause has ACK look at nothing, as if it were stuck, until Resume.
func (p *Player) Pause() { p.gate.close() }

// Resume ends a Pause.
func (p *Player) Resume() { p.gate.open() }

// Slow has each look begin late by d.
func (p *Player) Slow(d time.Duration) { p.gate.slow(d) }

// Resync has ACK look at everything, as after a restart.
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
			case p.wakes[k.Kind] <- event.GenericEvent{Object: o}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// gate is what each look passes.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // closed when the gate opens again; nil while it is open
	delay  time.Duration
}

// pass waits until the gate is open, and then as long as looks are late.
func (g *gate) pass(ctx context.Context) error {
	for {
		g.mu.Lock()
		closed, delay := g.closed, g.delay
		g.mu.Unlock()
		if closed == nil {
			return late(ctx, delay)
		}
		select {
		case <-closed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func late(ctx context.Context, d time.Duration) error {
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

func (g *gate) slow(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.delay = d
}
