// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
)

// Inject adds a fault. Faults apply in the order in which they were added.
func (p *Player) Inject(f Fault) {
	p.account.journal.mu.Lock()
	defer p.account.journal.mu.Unlock()
	f.Times = cmp.Or(f.Times, 1)
	p.account.journal.faults = append(p.account.journal.faults, f)
}

// ClearFaults removes all faults.
func (p *Player) ClearFaults() {
	p.account.journal.mu.Lock()
	defer p.account.journal.mu.Unlock()
	p.account.journal.faults = nil
}

// Calls returns the calls of the API in the order in which they ended, the failed ones
// included. With names of actions it returns only theirs.
func (p *Player) Calls(actions ...string) []Call {
	p.account.journal.mu.Lock()
	defer p.account.journal.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.account.journal.calls), func(c Call) bool { return len(actions) > 0 && !slices.Contains(actions, c.Action) })
}

// Groups returns the IDs of the replication groups that exist in AWS, sorted.
func (p *Player) Groups() []string {
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	p.account.settleAll()
	return sortedKeys(p.account.groups)
}

// Snapshots returns the names of the snapshots that exist in AWS, sorted.
func (p *Player) Snapshots() []string {
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	p.account.settleAll()
	return sortedKeys(p.account.snapshots)
}

// Complete ends the operation on a group that is in progress, if there is one, as soon as
// its servers have done their part.
func (p *Player) Complete(ctx context.Context, id string) error {
	p.account.mu.Lock()
	g := p.account.groups[id]
	if g == nil {
		p.account.mu.Unlock()
		return nil
	}
	done := g.phase.done
	p.account.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	if g.phase.done == done {
		g.phase.until = time.Now()
	}
	return nil
}

// Failover promotes a replica of a group for real, without a call of the API.
func (p *Player) Failover(ctx context.Context, id string) error {
	g, err := p.available(id)
	if err != nil {
		return err
	}
	before := g.fleet.Nodes()
	if err := g.fleet.Failover(ctx, p.options.CutOnFailover); err != nil {
		return err
	}
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	p.account.event(types.SourceTypeReplicationGroup, id, "Failover from master node %s to replica node %s completed", before[0].ID, before[1].ID)
	return nil
}

// Cut closes all client connections of a group.
func (p *Player) Cut(id string) error {
	g, err := p.available(id)
	if err != nil {
		return err
	}
	g.fleet.Cut()
	return nil
}

// Snapshotting puts a group into the status snapshotting for a time, as AWS does for its
// nightly backup.
func (p *Player) Snapshotting(id string, d time.Duration) error {
	g, err := p.available(id)
	if err != nil {
		return err
	}
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	p.account.startPhase(g, statusSnapshotting, d, nil)
	return nil
}

// TagOutOfBand sets a tag of a group at once, without a call of the API.
func (p *Player) TagOutOfBand(id, key, value string) error {
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	if p.account.groups[id] == nil {
		return fmt.Errorf("group %s does not exist", id)
	}
	arn := p.account.arn("replicationgroup", id)
	others := slices.DeleteFunc(slices.Clone(p.account.tags[arn]), func(t types.Tag) bool { return aws.ToString(t.Key) == key })
	p.account.tags[arn] = append(others, types.Tag{Key: &key, Value: &value})
	return nil
}

// DeleteOutOfBand deletes a group at once, without a call of the API.
func (p *Player) DeleteOutOfBand(id string) error {
	p.account.mu.Lock()
	g := p.account.groups[id]
	delete(p.account.groups, id)
	delete(p.account.tags, p.account.arn("replicationgroup", id))
	p.account.mu.Unlock()
	if g == nil {
		return fmt.Errorf("group %s does not exist", id)
	}
	g.fleet.Stop()
	return nil
}

func (p *Player) available(id string) (*group, error) {
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	p.account.settleAll()
	g := p.account.groups[id]
	if g == nil {
		return nil, fmt.Errorf("group %s does not exist", id)
	}
	if g.phase.status != statusAvailable {
		return nil, fmt.Errorf("group %s is %s", id, g.phase.status)
	}
	return g, nil
}

// Control controls a player in another process: it exposes the methods of Player, with
// their arguments as query parameters.
//
//	POST /fault?action=CreateReplicationGroup&id=ID&code=CODE&message=TEXT&delay=2s&times=1
//	POST /clear-faults
//	POST /failover?id=ID    /cut?id=ID    /delete?id=ID    /snapshotting?id=ID&for=10s
//	GET  /groups   /snapshots   /calls?action=ModifyReplicationGroup   /ca.crt
func (p *Player) Control() http.Handler {
	mux := http.NewServeMux()
	do := func(path string, act func(*http.Request) error) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
			if err := act(r); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		})
	}
	do("/fault", p.injectByHTTP)
	do("/clear-faults", func(*http.Request) error { p.ClearFaults(); return nil })
	do("/failover", func(r *http.Request) error { return p.Failover(r.Context(), r.FormValue("id")) })
	do("/cut", func(r *http.Request) error { return p.Cut(r.FormValue("id")) })
	do("/delete", func(r *http.Request) error { return p.DeleteOutOfBand(r.FormValue("id")) })
	do("/snapshotting", func(r *http.Request) error {
		d, err := time.ParseDuration(r.FormValue("for"))
		if err != nil {
			return fmt.Errorf("for: %w", err)
		}
		return p.Snapshotting(r.FormValue("id"), d)
	})
	mux.HandleFunc("GET /groups", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, p.Groups()) })
	mux.HandleFunc("GET /snapshots", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, p.Snapshots()) })
	mux.HandleFunc("GET /calls", func(w http.ResponseWriter, r *http.Request) {
		answerJSON(w, p.Calls(r.URL.Query()["action"]...))
	})
	mux.HandleFunc("GET /ca.crt", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(p.CA()) })
	return mux
}

func (p *Player) injectByHTTP(r *http.Request) error {
	f := Fault{Action: r.FormValue("action"), ID: r.FormValue("id"), Code: r.FormValue("code"), Message: r.FormValue("message")}
	var err error
	if f.Times, err = strconv.Atoi(cmp.Or(r.FormValue("times"), "1")); err != nil {
		return fmt.Errorf("times: %w", err)
	}
	if f.Delay, err = time.ParseDuration(cmp.Or(r.FormValue("delay"), "0s")); err != nil {
		return fmt.Errorf("delay: %w", err)
	}
	if f.Code == "" && f.Delay == 0 {
		return fmt.Errorf("code or delay is required")
	}
	if _, ok := elastiCacheActions[f.Action]; f.Action != "" && !ok && stsActions[f.Action] == nil {
		return fmt.Errorf("action %q is not played", f.Action)
	}
	p.Inject(f)
	return nil
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client may have disconnected
}
