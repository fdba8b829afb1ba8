// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers"
	"github.com/flagcache/flagcache/controllers/policy"
	"github.com/flagcache/flagcache/service/filewatch"
)

// policyPoll is how often the policy is read if no notification of a change arrives.
const policyPoll = time.Minute

// policyFile keeps the reconciler's policy up to date.
type policyFile struct {
	path       string
	reconciler *controllers.Reconciler
	// reader lists the FlagCaches, and changes triggers their reconciles, which only the
	// leader has.
	reader  client.Reader
	changes chan<- event.GenericEvent
	elected <-chan struct{}
	log     logr.Logger
	valid   prometheus.Gauge
}

// addPolicy reads the policy and adds its watch to the manager. A policy that cannot be
// read at the start is an error: the operator must not act without limits that somebody
// set.
func addPolicy(mgr ctrl.Manager, path string, reconciler *controllers.Reconciler, changes chan<- event.GenericEvent) error {
	if path == "" {
		return nil
	}
	f := &policyFile{
		path: path, reconciler: reconciler, reader: mgr.GetClient(), changes: changes, elected: mgr.Elected(), log: mgr.GetLogger().WithName("policy"),
		valid: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "flagcache_policy_last_reload_successful", Help: "Whether the last attempt to read the policy was successful.",
		}),
	}
	p, err := readPolicy(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p = policy.Default()
	case err != nil:
		return err
	}
	f.reconciler.Policy.Store(p)
	f.valid.Set(1)
	if err := metrics.Registry.Register(f.valid); err != nil {
		return fmt.Errorf("registering the metric of the policy: %w", err)
	}
	if err := mgr.Add(f); err != nil {
		return fmt.Errorf("adding the watch of the policy: %w", err)
	}
	return nil
}

// readPolicy reads the file.
func readPolicy(path string) (*policy.Policy, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, policy.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	p, err := policy.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// Start implements manager.Runnable.
func (f *policyFile) Start(ctx context.Context) error {
	log := slog.New(logr.ToSlogHandler(f.log))
	filewatch.Watch(ctx, log, []string{filepath.Dir(f.path)}, policyPoll, nil, func() { f.reload(ctx) })
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: a replica that becomes
// the leader has the current policy.
func (f *policyFile) NeedLeaderElection() bool { return false }

// reload reads the policy and has all FlagCaches reconciled if it changed. The previous
// one remains while the file cannot be read, also if it was deleted, which would lift
// every limit.
func (f *policyFile) reload(ctx context.Context) {
	p, err := readPolicy(f.path)
	previous := f.reconciler.Policy.Load()
	if errors.Is(err, fs.ErrNotExist) && reflect.DeepEqual(previous, policy.Default()) {
		p, err = previous, nil
	}
	if err != nil {
		f.valid.Set(0)
		f.log.Error(err, "Keeping the previous policy")
		return
	}
	f.valid.Set(1)
	if reflect.DeepEqual(p, previous) {
		return
	}
	f.reconciler.Policy.Store(p)
	f.log.Info("Policy changed", "file", f.path)
	select {
	case <-f.elected:
		f.reconcileAll(ctx)
	default: // everything is reconciled once this replica leads
	}
}

func (f *policyFile) reconcileAll(ctx context.Context) {
	all := &v1alpha1.FlagCacheList{}
	if err := f.reader.List(ctx, all); err != nil {
		f.log.Error(err, "Listing the FlagCaches after a change of the policy")
		return
	}
	for i := range all.Items {
		select {
		case f.changes <- event.GenericEvent{Object: &all.Items[i]}:
		case <-ctx.Done():
			return
		}
	}
}
