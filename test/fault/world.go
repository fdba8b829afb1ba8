// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers"
	"github.com/flagcache/flagcache/controllers/policy"
)

// namespace and name identify the only FlagCache of the World.
const (
	namespace = "shop"
	name      = "demo"
)

var request = ctrl.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}

// Limits of a run, far above what a correct operator needs.
const (
	maxReconciles = 150
	maxDuration   = 4 * time.Hour
)

// Durations in the World.
const (
	// tick is the time that an actor needs for one step.
	tick = time.Second
	// restartTime is the time that the operator needs to start.
	restartTime = 5 * time.Second
	// stepTimeout is how long a user waits for the World to come to rest before the next step.
	stepTimeout = 2 * time.Minute
	// resync is the resync period of the informers.
	resync = 10 * time.Minute
)

// World is a simulated cluster with one FlagCache, its users and its operator. All of its state is
// data, so it can be forked at any time.
type World struct {
	api   apiServer
	plan  plan
	queue queue
	cache cacheView
	redis prober
	// broadcasts is what writes flags to Redis, and slots the documents there, by address and
	// environment. The map is never modified in place. slotWrites counts the writes.
	broadcasts broadcaster
	slots      map[string]slot
	slotWrites int
	// evidence is the sampler of the canary, clients the traffic that it samples, and assigned the
	// shares of candidates according to the operator. The map assigned is never modified in place.
	evidence sampler
	clients  clientTraffic
	assigned map[string]int32
	// imageFixed reports that the cause of the failures of failingImage was removed.
	imageFixed bool
	// lostImage is the image whose pods have ended and do not start any more, besides keptPods of
	// each Deployment.
	lostImage string
	keptPods  int32

	// policy is the administrator's.
	policy *policy.Policy

	scenario scenario
	// step is the index of the next step of the scenario, lastStep the time of the previous one.
	step     int
	lastStep time.Time

	// time is virtual; offset is the deviation of the operator's clock.
	time, start time.Time
	offset      time.Duration
	// nextTick is when the actors act next, zero if none of them has anything to do; alarm is the
	// earliest time at which an actor acts without a trigger.
	nextTick, alarm time.Time

	// desiredLoad is the number of replicas that the autoscaler computes.
	desiredLoad int32
	// servers are the Redis servers outside of the cluster and of AWS, by address, with the password
	// that they accept.
	servers map[string]string
	// ofAnother describes the groups that AWS has of another FlagCache, "" for none.
	ofAnother string
	// cloud is ACK and AWS, probedConnections those with a successful probe.
	cloud             cloud
	probedConnections map[string]bool

	calls, reconciles, generated int
	// generatedAtRotation is the number of credentials generated before the user requested a new
	// token.
	generatedAtRotation int
	// requests counts the operator's write requests, writes those that changed something.
	requests, writes int
	// injections has the progress of each point of the plan.
	injections []injection
	// current is the reconciliation in progress, nil between reconciliations.
	current *reconciliation
	// lastResult is the result of the previous reconciliation.
	lastResult reconcileResult
	// writer is the author of the current writes.
	writer string
	// documents are the flags that were written and published.
	documents documents
	// keys are those of documents in Redis.
	keys keyHistory
	// flagFiles is retained between reconciliations if the plan says so.
	flagFiles *controllers.FlagFiles

	// finished reports that the rest of the run is known.
	finished bool
	// effort and final are the results of the run.
	effort effort
	final  string

	// violations are the violated invariants.
	violations []string
	// events are those that the operator emitted.
	events []string

	// memo has the known states, visited those of this run with the number of reconciliations
	// before them. common and own are the fingerprints of objects, of the reference run and of this
	// run.
	memo    *memo
	visited map[stateKey]int
	common  map[client.Object]fingerprint
	own     map[client.Object]fingerprint
	// reduced lets states be the same whose difference does not matter to what follows, and the clock
	// advance in whole ticks, as explorations need it.
	reduced bool

	// calledTrace, forks and log are recorded unless they are nil.
	calledTrace *[]tracedCall
	forks       *[]*World
	log         *[]string
}

// reconciliation is one call of Reconcile.
type reconciliation struct {
	cancel context.CancelFunc
	// flagCache is the FlagCache that was read.
	flagCache *v1alpha1.FlagCache
	// replaced reports that another leader has taken over.
	replaced bool
	// cancelled reports that the context was cancelled.
	cancelled bool
	faulted   bool
	writes    int
}

// reconcileResult is the result of a reconciliation.
type reconcileResult struct {
	// unchanged is set if there was no error and no fault, and nobody wrote.
	unchanged    bool
	err          error
	requeueAfter time.Duration
	// revision of the store at that time.
	revision int
}

// injection is the progress of a point of the plan.
type injection struct {
	call  call
	times int
	since time.Time
	// lastReconcile is the last reconciliation with this fault, and consecutive the number of
	// consecutive ones.
	lastReconcile, consecutive int
}

// effort is the work that the operator did.
type effort struct{ reconciles, calls int }

