// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/broadcast"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/evidence"
	"github.com/flagcache/flagcache/controllers/exporter"
	"github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/policy"
	"github.com/flagcache/flagcache/controllers/probe"
)

// Reconciler reconciles FlagCaches. No decision depends on state in its memory.
type Reconciler struct {
	// Client reads from the cache and writes to the API server.
	Client client.Client
	// Live reads from the API server.
	Live client.Reader
	// Allowed reads the Secrets whose owners allow FlagCaches to use them, from a cache.
	Allowed client.Reader
	// FlagFiles reads the ConfigMaps that hold flags.
	FlagFiles *FlagFiles
	// Prober probes the caches.
	Prober Prober
	// Sampler gathers the evidence of canaries.
	Sampler Sampler
	// Deliveries compares the flags that pods serve with the source. Default: nobody does.
	Deliveries Deliveries
	// Broadcasts write the published flags to Redis. Default: nobody does.
	Broadcasts Broadcasts
	// ACK reports which ACK kinds are installed. Default: none.
	ACK ACK
	// Rollbacks counts the reported rollbacks.
	Rollbacks exporter.Rollbacks
	// Events records condition transitions.
	Events events.EventRecorder
	// Clock is the time of observations.
	Clock clock.PassiveClock
	// Operator is the operator's own configuration.
	Operator observed.Operator
	// Policy is what FlagCaches may request. None means policy.Default.
	Policy atomic.Pointer[policy.Policy]
	// Backoff delays reconciles after consecutive failures: stale or unreadable
	// observations. Default: stale observations are retried after a short fixed delay.
	Backoff Backoff
	// Random returns an unguessable string for credentials. Default: crypto/rand.Text.
	Random func() string

	// left has the FlagCaches of other operators that were reported, so that each is
	// reported once.
	left sync.Map
	// warned has the warnings that were recorded last, so that each is recorded once.
	warned sync.Map
}

// Backoff grows with each consecutive failure.
type Backoff interface {
	// When records a failure and returns the delay before the retry.
	When(ctrl.Request) time.Duration
	// NumRequeues is the number of consecutive failures.
	NumRequeues(ctrl.Request) int
	// Forget resets the count.
	Forget(ctrl.Request)
}

// ACK reports which kinds of AWS Controllers for Kubernetes are installed, and in which
// schema.
type ACK interface {
	// Installed reports for each kind, by name, whether the cluster serves it.
	Installed() map[string]bool
	// Lacking returns the fields of specs that the served schemas lack, by kind.
	Lacking() map[string][]string
}

// Prober probes caches in the background.
type Prober interface {
	// Watch starts or continues probing a target.
	Watch(key types.NamespacedName, t probe.Target)
	// Forget stops probing.
	Forget(key types.NamespacedName)
	// Last returns the last result; false if there is none yet.
	Last(key types.NamespacedName) (probe.Result, bool)
}

// Sampler gathers the evidence of canaries in the background.
type Sampler interface {
	// Watch starts or continues sampling a canary.
	Watch(key types.NamespacedName, t evidence.Target)
	// Forget stops sampling.
	Forget(key types.NamespacedName)
	// Last returns the last sample; false if there is none yet.
	Last(key types.NamespacedName) (canary.Evidence, bool)
}

// Deliveries compares the flags that pods serve with the source in the background.
type Deliveries interface {
	// Watch starts or continues comparing.
	Watch(key types.NamespacedName, t evidence.DeliveryTarget)
	// Forget stops comparing.
	Forget(key types.NamespacedName)
	// Last returns the last result; false if there is none yet.
	Last(key types.NamespacedName) (evidence.Delivery, bool)
}

// Broadcasts write the published flags to Redis in the background.
type Broadcasts interface {
	// Watch starts or continues writing a document until Redis has it.
	Watch(key types.NamespacedName, t broadcast.Target)
	// Pause stops writing, and remembers whether Redis is slow.
	Pause(key types.NamespacedName)
	// Forget stops writing, and remembers nothing.
	Forget(key types.NamespacedName)
	// Last returns the last result; false if there is none yet.
	Last(key types.NamespacedName) (broadcast.Result, bool)
}

