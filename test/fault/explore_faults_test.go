// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// faultActions are faults of the operator's writes and of what it reads, which an exploration tries
// like the actions of people.
var faultActions = []action{
	failNextWrite("fail the next write of the operator", unavailable),
	failNextWrite("lose the response of the next write of the operator", applied),
	failNextWrite("crash after the next write of the operator", crashAfter),
	staleCache(0),
	staleCache(2),
}

// cloudActions are tried in addition in a World with a cache in AWS.
var cloudActions = []action{
	{"request a new token", func(w *World) bool { return annotationOf(w, v1alpha1.AnnotationRotateToken) == "" }, func(w *World) { requestRotation("today").do(w) }},
	{"request larger nodes", func(w *World) bool {
		return specOf(w) != nil && specOf(w).Cache.ElastiCache.NodeType == "cache.t3.micro"
	}, func(w *World) {
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Cache.ElastiCache.NodeType = "cache.t3.small" })
	}},
	{"change the engine", func(w *World) bool {
		return specOf(w) != nil && specOf(w).Cache.ElastiCache.Engine == v1alpha1.EngineRedis
	}, func(w *World) { changeEngine("").do(w) }},
	{"stop ACK", func(w *World) bool { return !w.cloud.stopped }, func(w *World) { w.cloud.stopped = true }},
	{"start ACK", func(w *World) bool { return w.cloud.stopped }, func(w *World) { w.cloud.stopped = false; w.nextTick = w.time.Add(tick) }},
}

func specOf(w *World) *v1alpha1.FlagCacheSpec {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok {
		return nil
	}
	return &fc.Spec
}

func annotationOf(w *World, key string) string {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok {
		return ""
	}
	return fc.Annotations[key]
}

// failNextWrite lets the next write of the operator fail, once, unless a fault is outstanding.
func failNextWrite(what string, f fault) action {
	return action{what, func(w *World) bool { return !faultOutstanding(w) && !w.atRest() }, func(w *World) {
		w.plan.points = append(slices.Clone(w.plan.points), point{call: w.calls + 1, fault: f, times: once})
		w.injections = append(w.injections, injection{})
	}}
}

// faultOutstanding reports whether a fault has not happened yet.
func faultOutstanding(w *World) bool {
	return slices.ContainsFunc(w.injections, func(i injection) bool { return i.times == 0 })
}

// staleCache lets the operator read an earlier state for a while, so many changes behind.
func staleCache(lag int) action {
	return action{fmt.Sprintf("let the cache of the operator lag %d changes behind", lag), func(w *World) bool { return !w.cache.isOld() && !w.atRest() }, func(w *World) {
		w.plan.staleViews = append(slices.Clone(w.plan.staleViews), staleView{kind: kinds, lag: lag})
		w.cache = cacheView{until: w.time.Add(staleDuration), of: kinds, states: w.api.statesBefore(kinds, lag)}
	}}
}

// forkWithFaults returns a copy of a World in which outstanding faults still happen.
func forkWithFaults(from *World) *World {
	w := from.fork(from.plan)
	w.injections = slices.Clone(from.injections)
	return w
}

// exploredKey returns the key of a World's state with its outstanding faults and what the operator
// reads.
func exploredKey(w *World) stateKey {
	key := w.digest().stateKey()
	if !faultOutstanding(w) && !w.cache.isOld() {
		return key
	}
	h := sha256.New()
	h.Write(key[:])
	for i, p := range w.plan.points {
		if w.injections[i].times == 0 {
			fmt.Fprintln(h, p.fault)
		}
	}
	if w.cache.isOld() {
		fmt.Fprintln(h, w.cache.until.Sub(w.time))
		for k := range kinds {
			for _, o := range w.api.at(k, w.cache.states[k]) {
				fmt.Fprintln(h, w.digest().fingerprintOf(o).text)
			}
		}
	}
	return stateKey(h.Sum(nil))
}
