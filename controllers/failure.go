// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan"
)

// unwatchedRetry is how soon a failure is looked at again that only a person
// can mend and no watch will tell of.
const unwatchedRetry = time.Minute

// staleRetry is how soon to look again after a view turned out to be old: the
// caches need about as long to catch up.
const staleRetry = firstBackoff

// patience is how many looks in a row may come to nothing before the status
// says so; by their back-off that takes six seconds. What is over before is a
// hiccup of the API server, and a FlagCache that works is not ill spoken of.
const patience = 6

// lasts tells whether enough looks came to nothing in a row before this one,
// which does too.
func (r *Reconciler) lasts(req ctrl.Request) bool {
	return r.Backoff != nil && r.Backoff.NumRequeues(req)+1 >= patience
}

// catchUp is how long to wait for the caches; 0 when what was seen was so. Most
// catch up at once, but a conflict that does not go away must not become a hot
// loop.
func (r *Reconciler) catchUp(req ctrl.Request, done outcome) time.Duration {
	switch {
	case r.Backoff == nil && done.stale:
		return staleRetry
	case r.Backoff == nil:
		return 0
	case done.stale:
		return r.Backoff.When(req)
	default:
		r.Backoff.Forget(req)
		return 0
	}
}

// add records how a call went.
func (o *outcome) add(ctx context.Context, attempt string, err error) {
	switch {
	case err == nil:
		return
	case ctx.Err() != nil, errors.Is(err, errStale), apierrors.IsConflict(err):
		o.stale = true
	case isTerminal(err):
		o.lookAgain = unwatchedRetry
		o.failures = append(o.failures, plan.Failure{Reason: reasonOf(err), Message: sentence(attempt, err)})
	default:
		o.retry = errors.Join(o.retry, fmt.Errorf("%s: %w", attempt, err))
		o.failures = append(o.failures, plan.Failure{Reason: reasonOf(err), Message: sentence(attempt, err)})
	}
}

// outdated is what to say of an old view that lasts.
var outdated = plan.Failure{Reason: v1alpha1.ReasonRetrying,
	Message: "The cluster is not as it was read, time and again: nothing is changed until both agree"}

// readError is a read that failed.
type readError struct {
	// attempt says what was read, in the same words at each try.
	attempt string
	err     error
}

func (e readError) Error() string { return e.attempt + ": " + e.err.Error() }
func (e readError) Unwrap() error { return e.err }

// unreadable is what to say of a read that keeps failing.
func unreadable(err error) plan.Failure {
	failed := readError{"reading the cluster", err}
	errors.As(err, &failed)
	return plan.Failure{Reason: reasonOf(err), Message: sentence(failed.attempt, failed.err)}
}

// isTerminal says that trying the same again cannot succeed.
func isTerminal(err error) bool {
	var taken nameTakenError
	return errors.As(err, &taken) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
}

func reasonOf(err error) string {
	var taken nameTakenError
	switch {
	case errors.As(err, &taken):
		return v1alpha1.ReasonNameConflict
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return v1alpha1.ReasonInvalidChild
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return v1alpha1.ReasonNamespaceTerminating
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota"):
		return v1alpha1.ReasonQuotaExceeded
	case apierrors.IsForbidden(err):
		return v1alpha1.ReasonForbidden
	default:
		return v1alpha1.ReasonRetrying
	}
}

// sentence says for a condition what was attempted and why it failed. Texts of
// the API server are taken only where they are the same at each try; others may
// carry times, addresses and counters.
func sentence(attempt string, err error) string {
	var taken nameTakenError
	if errors.As(err, &taken) {
		return taken.Error()
	}
	reason := apierrors.ReasonForError(err)
	switch reason {
	case metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonBadRequest:
		return fmt.Sprintf("%s: %v", attempt, err)
	case metav1.StatusReasonUnknown:
		return attempt + " failed and is tried again"
	default:
		return fmt.Sprintf("%s failed (%s) and is tried again", attempt, reason)
	}
}
