// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/evidence"
	"github.com/flagcache/flagcache/controllers/exporter"
	"github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/probe"
)

// Reconciler brings the world to what a FlagCache's spec says. It keeps nothing
// in memory that a decision rests on.
type Reconciler struct {
	// Client reads from the cache and writes to the API server.
	Client client.Client
	// Live reads from the API server.
	Live client.Reader
	// FlagFiles reads the ConfigMaps that hold flags.
	FlagFiles *FlagFiles
	// Prober watches the data paths.
	Prober Prober
	// Sampler gathers the evidence of canaries.
	Sampler Sampler
	// ACK knows which of ACK's kinds the cluster has. Default: it has none.
	ACK ACK
	// Rollbacks counts those that are reported.
	Rollbacks exporter.Rollbacks
	// Events tells people of transitions.
	Events events.EventRecorder
	// Clock is the time of observations.
	Clock clock.PassiveClock
	// Operator is what the operator knows of itself.
	Operator observed.Operator
	// Backoff counts the looks in a row that came to nothing, because a view
	// turned out to be old or could not be had, and says how soon to look again.
	// Default: none are counted, and the time is fixed and short.
	Backoff Backoff
	// Random makes a credential that nobody can guess. Default: crypto/rand.Text.
	Random func() string
}

// Backoff grows with each failure in a row.
type Backoff interface {
	// When is how long to wait after one more failure.
	When(ctrl.Request) time.Duration
	// NumRequeues is how many failures there were in a row.
	NumRequeues(ctrl.Request) int
	// Forget begins again.
	Forget(ctrl.Request)
}

// random is a new credential.
func (r *Reconciler) random() string {
	if r.Random == nil {
		return rand.Text()
	}
	return r.Random()
}

// tokenLength is within what ElastiCache takes, 16 to 128 characters.
const tokenLength = 64

// token is a new AUTH token of ElastiCache, which takes letters and digits.
func (r *Reconciler) token() string {
	token := ""
	for len(token) < tokenLength {
		token += r.random()
	}
	return token[:tokenLength]
}

// ACK knows which of ACK's kinds the cluster has.
type ACK interface {
	// Installed tells for each kind, by its name, whether the cluster has it. It is
	// an error while that is not known.
	Installed(ctx context.Context) (map[string]bool, error)
}

// Prober watches data paths in the background.
type Prober interface {
	// Watch starts, or goes on, probing a target.
	Watch(key types.NamespacedName, t probe.Target)
	// Forget stops probing.
	Forget(key types.NamespacedName)
	// Last is the last answer; false while there is none.
	Last(key types.NamespacedName) (probe.Result, bool)
}

// Sampler gathers the evidence of canaries in the background.
type Sampler interface {
	// Watch starts, or goes on, sampling a canary.
	Watch(key types.NamespacedName, t evidence.Target)
	// Forget stops sampling.
	Forget(key types.NamespacedName)
	// Last is the last sample; false while there is none.
	Last(key types.NamespacedName) (canary.Evidence, bool)
}

// Reconcile observes the world, decides, makes it so, and reports once.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	fc := &v1alpha1.FlagCache{}
	if err := r.Client.Get(ctx, req.NamespacedName, fc); err != nil {
		if apierrors.IsNotFound(err) {
			r.Prober.Forget(req.NamespacedName)
			r.Prober.Forget(nextProbe(req.NamespacedName))
			r.Sampler.Forget(req.NamespacedName)
			r.Rollbacks.Forget(req.NamespacedName)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, fmt.Errorf("reading FlagCache %s: %w", req, err)
	}
	r.Rollbacks.Observe(fc)
	seen, err := r.observe(ctx, fc)
	if err != nil {
		return ctrl.Result{}, r.unseen(ctx, req, fc, err)
	}
	want := plan.Make(seen)
	done := r.apply(ctx, seen, want)
	done.add(ctx, "writing the status", r.report(ctx, req, seen, want, done))
	pause := r.catchUp(req, done)
	if done.retry != nil {
		return ctrl.Result{}, done.retry
	}
	return ctrl.Result{RequeueAfter: cmp.Or(pause, done.lookAgain, want.RequeueAfter)}, nil
}

// unseen ends a look that could not read the world: nothing is decided, and what
// keeps failing is reported.
func (r *Reconciler) unseen(ctx context.Context, req ctrl.Request, fc *v1alpha1.FlagCache, err error) error {
	var reported error
	if ctx.Err() == nil {
		reported = r.reportUnseen(ctx, req, fc, unreadable(err))
	}
	if r.Backoff != nil {
		r.Backoff.When(req)
	}
	return errors.Join(err, reported)
}