// crash is a panic that ends the operator's process.
type crash struct{}

// newWorld returns a World at the beginning of a scenario.
func newWorld(s scenario, p plan) *World {
	start := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	w := &World{
		api: apiServer{store: newStore()}, plan: p, scenario: s, time: start, start: start, lastStep: start,
		redis: prober{}, slots: map[string]slot{}, servers: map[string]string{}, cloud: newCloud(), desiredLoad: 2, visited: map[stateKey]int{}, own: map[client.Object]fingerprint{}, writer: "user", injections: make([]injection, len(p.points)),
		policy: &policy.Policy{ElastiCache: []policy.ElastiCache{{Namespaces: []string{namespace}}}},
	}
	w.bind()
	w.setTime(start)
	return w
}

// The parts of the World, each with the methods of one concern.
type (
	// kube simulates the controllers, the kubelet and the gateway of a cluster.
	kube struct{ *World }
	// ackControllers runs the model of ACK's controllers, and of ElastiCache behind them.
	ackControllers struct{ *World }
	// load simulates the requests of clients.
	load struct{ *World }
	// oracle has the invariants of every FlagCache, canaryOracle those of canaries, and
	// cloudOracle those of caches in ElastiCache.
	oracle       struct{ *World }
	canaryOracle struct{ *World }
	cloudOracle  struct{ *World }
	// process runs the operator, and injector makes its calls and processes fail.
	process  struct{ *World }
	injector struct{ *World }
	// user acts as the people who use the operator.
	user struct{ *World }
	// digest reduces the World to what its future depends on.
	digest struct{ *World }
)

func (w *World) kube() kube                     { return kube{w} }
func (w *World) ackControllers() ackControllers { return ackControllers{w} }
func (w *World) load() load                     { return load{w} }
func (w *World) oracle() oracle                 { return oracle{w} }
func (w *World) canaryOracle() canaryOracle     { return canaryOracle{w} }
func (w *World) cloudOracle() cloudOracle       { return cloudOracle{w} }
func (w *World) process() process               { return process{w} }
func (w *World) injector() injector             { return injector{w} }
func (w *World) user() user                     { return user{w} }
func (w *World) digest() digest                 { return digest{w} }

// bind connects the World to the changes of its store.
func (w *World) bind() { w.api.onChange = w.onChange }

// fork returns a copy in which another plan is run.
func (w *World) fork(p plan) *World {
	f := *w
	f.api.store = w.api.fork()
	f.plan, f.injections = p, make([]injection, len(p.points))
	f.calledTrace, f.forks, f.log = nil, nil, nil
	f.visited, f.own = map[stateKey]int{}, map[client.Object]fingerprint{}
	f.events, f.violations = slices.Clip(w.events), slices.Clip(w.violations)
	f.redis = maps.Clone(w.redis)
	f.servers, f.cloud = maps.Clone(w.servers), w.cloud.fork()
	f.bind()
	return &f
}

func (w *World) setTime(t time.Time) {
	w.load().serveRequests(t.Sub(w.time))
	w.time = t
	w.api.clock = t
}

// Now returns the time of the operator's clock, which is implemented by the World.
func (w *World) Now() time.Time { return w.time.Add(w.offset) }

// Since returns the time passed according to the operator's clock.
func (w *World) Since(t time.Time) time.Duration { return w.Now().Sub(t) }

// runToEnd runs the scenario to its end, and verifies the steady state.
func (w *World) runToEnd(silent int) {
	w.runUntilRest(true)
	if w.finished {
		return
	}
	w.oracle().checkAtRest()
	w.effort, w.final = effort{reconciles: w.reconciles, calls: w.calls}, w.digest().normalized()
	if len(w.violations) == 0 {
		w.oracle().checkSteadyState(silent, silent/2)
	}
}

// runUntilRest advances until the World is at rest, after all steps of the scenario or before the
// next one.
func (w *World) runUntilRest(steps bool) {
	limit := maxReconciles
	if w.scenario.waitsForDeadline {
		limit *= 2
	}
	for begin := w.reconciles; w.reconciles < begin+limit && w.time.Sub(w.start) < maxDuration; {
		if w.finished || w.atRest() && (!steps || w.step == len(w.scenario.steps)) {
			return
		}
		if w.stepDue(steps) {
			w.takeStep()
			continue
		}
		w.advance(steps)
	}
	w.violation("L1 convergence: not at rest after %d reconciliations and %v; last error %v, requeue after %v",
		w.reconciles, w.time.Sub(w.start), w.lastResult.err, w.lastResult.requeueAfter)
}

// stepDue reports whether the next step is due: its trigger has fired, the World is at rest, or the
// user has waited long enough. Without steps only triggers count, which fire while operations are
// in progress.
func (w *World) stepDue(steps bool) bool {
	if w.step == len(w.scenario.steps) {
		return false
	}
	if has := w.scenario.triggers[w.step]; has != nil && has(w) {
		return true
	}
	return steps && (w.atRest() || w.stepsTimeOut() && !w.time.Before(w.lastStep.Add(stepTimeout)))
}

