// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/probe"
)

// nextSuffix marks the prober's key of the next connection. No FlagCache can have
// such a key, because names contain no slash.
const nextSuffix = "/next"

// nextProbeKey returns the prober's key of a FlagCache's next connection, which is
// probed before any pod uses it.
func nextProbeKey(fc types.NamespacedName) types.NamespacedName {
	fc.Name += nextSuffix
	return fc
}

// FlagCacheOf returns the FlagCache that a key of the prober belongs to.
func FlagCacheOf(probe types.NamespacedName) types.NamespacedName {
	probe.Name = strings.TrimSuffix(probe.Name, nextSuffix)
	return probe
}

// watchProbe starts, continues or stops probing a connection as planned.
func (r *Reconciler) watchProbe(key types.NamespacedName, target *plan.ProbeTarget) {
	if target == nil {
		r.Prober.Forget(key)
		return
	}
	r.Prober.Watch(key, probeTarget(target))
}

// probeTarget converts a plan's target to the prober's.
func probeTarget(t *plan.ProbeTarget) probe.Target {
	return probe.Target{
		ID:               t.ID,
		Addr:             t.Connection.Endpoint(),
		Username:         t.Connection.Username,
		Password:         t.Connection.Password,
		TLS:              t.Connection.TLS,
		Own:              !t.Connection.IsExternal(),
		CA:               []byte(t.Connection.CA),
		Key:              t.Key,
		Interval:         t.Spec.Interval.Duration,
		Timeout:          t.Spec.Timeout.Duration,
		FailureThreshold: int(t.Spec.FailureThreshold),
		SuccessThreshold: int(t.Spec.SuccessThreshold),
	}
}

// lastProbe converts the prober's last result to an observation.
func (o *observer) lastProbe(key types.NamespacedName) observed.Probe {
	result, ok := o.prober.Last(key)
	if !ok {
		return observed.Probe{}
	}
	p := observed.Probe{
		Of: result.ID, Reason: string(result.Reason), Message: result.Message, Role: result.Role,
		At: result.At, Failing: result.Failing, Load: loads[result.Load],
	}
	switch result.Outcome {
	case probe.Healthy:
		p.Health = observed.Healthy
		p.Latency = result.Latency.String()
	case probe.Unhealthy:
		p.Health = observed.Unhealthy
	}
	if result.ReplicationLag > 0 {
		p.ReplicationLag = result.ReplicationLag.String()
	}
	return p
}

// loads maps the prober's loads to those of a snapshot.
var loads = map[probe.Load]observed.Load{
	probe.LoadNormal:     observed.LoadNormal,
	probe.LoadLow:        observed.LoadLow,
	probe.LoadHighMemory: observed.LoadHighMemory,
	probe.LoadHighCPU:    observed.LoadHighCPU,
}
