// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// A token is rotated without an evaluation that fails, because AWS takes the old
// and the new one until the next rotation:
//
//	new token in the Secret ──▶ it shows in the group's description, a change that
//	has ACK send it along ──▶ a probe succeeds with it ──▶ a candidate revision uses
//	it, tried and promoted like every other
//
// Each step follows from what is seen, so a crash between two of them is the same
// as looking again. ACK compares no Secret's content, hence the description.

// tokenKey of the Secret of a cache.
const tokenKey = "token"

// tokenRecord says how old a token is.
type tokenRecord struct {
	// MadeAt is when the token was made.
	MadeAt time.Time `json:"madeAt,omitzero"`
	// Request is the value of the annotation that asked for it, "" for none.
	Request string `json:"request,omitempty"`
}

// token that is on record, "" before the Secret was seen.
func (c elastiCache) token() string {
	if c.secret == nil {
		return ""
	}
	return string(c.secret.Data[tokenKey])
}

// seeSecret is the token of any cache of the FlagCache, by its identity.
func seeSecret(s *observed.Index, id string) string {
	return s.SecretValue(cacheSecretName(s.FlagCache, id), tokenKey)
}

// secretSuffices: nothing is told a token before a Secret was seen to hold it.
func (c elastiCache) secretSuffices() bool { return c.token() != "" }

// cacheSecret is the Secret of the cache as it should be. ACK takes Secrets of the
// type Opaque only.
func (c elastiCache) cacheSecret() *corev1.Secret {
	token, record := c.nextToken()
	meta := observed.SecretMeta(c.fc, c.secretName(), v1alpha1.ComponentCache)
	meta.Labels[v1alpha1.LabelCache] = c.id
	meta.Annotations = map[string]string{v1alpha1.AnnotationToken: observed.ToJSON(record)}
	if failures := c.nextFailures(); failures.Count > 0 {
		meta.Annotations[v1alpha1.AnnotationFailures] = observed.ToJSON(failures)
	}
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: meta,
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{tokenKey: []byte(token)},
	}
}

// nextToken is the token as it should be: the one on record, the one that clients
// were given if that record is lost, or a new one where it is time.
func (c elastiCache) nextToken() (string, tokenRecord) {
	record := c.tokenRecord()
	request := c.fc.Annotations[v1alpha1.AnnotationRotateToken]
	fresh := tokenRecord{MadeAt: c.s.Now.UTC().Truncate(time.Second), Request: request}
	switch token := c.token(); {
	case token == "":
		if used := c.usedToken(); used != "" {
			return used, fresh
		}
		return c.s.Fresh.Token, fresh
	case c.forgetsToken():
		return c.usedToken(), record
	case c.rotationDue(record, request) && c.mayRotate():
		return c.s.Fresh.Token, fresh
	default:
		return token, record
	}
}

func (c elastiCache) tokenRecord() tokenRecord {
	var record tokenRecord
	if c.secret != nil {
		_ = json.Unmarshal([]byte(c.secret.Annotations[v1alpha1.AnnotationToken]), &record)
	}
	return record
}

// usedToken is the token of a revision that uses the cache.
func (c elastiCache) usedToken() string {
	if !c.usesToken() {
		return ""
	}
	if connection := c.withLastGood(cachePart{}).connection; connection != nil {
		return connection.Password
	}
	return ""
}

func (c elastiCache) rotationDue(record tokenRecord, request string) bool {
	if !c.usesToken() {
		return false
	}
	if request != "" && request != record.Request {
		return true
	}
	interval := c.spec.Authentication.RotationInterval
	return interval != nil && c.s.Now.Sub(record.MadeAt) >= interval.Duration
}

// forgetsToken tells whether AWS would forget, with the token on record, one that
// pods use: it takes the one that the group's description tells of and the one
// before. That is so where somebody edits the Secret in the middle of a rotation.
func (c elastiCache) forgetsToken() bool {
	if c.group == nil || !c.usesToken() || c.token() == "" {
		return false
	}
	told := toldToken(c.group.Spec.Description)
	if told == "" || told == c.tokenMark() {
		return false
	}
	return slices.ContainsFunc(c.users(), func(d *appsv1.Deployment) bool {
		connection, ok := connection.Of(c.s, d)
		mark := c.markOf(connection.Password)
		return ok && mark != told && mark != c.tokenMark()
	})
}

// rotationIn is how long it is until the schedule asks for a new token, 0 for
// never, and what keeps it from that is looked at again now and then.
func (c elastiCache) rotationIn() time.Duration {
	interval := c.spec.Authentication.RotationInterval
	if interval == nil || c.token() == "" {
		return 0
	}
	left := interval.Duration - c.s.Now.Sub(c.tokenRecord().MadeAt)
	if left <= 0 {
		return cacheRetry
	}
	return left
}

// mayRotate tells whether AWS may forget the token before the present one: the only
// revision whose pods use the cache uses the present one, so no other is on trial
// or may come back, and no change of the group is under way.
func (c elastiCache) mayRotate() bool {
	current, ok := c.connection()
	if !ok || !c.settled() {
		return false
	}
	users := c.users()
	return len(users) == 1 && connection.HashOf(users[0]) == current.Hash(c.fc.UID)
}

// tokenMark tells one token from another and does not help to guess it.
func (c elastiCache) tokenMark() string { return c.markOf(c.token()) }

func (c elastiCache) markOf(token string) string { return markOf(c.fc, token) }

func markOf(fc *v1alpha1.FlagCache, token string) string {
	return observed.Fingerprint(fc.UID, "token", token)
}

// tokenWords introduce the mark in a group's description.
const tokenWords = ", token "

// toldToken is the mark that a group's description tells, "" for none.
func toldToken(description string) string {
	_, mark, _ := strings.Cut(description, tokenWords)
	mark, _, _ = strings.Cut(mark, ",")
	return mark
}