// Reconcile observes the cluster, plans, applies the plan, and reports the status.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	fc := &v1alpha1.FlagCache{}
	if err := r.Client.Get(ctx, req.NamespacedName, fc); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.NamespacedName)
			r.left.Delete(req.NamespacedName)
			r.warned.Delete(req.NamespacedName)
			if r.Backoff != nil {
				r.Backoff.Forget(req)
			}
			return ctrl.Result{}, nil
		}
		return r.retryRead(ctx, req, fmt.Errorf("reading FlagCache %s: %w", req, err))
	}
	if other := plan.Handler(fc); other != "" && other != r.Operator.Namespace {
		r.leaveTo(ctx, fc, other)
		return ctrl.Result{}, nil
	}
	r.left.Delete(req.NamespacedName)
	r.Rollbacks.Observe(fc)
	snapshot, err := r.observer().observe(ctx, fc)
	if err != nil {
		return r.failObservation(ctx, req, fc, err)
	}
	desired := plan.Make(snapshot)
	r.warn(ctx, req, fc, desired.Warnings)
	result := r.apply(ctx, snapshot, desired)
	result.add(ctx, "writing the status", r.report(ctx, req, snapshot, desired, result))
	delay := r.backOff(req, result)
	if result.retry != nil {
		return ctrl.Result{}, result.retry
	}
	return ctrl.Result{RequeueAfter: cmp.Or(delay, result.requeueAfter, desired.RequeueAfter)}, nil
}

// leaveTo leaves a FlagCache to another operator, and reports that once.
func (r *Reconciler) leaveTo(ctx context.Context, fc *v1alpha1.FlagCache, other string) {
	key := client.ObjectKeyFromObject(fc)
	r.forget(key)
	if before, _ := r.left.Swap(key, other); before == other {
		return
	}
	ctrl.LoggerFrom(ctx).Info("Leaving a FlagCache to another operator", "namespace of the other", other)
	claimed := "handles this FlagCache"
	if fc.Status.Operator != other {
		claimed = "is to handle this FlagCache by annotation, but has not claimed it; check that it runs"
	}
	recorder{r.Events}.Eventf(fc, nil, corev1.EventTypeWarning, v1alpha1.ReasonHandledByOther, v1alpha1.ConditionReady,
		"The operator in namespace %s %s, and the one in namespace %s leaves it alone. To hand it over: kubectl annotate flagcache %s %s=%s --overwrite",
		other, claimed, r.Operator.Namespace, fc.Name, v1alpha1.AnnotationOperator, r.Operator.Namespace)
}

// forget stops everything that runs in the background for a deleted FlagCache.
func (r *Reconciler) forget(key types.NamespacedName) {
	r.Prober.Forget(key)
	r.Prober.Forget(nextProbeKey(key))
	r.Sampler.Forget(key)
	if r.Deliveries != nil {
		r.Deliveries.Forget(key)
	}
	if r.Broadcasts != nil {
		r.Broadcasts.Forget(key)
	}
	r.FlagFiles.Forget(key)
	r.Rollbacks.Forget(key)
}

// failObservation ends a reconcile that could not read the cluster: nothing is
// planned, and a persistent failure is reported.
func (r *Reconciler) failObservation(ctx context.Context, req ctrl.Request, fc *v1alpha1.FlagCache, err error) (ctrl.Result, error) {
	var reportErr error
	if ctx.Err() == nil {
		reportErr = r.reportUnobserved(ctx, req, fc, readFailure(err))
	}
	return r.retryRead(ctx, req, errors.Join(err, reportErr))
}

// retryRead retries a failed read with back-off. Waiting for a cache is not an error.
func (r *Reconciler) retryRead(ctx context.Context, req ctrl.Request, err error) (ctrl.Result, error) {
	delay := r.backOff(req, outcome{stale: true})
	if isWaiting(ctx, err) {
		ctrl.LoggerFrom(ctx).Info("Waiting for the operator's caches", "reason", err.Error())
		return ctrl.Result{RequeueAfter: delay}, nil
	}
	return ctrl.Result{}, err
}
