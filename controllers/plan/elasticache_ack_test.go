// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/test/ackmodel"
)

// ackTiming has the delays of the real ACK, and an AWS that is quick.
var ackTiming = ackmodel.Timing{Poll: 30 * time.Second, Resync: 10 * time.Hour, Backoff: 5 * time.Millisecond, MaxBackoff: 1000 * time.Second, Operation: 40 * time.Second}

// syncAll has ACK sync the objects that have changed or are due.
func (c *cloud) syncAll() {
	for again := !c.ackStopped; again; {
		again = false
		for _, child := range slices.Clone(c.children) {
			if ack.Is(child) && c.sync(child) {
				again = true
			}
		}
	}
}

// sync has ACK sync an object, and reports whether ACK wrote it.
func (c *cloud) sync(o observed.Object) bool {
	c.t.Helper()
	g, isGroup := o.(*ack.ReplicationGroup)
	if isGroup {
		c.recordChange(g)
	}
	c.aws.Lacks = c.ackLacks
	result := c.aws.Sync(o, c, c.now.Add(c.ackAhead))
	for _, version := range result.Versions {
		if !sameSpec(o, version) {
			o.SetGeneration(o.GetGeneration() + 1)
		}
		ackmodel.Take(o, version)
	}
	if isGroup {
		c.synced[g.UID] = *g.Spec.DeepCopy()
	}
	c.checkCalls(result.Calls)
	if o.GetDeletionTimestamp() != nil && len(o.GetFinalizers()) == 0 {
		c.recordDeletion(o)
		c.children = without(c.children, o)
	}
	return len(result.Versions) > 0
}

// Secret implements ackmodel.Secrets.
func (c *cloud) Secret(key *ack.SecretKey) (string, error) {
	secret, ok := observed.Get[*corev1.Secret](c.index(), key.Name)
	switch {
	case !ok || len(secret.Data[key.Key]) == 0:
		return "", ackmodel.ErrSecretNotFound
	case secret.Type != corev1.SecretTypeOpaque:
		return "", ackmodel.ErrSecretType
	}
	return string(secret.Data[key.Key]), nil
}

// resync has ACK sync all objects now, as after a restart of ACK.
func (c *cloud) resync() {
	c.t.Helper()
	for _, child := range c.children {
		if ack.Is(child) {
			c.aws.SyncAt(child, c.now.Add(c.ackAhead))
		}
	}
	c.syncAll()
}

// modifications are the calls that modify groups.
var modifications = []string{"ModifyReplicationGroup", "IncreaseReplicaCount", "DecreaseReplicaCount", "AddTagsToResource", "RemoveTagsFromResource"}

// refuse has AWS refuse calls until Permit.
func (c *cloud) refuse(code, message string, actions ...string) {
	for _, action := range actions {
		c.aws.Refuse(action, code, message, -1)
	}
}

// alter changes the group of the spec in AWS, behind ACK's back.
func (c *cloud) alter(edit func(*ackmodel.Group)) {
	c.t.Helper()
	g, inAWS := c.onlyGroup()
	edit(&inAWS)
	c.aws.Groups[*g.Spec.ReplicationGroupID] = inAWS
}
