// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/service/flags"
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
	// evidence is the sampler of the canary, clients the traffic that it samples, and assigned the
	// shares of candidates according to the operator. The map assigned is never modified in place.
	evidence sampler
	clients  clientTraffic
	assigned map[string]int32
	// imageFixed reports that the cause of the failures of failingImage was removed.
	imageFixed bool

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
	// servers are the Redis servers outside of the cluster, by address, with the passwords that
	// they accept.
	servers map[string]passwords
	// cloud is the simulated state of AWS, probedConnections those with a successful probe.
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
	// unchanged is set if there was no error, no fault and no write.
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
		redis: prober{}, servers: map[string]passwords{}, desiredLoad: 2, visited: map[stateKey]int{}, own: map[client.Object]fingerprint{}, writer: "user", injections: make([]injection, len(p.points)),
	}
	w.bind()
	w.setTime(start)
	return w
}

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
	f.servers = maps.Clone(w.servers)
	f.bind()
	return &f
}

func (w *World) setTime(t time.Time) {
	w.serveRequests(t.Sub(w.time))
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
	w.checkAtRest()
	w.effort, w.final = effort{reconciles: w.reconciles, calls: w.calls}, w.normalized()
	if len(w.violations) == 0 {
		w.checkSteadyState(silent)
	}
}

// runUntilRest advances until the World is at rest, after all steps of the scenario or before the
// next one.
func (w *World) runUntilRest(steps bool) {
	for begin := w.reconciles; w.reconciles < begin+maxReconciles && w.time.Sub(w.start) < maxDuration; {
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
	if w.queue.dirty || !w.nextTick.IsZero() || !w.alarm.IsZero() || w.cache.isOld() || w.outageActive() || w.cachePending() {
		return false
	}
	polls := w.lastResult.unchanged && w.lastResult.requeueAfter >= 30*time.Second && w.lastResult.revision == w.api.revision
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
	if next.After(w.time) {
		w.setTime(next)
	}
	switch {
	case w.cache.isOld() && !w.time.Before(w.cache.until):
		w.logf("---- the cache is up to date again")
		w.cache = cacheView{}
		w.queue.enqueue(w.time)
	case w.queue.due(w.time) && w.predicted():
		w.finished = true
	case w.queue.due(w.time):
		w.runReconcile()
	case !w.alarm.IsZero() && !w.time.Before(w.alarm), !w.nextTick.IsZero() && !w.time.Before(w.nextTick):
		w.act()
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

// runReconcile runs one reconciliation with a new Reconciler, which has no state other than what a
// restart would lose.
func (w *World) runReconcile() {
	if w.forks != nil {
		*w.forks = append(*w.forks, w.fork(noFaults))
	}
	w.reconciles++
	w.injectBeforeReconcile()
	w.queue.pop(w.time)
	w.logf("== reconciliation %d at %v", w.reconciles, w.time.Sub(w.start))
	outer := w.current
	mine := &reconciliation{}
	w.current = mine
	result, err, crashed := w.callReconciler()
	w.current = outer
	w.lastResult = reconcileResult{err: err, requeueAfter: result.RequeueAfter, unchanged: err == nil && !crashed && !mine.faulted && mine.writes == 0, revision: w.api.revision}
	w.checkError(err)
	w.checkFailureReported()
	w.checkRejected()
	if w.nextTick.IsZero() && (w.redis.pending() || w.evidence.target != nil && w.evidence.next.IsZero()) {
		w.nextTick = w.time.Add(tick)
	}
	switch {
	case mine.replaced:
		w.logf("     the previous leader ends")
	case crashed || mine.cancelled:
		w.restart()
	default:
		w.queue.done(w.time, result, err)
		w.logf("     requeue after %v, error %v", result.RequeueAfter, err)
	}
	if w.forks != nil {
		w.checkIdempotent()
	}
}

var noFaults plan

// callReconciler calls Reconcile. A crash ends it like the end of its process.
func (w *World) callReconciler() (result ctrl.Result, err error, crashed bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crash); !ok {
				panic(r)
			}
			crashed = true
		}
	}()
	ctx, cancel := context.WithCancel(logr.NewContext(context.Background(), w.logger()))
	defer cancel()
	w.current.cancel = cancel
	previous := w.writer
	w.writer = operator
	defer func() { w.writer = previous }()
	result, err = w.operator().Reconcile(ctx, request)
	return result, err, false
}

// operator is the author of the Reconciler's writes.
const operator = "operator"

func (w *World) operator() *controllers.Reconciler {
	return &controllers.Reconciler{
		Client:    operatorClient{w: w},
		Live:      operatorClient{w: w, live: true},
		FlagFiles: w.files(),
		Prober:    w.redis,
		Sampler:   &w.evidence,
		ACK:       w,
		Events:    recorder{w},
		Clock:     w,
		Operator:  observed.Operator{Namespace: "flagcache-system", FlagServiceImage: "flag-service:v1"},
		Random:    w.random,
		Backoff:   &w.queue.stale,
	}
}

