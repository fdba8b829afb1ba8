// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/bodies"
	"github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// terminalRetryDelay is the delay before a terminal failure is retried: its cause may
// be removed without an event that a watch delivers.
const terminalRetryDelay = time.Minute

// staleRetryDelay is the delay before a stale snapshot is retried without a Backoff:
// about as long as the caches need to catch up.
const staleRetryDelay = minBackoff

// persistentFailures is the number of consecutive failed observations after which the
// status reports them, about six seconds with back-off. Shorter disruptions of the API
// server do not flip the conditions of a working FlagCache.
const persistentFailures = 6

// persists reports whether the current failure is at least the persistentFailures-th
// in a row.
func (r *Reconciler) persists(req ctrl.Request) bool {
	return r.Backoff != nil && r.Backoff.NumRequeues(req)+1 >= persistentFailures
}

// backOff returns the delay before the retry of a stale snapshot, 0 if it was fresh.
// Most caches catch up immediately; the back-off keeps a persistent conflict from
// becoming a hot loop.
func (r *Reconciler) backOff(req ctrl.Request, result outcome) time.Duration {
	switch {
	case r.Backoff == nil && result.stale:
		return staleRetryDelay
	case r.Backoff == nil:
		return 0
	case result.stale:
		return r.Backoff.When(req)
	default:
		r.Backoff.Forget(req)
		return 0
	}
}

// outcome is the result of applying a plan.
type outcome struct {
	// failures to report, in order.
	failures []plan.Failure
	// retry is the error to return for a retry with back-off.
	retry error
	// stale is set if the snapshot was stale: the next reconcile plans again, and what
	// was not applied is not reported.
	stale bool
	// requeueAfter is the delay before a terminal failure is retried.
	requeueAfter time.Duration
	// conflicts are the foreign objects with names of children. One failure names them all.
	conflicts []observed.Object
}

// add adds the error of one call, if any. The attempt describes the call.
func (o *outcome) add(ctx context.Context, attempt string, err error) {
	var conflict nameConflictError
	switch {
	case err == nil:
		return
	case ctx.Err() != nil, errors.Is(err, errStale), apierrors.IsConflict(err):
		o.stale = true
	case errors.As(err, &conflict):
		o.requeueAfter = terminalRetryDelay
		o.addConflict(conflict.other)
	case isTerminal(err):
		o.requeueAfter = terminalRetryDelay
		o.failures = append(o.failures, plan.Failure{Reason: reasonOf(err), Message: messageOf(attempt, err)})
	default:
		o.retry = errors.Join(o.retry, fmt.Errorf("%s: %w", attempt, err))
		o.failures = append(o.failures, plan.Failure{Reason: reasonOf(err), Message: messageOf(attempt, err)})
	}
}

// addConflict adds an object to the failure that names all conflicts.
func (o *outcome) addConflict(other observed.Object) {
	o.conflicts = append(o.conflicts, other)
	failure := plan.Failure{Reason: v1alpha1.ReasonNameConflict, Message: plan.DescribeConflicts(o.conflicts)}
	i := slices.IndexFunc(o.failures, func(f plan.Failure) bool { return f.Reason == failure.Reason })
	if i < 0 {
		o.failures = append(o.failures, failure)
		return
	}
	o.failures[i] = failure
}

// staleFailure is the failure to report if snapshots stay stale.
var staleFailure = plan.Failure{Reason: v1alpha1.ReasonRetrying,
	Message: "The operator's caches differ from the API server repeatedly: nothing is changed until they agree"}

// readError is the error of a failed read.
type readError struct {
	// attempt describes the read; it is the same for every retry.
	attempt string
	err     error
}

func (e readError) Error() string { return e.attempt + ": " + e.err.Error() }
func (e readError) Unwrap() error { return e.err }

// errCacheBehind is the error of a read whose cache did not catch up in time.
var errCacheBehind = errors.New("the cache has not caught up")

// isWaiting reports whether a read ended because its cache did not catch up in its own
// time or that of the reconcile, or because the operator is being stopped.
func isWaiting(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, errCacheBehind)
}

// readFailure returns the failure to report for a read that keeps failing.
func readFailure(err error) plan.Failure {
	failed := readError{"reading the cluster", err}
	errors.As(err, &failed)
	return plan.Failure{Reason: reasonOf(err), Message: messageOf(failed.attempt, failed.err)}
}

// isTerminal reports whether the same call cannot succeed.
func isTerminal(err error) bool {
	return errors.As(err, new(labelError)) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
}

// reasonOf returns the condition reason for an error.
func reasonOf(err error) string {
	switch {
	case errors.As(err, new(labelError)):
		return v1alpha1.ReasonLabelChanged
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), errors.As(err, new(bodies.TooLargeError)):
		return v1alpha1.ReasonInvalidChild
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return v1alpha1.ReasonNamespaceTerminating
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota"):
		return v1alpha1.ReasonQuotaExceeded
	case apierrors.IsForbidden(err) && deniedByAdmission(err):
		return v1alpha1.ReasonAdmissionDenied
	case apierrors.IsForbidden(err):
		return v1alpha1.ReasonForbidden
	default:
		return v1alpha1.ReasonRetrying
	}
}

// messageOf returns the condition message for a failed attempt. It includes a text of
// the API server only if that is the same for every retry; other texts may contain
// times, addresses and counters.
func messageOf(attempt string, err error) string {
	var changed labelError
	if errors.As(err, &changed) {
		return changed.Error()
	}
	var large bodies.TooLargeError
	if errors.As(err, &large) {
		return fmt.Sprintf("%s: %v", attempt, large)
	}
	reason := apierrors.ReasonForError(err)
	switch reason {
	case metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonBadRequest:
		return fmt.Sprintf("%s: %v", attempt, err)
	case metav1.StatusReasonUnknown:
		return attempt + " failed; retrying"
	default:
		if webhook := failingWebhook(err); webhook != "" {
			return fmt.Sprintf("%s failed, because admission webhook %s cannot be called: check its Service and pods; retrying", attempt, webhook)
		}
		return fmt.Sprintf("%s failed (%s); retrying", attempt, reason)
	}
}

// deniedByAdmission reports whether a webhook, a policy or Pod Security rejects an
// object, by the texts of the API server: it has no other mark.
func deniedByAdmission(err error) bool {
	for _, text := range []string{"admission webhook ", "ValidatingAdmissionPolicy ", "violates PodSecurity"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

// failingWebhook returns the name of an admission webhook that cannot be called, "" if
// that is not the error.
func failingWebhook(err error) string {
	_, rest, found := strings.Cut(err.Error(), `failed calling webhook "`)
	name, _, closed := strings.Cut(rest, `"`)
	if !found || !closed {
		return ""
	}
	return name
}
