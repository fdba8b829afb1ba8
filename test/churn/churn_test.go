// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/test/cluster"
)

// maxSlowdown is how much longer the teams' FlagCaches may take to become Ready beside a hostile
// tenant.
const maxSlowdown = 2.0

func TestChurn(t *testing.T) {
	s := readSettings(t)
	r := startRig(t)
	memory := r.watchMemory()
	watch := r.watchReadiness()
	teams := []*tenant{r.prepare("team-a"), r.prepare("team-b")}
	namespaces := []string{teams[0].namespace, teams[1].namespace}
	empty := r.inventories(namespaces...)
	r.awaitOperator(watch)
	idle := r.restingUsage()
	r.explainFailures(watch, append(namespaces, "hostile"))

	editor := &editor{rig: r, watch: watch, tenants: teams, random: rand.New(rand.NewPCG(s.seed, 0))}
	r.log("creating %d FlagCaches", 2*s.ofTeam())
	editor.fill(s.ofTeam())
	r.awaitSettled(watch, namespaces...)
	watch.take()
	before := r.restingUsage()

	saboteur := &saboteur{rig: r, memory: memory, random: rand.New(rand.NewPCG(s.seed, 1)), teams: teams, beacon: r.lightBeacon()}
	r.log("baseline for %s", s.baseline())
	baseline := saboteur.phase(watch, s.baseline(), s.rounds(s.baseline()), editor.run)

	hostile := r.prepare("hostile")
	intruder := &intruder{editor: editor, tenant: hostile, started: map[string]bool{}}
	intruder.invade(s.ofHostile())
	r.log("hostile tenant for %s", s.hostile())
	beside := saboteur.phase(watch, s.hostile(), max(1, s.rounds(s.hostile())), editor.run, intruder.run)
	intruder.expectActive()
	compare(r, baseline, beside)

	r.log("deleting the hostile tenant")
	r.deleteFlagCaches(watch, hostile.namespace)
	r.awaitUsage("After the hostile tenant", before)
	r.deleteFlagCaches(watch, append(namespaces, saboteur.beacon.Namespace)...)
	r.awaitUsage("After all FlagCaches", idle)
	r.expectNothingLeft(empty)
	r.expectNoCrash()
	if peak, most := memory.maximum(), r.memoryLimit(); peak > most {
		t.Errorf("the operator used %s, over its limit of %s", mebibytes(peak), mebibytes(most))
	} else {
		r.log("the operator used at most %s of %s", mebibytes(peak), mebibytes(most))
	}
}

// phase edits for a duration, beside others that run: one half with rounds of faults, and one
// without, once all FlagCaches have settled. It returns the changes of the latter.
func (s *saboteur) phase(watch *readiness, duration time.Duration, rounds int, edit func(context.Context), beside ...func(context.Context)) []sample {
	s.t.Helper()
	teams := []string{s.teams[0].namespace, s.teams[1].namespace}
	half := func(until func(ctx context.Context)) {
		ctx, cancel := context.WithCancel(s.t.Context())
		defer cancel()
		var running sync.WaitGroup
		running.Go(func() {
			defer cancel()
			until(ctx)
		})
		for _, run := range beside {
			running.Go(func() { run(ctx) })
		}
		edit(ctx) // in the test's own goroutine, which it may end
		running.Wait()
		s.awaitSettled(watch, teams...)
	}
	if rounds > 0 {
		half(func(ctx context.Context) { s.run(ctx, duration/2, rounds) })
		watch.take()
	}
	s.log("calm for %s", duration/2)
	half(func(ctx context.Context) { s.wait(ctx, duration/2) })
	return watch.take()
}

// awaitSettled waits until all FlagCaches of some namespaces are Ready and complete.
func (r *rig) awaitSettled(watch *readiness, namespaces ...string) {
	r.t.Helper()
	r.await("waiting until all FlagCaches are Ready", func(context.Context) (bool, error) {
		if rest := watch.unsettled(namespaces...); len(rest) > 0 {
			return false, fmt.Errorf("%d are not:\n%s", len(rest), strings.Join(rest[:min(5, len(rest))], "\n"))
		}
		return true, nil
	})
}