// stepsTimeOut reports whether the next step is run even if the World does not come to rest.
func (w *World) stepsTimeOut() bool { return !w.scenario.waitsForRest }

func (w *World) takeStep() {
	s := w.scenario.steps[w.step]
	w.step++
	w.setTime(w.time.Add(tick))
	w.lastStep = w.time
	w.logf("---- %s", s.name)
	w.as("user", func() { s.do(w) })
}

// as runs a function with another author of its writes.
func (w *World) as(writer string, do func()) {
	before := w.writer
	w.writer = writer
	do()
	w.writer = before
}

// atRest reports whether nothing will happen without further input.
func (w *World) atRest() bool {
	if w.queue.dirty || !w.nextTick.IsZero() || !w.alarm.IsZero() || w.cache.isOld() || w.outageActive() || w.ackControllers().cachePending() {
		return false
	}
	polls := w.lastResult.unchanged && !w.queue.missed && w.lastResult.requeueAfter >= 30*time.Second && w.lastResult.revision == w.api.revision
	return w.queue.later.IsZero() || polls
}

// outageActive reports whether a fault that lasts for outageDuration is in progress.
func (w *World) outageActive() bool {
	for i, p := range w.plan.points {
		if s := w.injections[i]; p.times == untilLifted && s.times > 0 && w.time.Before(s.since.Add(outageDuration)) {
			return true
		}
	}
	return false
}

// advance moves the clock to the next event and processes it.
func (w *World) advance(steps bool) {
	next := w.nextEvent(steps)
	if w.reduced && !next.Equal(next.Truncate(tick)) {
		next = next.Truncate(tick).Add(tick)
	}
	if next.After(w.time) {
		w.setTime(next)
	}
	switch {
	case w.cache.isOld() && !w.time.Before(w.cache.until):
		w.logf("---- the cache is up to date again")
		w.cache = cacheView{}
		w.queue.enqueue(w.time)
	case w.queue.due(w.time) && w.digest().predicted():
		w.finished = true
	case w.queue.due(w.time):
		w.process().runReconcile()
	case !w.alarm.IsZero() && !w.time.Before(w.alarm), !w.nextTick.IsZero() && !w.time.Before(w.nextTick):
		w.kube().act()
	}
}

// nextEvent returns the time of the next event.
func (w *World) nextEvent(steps bool) time.Time {
	next := time.Time{}
	consider := func(t time.Time, passed bool) {
		if !t.IsZero() && (passed || t.After(w.time)) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, t := range []time.Time{w.queue.next(w.time), w.nextTick, w.alarm, w.cache.until} {
		consider(t, true)
	}
	if steps && w.step < len(w.scenario.steps) && w.stepsTimeOut() {
		consider(w.lastStep.Add(stepTimeout), false)
	}
	for i, p := range w.plan.points {
		if s := w.injections[i]; p.times == untilLifted && s.times > 0 {
			consider(s.since.Add(outageDuration), false)
		}
	}
	if next.IsZero() {
		return w.time.Add(tick)
	}
	return next
}

var noFaults plan

// operator is the author of the Reconciler's writes, and operatorNamespace where it runs.
const (
	operator          = "operator"
	operatorNamespace = "flagcache-system"
)

// cacheView is a stale informer cache.
type cacheView struct {
	until  time.Time
	of     kind
	states [kinds]int
}

func (v cacheView) isOld() bool        { return !v.until.IsZero() }
func (v cacheView) covers(k kind) bool { return v.of == kinds || v.of == k }

func viewName(k kind) string {
	if k == kinds {
		return "everything"
	}
	return k.String()
}

// onChange processes each change of the store.
func (w *World) onChange(k kind, before, after client.Object) {
	w.logWrite(k, before, after)
	if w.writer == operator && w.current != nil {
		w.current.writes++
		w.writes++
	}
	w.nextTick = w.time.Add(tick)
	w.recordFlags(k, after)
	w.oracle().checkWrite(k, before, after)
	if w.triggers(k, before, after) {
		w.queue.enqueue(w.time)
	}
}

// logf adds a line to the log of the run.
func (w *World) logf(format string, args ...any) {
	if w.log != nil {
		*w.log = append(*w.log, fmt.Sprintf(format, args...))
	}
}

func (w *World) logCall(c call, err error) {
	if w.log != nil && (err != nil || c.isWrite()) {
		w.logf("%4d %s: %v", w.calls, c, err)
	}
}

func (w *World) logWrite(k kind, before, after client.Object) {
	if w.log == nil {
		return
	}
	switch {
	case before == nil:
		w.logf("       %s creates %s %s", w.writer, k, after.GetName())
	case after == nil:
		w.logf("       %s deletes %s %s", w.writer, k, before.GetName())
	default:
		w.logf("       %s changes %s %s: %s", w.writer, k, after.GetName(), differences(before, after))
	}
}
