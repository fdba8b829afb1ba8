// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/ackmodel"
)

// cloudTiming is shorter than the real one but in proportion: an operation of AWS takes less than a
// polling interval.
var cloudTiming = ackmodel.Timing{Poll: 20 * time.Second, Backoff: 2 * tick, MaxBackoff: 1000 * time.Second, Operation: 15 * time.Second}

// newCloud returns an account with a subnet group.
func newCloud() cloud {
	c := cloud{Controller: ackmodel.New(cloudTiming)}
	c.SubnetGroups[subnetGroup] = ack.CacheSubnetGroupSpec{CacheSubnetGroupName: ptr.To(subnetGroup)}
	return c
}

// subnetGroup is the name of a subnet group that the user created.
const subnetGroup = "private"

// cloud is ACK and the AWS account behind it.
type cloud struct {
	ackmodel.Controller
	// installed reports that ACK's kinds exist and ACK is running.
	installed bool
	// stopped reports that ACK is not running while its kinds exist.
	stopped bool
}

// fork returns an independent copy.
func (c cloud) fork() cloud {
	c.Controller = c.Clone()
	return c
}

// Installed returns which of ACK's kinds exist.
func (w *World) Installed() map[string]bool {
	installed := map[string]bool{}
	for _, k := range ack.Kinds() {
		installed[k.Kind] = w.cloud.installed
	}
	return installed
}

// Lacking returns nothing: the kinds have every field.
func (w *World) Lacking() map[string][]string { return nil }

// ackTimeout is how long a user waits for the report that ACK does not respond.
const ackTimeout = 10 * time.Minute

// cachePending reports whether the operator waits by its own clock: for a cache that is being
// created, or until it reports why there is none.
func (w ackControllers) cachePending() bool {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !w.cloud.installed || len(w.cloud.Faults) > 0 || !ok || fc.DeletionTimestamp != nil || fc.Spec.Suspend || fc.Spec.Cache.Type != v1alpha1.CacheElastiCache {
		return false
	}
	if w.cloud.stopped {
		c := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionCacheProvisioned)
		return w.time.Before(w.lastStep.Add(ackTimeout)) && (c == nil || c.Reason != v1alpha1.ReasonACKNotResponding)
	}
	for _, o := range w.api.now(replicationGroups) {
		if ack.GroupState(o.(*ack.ReplicationGroup)) == ack.GroupAvailable {
			return false
		}
	}
	return true
}

// act syncs the objects whose spec has changed or whose next sync is due.
func (w ackControllers) act() {
	if !w.cloud.installed || w.cloud.stopped {
		return
	}
	for k := replicationGroups; k < kinds; k++ {
		for _, o := range w.api.now(k) {
			synced := w.cloud.Sync(o, w, w.time)
			for _, call := range synced.Calls {
				w.logf("       AWS %s %s", call.Action, call.Code)
			}
			for _, version := range synced.Versions {
				w.api.update(k, o.GetName(), func(stored client.Object) { ackmodel.Take(stored, version) })
			}
			if due, polls := w.cloud.Due(o); polls {
				w.kube().setAlarm(due)
			}
		}
	}
}

// deleteGroupsInAWS deletes all groups in AWS, which ACK detects at its next sync.
func (w ackControllers) deleteGroupsInAWS() {
	w.cloud.DeleteGroups()
	for _, o := range w.api.now(replicationGroups) {
		w.cloud.SyncAt(o, w.time.Add(cloudTiming.Poll))
	}
	w.nextTick = w.time.Add(tick)
}

// Secret implements ackmodel.Secrets.
func (w ackControllers) Secret(key *ack.SecretKey) (string, error) {
	secret, ok := live[*corev1.Secret](&w.api.store, secrets, key.Name)
	switch {
	case !ok || len(secret.Data[key.Key]) == 0:
		return "", ackmodel.ErrSecretNotFound
	case secret.Type != corev1.SecretTypeOpaque:
		return "", ackmodel.ErrSecretType
	}
	return string(secret.Data[key.Key]), nil
}

// server returns the tokens that the Redis server at an address accepts, and false if there is no
// server.
func (w *World) server(address string) (ackmodel.Tokens, bool) {
	if password, ok := w.servers[address]; ok {
		return ackmodel.AcceptOnly(password), true
	}
	return w.cloud.Tokens(address)
}