// compare compares the times to Ready with those of the baseline: the median over all changes of
// how much longer each took than the median of its kind.
func compare(r *rig, baseline, beside []sample) {
	r.t.Helper()
	usual := map[string]time.Duration{}
	for kind, times := range byKind(baseline) {
		usual[kind] = median(times)
	}
	var slowdowns []float64
	for kind, times := range byKind(beside) {
		r.log("%-20s baseline %6d ms, beside the hostile tenant %6d ms in %d changes", kind, usual[kind].Milliseconds(), median(times).Milliseconds(), len(times))
		if usual[kind] == 0 {
			continue
		}
		for _, took := range times {
			slowdowns = append(slowdowns, float64(took)/float64(usual[kind]))
		}
	}
	if len(slowdowns) < 5 {
		r.t.Fatalf("only %d changes can be compared, of %d and %d", len(slowdowns), len(baseline), len(beside))
	}
	slices.Sort(slowdowns)
	slowdown := slowdowns[len(slowdowns)/2]
	r.log("%d changes of the baseline and %d beside the hostile tenant; in the median of %d, %.2f times as slow", len(baseline), len(beside), len(slowdowns), slowdown)
	if slowdown > maxSlowdown {
		r.t.Errorf("beside the hostile tenant changes take %.2f times as long to be Ready, want at most %.0f", slowdown, maxSlowdown)
	}
}

// byKind returns the times that changes took to be Ready, by their kind; deletions are none.
func byKind(samples []sample) map[string][]time.Duration {
	times := map[string][]time.Duration{}
	for _, c := range samples {
		if c.generation > 0 {
			times[c.kind] = append(times[c.kind], c.took())
		}
	}
	return times
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// awaitOperator waits until the operator has reconciled a FlagCache, so that its usage at rest
// includes its caches.
func (r *rig) awaitOperator(watch *readiness) {
	r.t.Helper()
	fc := r.lightBeacon()
	r.await("waiting for the operator", func(ctx context.Context) (bool, error) {
		err := r.Client.Get(ctx, client.ObjectKeyFromObject(fc), fc)
		return fc.Status.ObservedGeneration == fc.Generation, err
	})
	r.deleteFlagCaches(watch, fc.Namespace)
}

// deleteFlagCaches deletes all FlagCaches of some namespaces.
func (r *rig) deleteFlagCaches(watch *readiness, namespaces ...string) {
	r.t.Helper()
	for _, namespace := range namespaces {
		r.do("deleting the FlagCaches of "+namespace, func(ctx context.Context) error {
			return r.Client.DeleteAllOf(ctx, &v1alpha1.FlagCache{}, client.InNamespace(namespace))
		})
	}
	r.await("waiting for the deletion of FlagCaches", func(context.Context) (bool, error) {
		if n := watch.count(namespaces...); n > 0 {
			return false, fmt.Errorf("%d are left", n)
		}
		return true, nil
	})
}

// inventories lists the objects of namespaces.
func (r *rig) inventories(namespaces ...string) map[string]cluster.Inventory {
	r.t.Helper()
	all := map[string]cluster.Inventory{}
	for _, namespace := range namespaces {
		r.do("listing all objects", func(ctx context.Context) (err error) {
			all[namespace], err = r.Inventory(ctx, namespace)
			return err
		})
	}
	return all
}

// expectNothingLeft waits until namespaces have nothing that they did not have before, but other
// pods of Redis.
func (r *rig) expectNothingLeft(before map[string]cluster.Inventory) {
	r.t.Helper()
	for namespace, earlier := range before {
		r.await("waiting for the deletion of everything in "+namespace, func(ctx context.Context) (bool, error) {
			now, err := r.Inventory(ctx, namespace)
			if err != nil {
				return false, err
			}
			left := slices.DeleteFunc(now.NotIn(earlier), func(name string) bool {
				return strings.HasPrefix(name, "Pod/"+redisName+"-") || strings.HasPrefix(name, "PodMetrics/")
			})
			if len(left) > 0 {
				return false, fmt.Errorf("%d objects are left: %s", len(left), strings.Join(left[:min(10, len(left))], ", "))
			}
			return true, nil
		})
	}
}