func (w *World) files() *controllers.FlagFiles {
	if w.plan.keepMemory && w.flagFiles != nil {
		return w.flagFiles
	}
	w.flagFiles = &controllers.FlagFiles{Metadata: operatorClient{w: w, unrestricted: true}, Validate: flags.Validate}
	return w.flagFiles
}

// random generates a credential that is recognized wherever it leaks.
func (w *World) random() string {
	w.generated++
	return fmt.Sprintf("%s%04d", secretMarker, w.generated)
}

// restart ends the operator's process and starts another one.
func (w *World) restart() {
	w.logf("     the operator restarts")
	w.redis, w.evidence = prober{}, sampler{}
	w.queue = queue{ready: w.time.Add(restartTime)}
	w.flagFiles = nil
	w.queue.enqueue(w.time)
}

func (w *World) cancel() {
	w.current.cancelled = true
	w.current.cancel()
}

// recordFlagCache remembers the FlagCache that the current reconciliation has read.
func (w *World) recordFlagCache(o client.Object) {
	if fc, ok := o.(*v1alpha1.FlagCache); ok && w.current != nil {
		w.current.flagCache = fc
	}
}

// cached returns the objects of a kind in the operator's informer cache.
func (w *World) cached(k kind) []client.Object {
	if w.cache.isOld() && w.cache.covers(k) {
		return w.api.at(k, w.cache.states[k])
	}
	return w.api.now(k)
}

// cacheView is a stale informer cache.
type cacheView struct {
	until  time.Time
	of     kind
	states [kinds]int
}

func (v cacheView) isOld() bool        { return !v.until.IsZero() }
func (v cacheView) covers(k kind) bool { return v.of == kinds || v.of == k }

// injectBeforeReconcile applies the parts of the plan for the next reconciliation.
func (w *World) injectBeforeReconcile() {
	for _, s := range w.plan.staleViews {
		if s.reconcile != w.reconciles {
			continue
		}
		if s.restart {
			w.restart()
			w.queue.ready = w.time
		}
		w.cache = cacheView{until: w.time.Add(staleDuration), of: s.kind, states: w.api.statesBefore(s.kind, s.lag)}
		w.logf("---- the cache of %s is stale, %d changes behind", viewName(s.kind), s.lag)
	}
	for _, d := range w.plan.queueFaults {
		if d.reconcile != w.reconciles {
			continue
		}
		if d.restart {
			w.restart()
			w.queue.ready = w.time
		}
		w.queue.loseNext, w.queue.addNext = d.lost, d.extra
	}
	for _, j := range w.plan.clockJumps {
		if j.reconcile == w.reconciles {
			w.offset += j.by
			w.logf("---- the clock jumps by %v", j.by)
		}
	}
}

func viewName(k kind) string {
	if k == kinds {
		return "everything"
	}
	return k.String()
}

// faultAt returns the fault of a call.
func (w *World) faultAt(c call) fault {
	for i, p := range w.plan.points {
		s := &w.injections[i]
		if p.isEvent() || !w.matches(p, s, c) {
			continue
		}
		if s.times == 0 {
			s.call, s.since = c, w.time
		}
		s.times++
		if w.current != nil {
			w.current.faulted = true
		}
		switch s.lastReconcile {
		case w.reconciles:
		case w.reconciles - 1:
			s.consecutive++
		default:
			s.consecutive = 1
		}
		s.lastReconcile = w.reconciles
		return p.fault
	}
	return noFault
}

// matches reports whether a point applies to a call: its own, or else the next one at which its
// fault is possible, and then the retries of that call.
func (w *World) matches(p point, s *injection, c call) bool {
	switch {
	case s.times == 0:
		return w.calls >= p.call && slices.Contains(faultsOf(c), p.fault)
	case !s.call.sameTarget(c):
		return false
	case p.times == untilLifted:
		return w.time.Before(s.since.Add(outageDuration))
	default:
		return s.times < p.times
	}
}

// injectEvents runs the events that the plan has before a call.
func (w *World) injectEvents(c call) {
	for i, p := range w.plan.points {
		if p.call != w.calls || w.injections[i].times > 0 || !p.isEvent() {
			continue
		}
		w.injections[i].times++
		w.logf("---- before %s: %s", c, p.fault)
		switch p.fault {
		case flagCacheDeleted:
			w.as("user", w.deleteFlagCache)
		case specChanged:
			w.as("user", w.changePodLabels)
		case leaderChanged, leaderOverlapped:
			w.runOtherLeader(p.fault == leaderChanged)
		}
	}
}

// runOtherLeader runs another leader during a reconciliation of this one, for one reconciliation or
// until the World is at rest.
func (w *World) runOtherLeader(all bool) {
	held, writer := w.current, w.writer
	held.replaced = true
	w.writer = "cluster"
	w.restart()
	w.queue.ready = w.time
	if all {
		w.runUntilRest(false)
	} else {
		w.runReconcile()
	}
	w.current, w.writer = held, writer
	w.logf("---- the previous leader continues")
}

// onChange processes each change of the store.
func (w *World) onChange(k kind, before, after client.Object) {
	w.logWrite(k, before, after)
	if w.writer == operator && w.current != nil {
		w.current.writes++
		w.writes++
	}
	w.nextTick = w.time.Add(tick)
	w.checkWrite(k, before, after)
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
