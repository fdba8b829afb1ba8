// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/secret"
)

// A token is rotated without an evaluation that fails, because AWS accepts the old
// and the new one until the next rotation:
//
//	new token in the Secret ──▶ its mark is in the group's description, a change with
//	which ACK sends the token ──▶ a probe succeeds with it ──▶ a candidate revision
//	uses it, tried and promoted like every other
//
// Each step follows from what is observed, so a crash between two of them is the
// same as another reconcile. ACK compares no Secret's content, hence the description.

// TokenKey of the Secret of a cache.
const TokenKey = observed.TokenKey

// tokenPrefix introduces the mark of a token in a group's description.
const tokenPrefix = ", token "

// tokenMark identifies a token and does not help to guess it.
func tokenMark(fc *v1alpha1.FlagCache, token secret.String) string {
	return observed.Fingerprint(fc.UID, "token", token.Reveal())
}

// TokenMark is the mark of the token in a group's description, "" for none.
func TokenMark(description string) string {
	_, mark, _ := strings.Cut(description, tokenPrefix)
	mark, _, _ = strings.Cut(mark, ",")
	return mark
}

// tokenInput is what the choice of a token depends on.
type tokenInput struct {
	now time.Time
	// stored is the token in the Secret, empty before it was observed to hold one; record
	// is how old it is.
	stored secret.String
	record tokenRecord
	// inUse is the token of the pods that use the cache, empty if there are none.
	inUse secret.String
	// fresh is a random token.
	fresh secret.String
	// rotates: clients authenticate with the token, so there is something to rotate.
	rotates bool
	// request is the value of the annotation that requests a rotation, interval the
	// schedule of the spec.
	request  string
	interval *metav1.Duration
	// safe: AWS may forget the token before the stored one.
	safe bool
	// forgetsInUse: AWS would forget the one in use with the stored one.
	forgetsInUse bool
}

// nextToken is the token as it should be: the stored one, the one in use if that is
// lost, or a new one where a rotation is due.
func nextToken(in tokenInput) (secret.String, tokenRecord) {
	fresh := tokenRecord{MadeAt: toSecond(in.now), Request: in.request}
	switch {
	case in.stored.IsEmpty() && !in.inUse.IsEmpty():
		return in.inUse, fresh
	case in.stored.IsEmpty():
		return in.fresh, fresh
	case in.forgetsInUse:
		return in.inUse, in.record
	case in.due() && in.safe:
		return in.fresh, fresh
	default:
		return in.stored, in.record
	}
}

// due reports whether the annotation or the schedule requests a new token.
func (in tokenInput) due() bool {
	switch {
	case !in.rotates:
		return false
	case in.request != "" && in.request != in.record.Request:
		return true
	}
	return in.interval != nil && in.now.Sub(in.record.MadeAt) >= in.interval.Duration
}

// tokenInput collects what the next token of the cache depends on.
func (c planned) tokenInput() tokenInput {
	in := tokenInput{
		now: c.x.Now, stored: c.token, record: c.records.token, fresh: c.x.Fresh.Token, rotates: c.usesToken(),
		request: c.fc.Annotations[v1alpha1.AnnotationRotateToken], interval: c.spec.Authentication.RotationInterval,
		safe: c.mayRotate(), forgetsInUse: forgetsToken(c.desired, c.seen),
	}
	if used := c.seen.lastGood(); used != nil && c.usesToken() {
		in.inUse = used.Password
	}
	return in
}

// renderSecret is the Secret of the cache as it should be. ACK takes Secrets of the type
// Opaque only.
func (c planned) renderSecret() *corev1.Secret {
	token, record := nextToken(c.tokenInput())
	meta := observed.ChildMeta(c.fc, c.secret(), v1alpha1.ComponentCache)
	meta.Labels[v1alpha1.LabelCache] = c.id
	meta.Annotations = map[string]string{v1alpha1.AnnotationToken: observed.ToJSON(record), v1alpha1.AnnotationAWSID: c.aws}
	if failures := c.records.failures.next(c.seen.Group, c.request(), c.x.Now); failures.Count > 0 {
		meta.Annotations[v1alpha1.AnnotationFailures] = observed.ToJSON(failures)
	}
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: meta,
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{TokenKey: []byte(token.Reveal())},
	}
}

// mayRotate reports whether AWS may forget the token before the present one: the
// only revision whose pods use the cache uses the present one, so no other is on
// trial or may be rolled back to, and no change of the group is in progress.
func (c planned) mayRotate() bool {
	current, ok := c.connection()
	if !ok || !c.group.settled() {
		return false
	}
	users := c.seen.Users
	return len(users) == 1 && connection.HashOf(users[0].deployment) == current.Hash(c.fc.UID)
}

// rotationWaits is why a rotation that is due does not start, or a new token is not used
// yet; "" if neither is the case.
func (c planned) rotationWaits() string {
	in := c.tokenInput()
	if !in.rotates || len(c.seen.Users) == 0 || !in.due() && in.stored == in.inUse {
		return ""
	}
	const due = "A new token is due, which waits until "
	switch {
	case !in.due():
		current, ok := c.connection()
		if !ok || c.recorded(current) || TokenMark(ack.Value(c.seen.Group.Spec.Description)) != tokenMark(c.fc, c.token) {
			return "" // its next step needs no probe
		}
		return "The new token is used once a probe with it succeeds" + nextProblem(c.x, c.probed(current))
	case in.safe:
		return ""
	case !c.group.settled():
		return due + "AWS has carried out the last change of the cache"
	case len(c.seen.Users) > 1:
		return due + "only one revision uses the cache"
	default:
		return due + "revision " + c.seen.Users[0].deployment.Labels[v1alpha1.LabelRevision] + " uses the previous one"
	}
}

// forgetsToken reports whether AWS would forget, with the token on record, one that
// pods use: it accepts the one whose mark is in the group's description and the one
// before. That is the case after an edit of the Secret in the middle of a rotation.
func forgetsToken(d desired, seen Observed) bool {
	if seen.Group == nil || !d.usesToken() || d.token.IsEmpty() {
		return false
	}
	sent, stored := TokenMark(ack.Value(seen.Group.Spec.Description)), tokenMark(d.fc, d.token)
	if sent == "" || sent == stored {
		return false
	}
	return slices.ContainsFunc(seen.Users, func(u user) bool {
		mark := tokenMark(d.fc, u.connection.Password)
		return u.known && mark != sent && mark != stored
	})
}

// rotationIn is the time until the schedule requests a new token, 0 for never; what
// prevents a rotation that is due is checked again at an interval.
func (c planned) rotationIn() time.Duration {
	interval := c.spec.Authentication.RotationInterval
	if interval == nil || c.token.IsEmpty() {
		return 0
	}
	left := interval.Duration - c.x.Now.Sub(c.records.token.MadeAt)
	if left <= 0 {
		return retryInterval
	}
	return left
}
