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

// The World's only FlagCache.
const (
	namespace = "shop"
	name      = "demo"
)

var request = ctrl.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}

// Limits of a run. A correct operator needs far less.
const (
	maxLooks = 150
	maxTime  = 4 * time.Hour
)

// Times of the World.
const (
	// tick is how long an actor takes for a step.
	tick = time.Second
	// restartTime is how long the operator takes to start.
	restartTime = 5 * time.Second
	// patience is how long a user waits for the World to come to rest before the
	// next step.
	patience = 2 * time.Minute
	// resync is when informers report all they know once more.
	resync = 10 * time.Minute
)

// World is a cluster with one FlagCache, its users, and its operator. All of it
// is data, so a copy of it goes on as the original would have.
type World struct {
	api   apiServer
	plan  plan
	queue queue
	cache cacheView
	redis prober
	// metrics samples the evidence of canaries, clients are what it is about, and
	// promised the shares of candidates. That map is never changed in place.
	metrics  sampler
	clients  clients
	promised map[string]int32
	// mended says that what made an image fail is mended.
	mended bool

	scenario scenario
	// step is the next of the scenario, stepped is when the last one was.
	step    int
	stepped time.Time

	// time is virtual; offset is how far the operator's clock is off.
	time, began time.Time
	offset      time.Duration
	// nextTick is when actors act again, zero when all rest; alarm is when one of
	// them wants to act though nothing happens.
	nextTick, alarm time.Time

	// load is the number of replicas that an autoscaler would like.
	load int32
	// servers are the Redis servers outside, by address: what they take.
	servers map[string]passwords
	// cloud is what AWS does on demand, proven what probes of servers succeeded with.
	cloud  cloud
	proven map[string]bool

	calls, looks, drawn int
	// asked is how many credentials were drawn when the user asked for a new token.
	asked int
	// requests are the operator's attempts to write, writes those that changed
	// something.
	requests, writes int
	// struck are how often each point of the plan struck, and what.
	struck []strike
	// current is the look under way, nil between looks.
	current *look
	// last is how the last look ended.
	last ending
	// writer is who is writing.
	writer string
	// flagFiles is the operator's memory of flag files when the plan has it kept.
	flagFiles *controllers.FlagFiles

	// over says that the rest of the run is known.
	over bool
	// effort and final are what the run came to.
	effort effort
	final  string

	// broken are the invariants that did not hold.
	broken []string
	// events are those of the operator.
	events []string

	// memo is what is known of states, visited are those of this run, with the
	// number of looks until then. common and own are what is known of objects, of
	// the reference's and of this run's.
	memo    *memo
	visited map[stateKey]int
	common  map[client.Object]skeleton
	own     map[client.Object]skeleton

	// trace, forks and film are kept where they are wanted.
	trace *[]traced
	forks *[]*World
	film  *[]string
}

// look is one call of Reconcile.
type look struct {
	cancel context.CancelFunc
	// read is the FlagCache that the look is about.
	read *v1alpha1.FlagCache
	// retired says that another operator has taken over.
	retired bool
	// stopped says that the operator was told to stop.
	stopped bool
	faulted bool
	writes  int
}

// ending is how a look ended.
type ending struct {
	// clean: no error, no fault, and nothing was written.
	clean bool
	err   error
	again time.Duration
	// revision that the World had then.
	revision int
}

// strike is what a point of the plan did so far.
type strike struct {
	call  call
	times int
	since time.Time
	// look is the last look that it struck, and row how many looks in a row.
	look, row int
}

// effort is what the operator did.
type effort struct{ looks, calls int }

// crash is the end of the operator's process.
type crash struct{}

// newWorld is a World at the beginning of a scenario.
func newWorld(s scenario, p plan) *World {
	began := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	w := &World{
		api: apiServer{store: newStore()}, plan: p, scenario: s, time: began, began: began, stepped: began,
		redis: prober{}, servers: map[string]passwords{}, load: 2, visited: map[stateKey]int{}, own: map[client.Object]skeleton{}, writer: "user", struck: make([]strike, len(p.points)),
	}
	w.bind()
	w.setTime(began)
	return w
}

// bind makes the World hear of its store's changes.
func (w *World) bind() { w.api.wrote = w.wrote }

// fork is a copy that another plan may happen to.
func (w *World) fork(p plan) *World {
	f := *w
	f.api.store = w.api.fork()
	f.plan, f.struck = p, make([]strike, len(p.points))
	f.trace, f.forks, f.film = nil, nil, nil
	f.visited, f.own = map[stateKey]int{}, map[client.Object]skeleton{}
	f.events, f.broken = slices.Clip(w.events), slices.Clip(w.broken)
	f.redis = maps.Clone(w.redis)
	f.servers = maps.Clone(w.servers)
	f.bind()
	return &f
}

func (w *World) setTime(t time.Time) {
	w.answer(t.Sub(w.time))
	w.time = t
	w.api.clock = t
}

// Now is the time by the operator's clock, which the World is.
func (w *World) Now() time.Time { return w.time.Add(w.offset) }

// Since is the time that has passed by the operator's clock.
func (w *World) Since(t time.Time) time.Duration { return w.Now().Sub(t) }

// run plays the scenario to its end, and looks some more.
func (w *World) run(silent int) {
	w.drive(true)
	if w.over {
		return
	}
	w.checkRest()
	w.effort, w.final = effort{looks: w.looks, calls: w.calls}, w.normal()
	if len(w.broken) == 0 {
		w.checkSilence(silent)
	}
}

// drive lets things happen until all is at rest, with the scenario's steps or
// up to the next one.
func (w *World) drive(steps bool) {
	for begin := w.looks; w.looks < begin+maxLooks && w.time.Sub(w.began) < maxTime; {
		if w.over || w.atRest() && (!steps || w.step == len(w.scenario.steps)) {
			return
		}
		if w.stepDue(steps) {
			w.takeStep()
			continue
		}
		w.happen(steps)
	}
	w.violate("L1 convergence: after %d looks and %v nothing has come to rest; last look: error %v, again in %v",
		w.looks, w.time.Sub(w.began), w.last.err, w.last.again)
}

// stepDue says that the user goes on: the step's moment has come, or the World is
// at rest, or the user is tired of waiting. Without steps only moments count: they
// come while the World is busy.
func (w *World) stepDue(steps bool) bool {
	if w.step == len(w.scenario.steps) {
		return false
	}
	if has := w.scenario.moments[w.step]; has != nil && has(w) {
		return true
	}
	return steps && (w.atRest() || w.impatient() && !w.time.Before(w.stepped.Add(patience)))
}

// impatient says that the next step does not wait for rest for ever.
func (w *World) impatient() bool { return !w.scenario.patient }

func (w *World) takeStep() {
	s := w.scenario.steps[w.step]
	w.step++
	w.setTime(w.time.Add(tick))
	w.stepped = w.time
	w.filmed("---- %s", s.name)
	w.as("user", func() { s.do(w) })
}

// as has somebody else than the operator write.
func (w *World) as(writer string, do func()) {
	before := w.writer
	w.writer = writer
	do()
	w.writer = before
}

// atRest says that nothing will happen any more unless somebody does something.
func (w *World) atRest() bool {
	if w.queue.dirty || !w.nextTick.IsZero() || !w.alarm.IsZero() || w.cache.isOld() || w.strikesLater() || w.awaitsCloud() {
		return false
	}
	polls := w.last.clean && w.last.again >= 30*time.Second && w.last.revision == w.api.revision
	return w.queue.later.IsZero() || polls
}

// strikesLater says that a fault lasts that will be lifted.
func (w *World) strikesLater() bool {
	for i, p := range w.plan.points {
		if s := w.struck[i]; p.times == untilLifted && s.times > 0 && w.time.Before(s.since.Add(outage)) {
			return true
		}
	}
	return false
}

// happen moves the clock to the next event and lets it happen.
func (w *World) happen(steps bool) {
	next := w.nextEvent(steps)
	if next.After(w.time) {
		w.setTime(next)
	}
	switch {
	case w.cache.isOld() && !w.time.Before(w.cache.until):
		w.filmed("---- the cache catches up")
		w.cache = cacheView{}
		w.queue.wake(w.time)
	case w.queue.due(w.time) && w.foreseen():
		w.over = true
	case w.queue.due(w.time):
		w.look()
	case !w.alarm.IsZero() && !w.time.Before(w.alarm), !w.nextTick.IsZero() && !w.time.Before(w.nextTick):
		w.act()
	}
}

// nextEvent is when something happens next.
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
	if steps && w.step < len(w.scenario.steps) && w.impatient() {
		consider(w.stepped.Add(patience), false)
	}
	for i, p := range w.plan.points {
		if s := w.struck[i]; p.times == untilLifted && s.times > 0 {
			consider(s.since.Add(outage), false)
		}
	}
	if next.IsZero() {
		return w.time.Add(tick)
	}
	return next
}

// look has a fresh operator look once: nothing is remembered but what a restart
// would lose.
func (w *World) look() {
	if w.forks != nil {
		*w.forks = append(*w.forks, w.fork(plan0))
	}
	w.looks++
	w.disturb()
	w.queue.pop(w.time)
	w.filmed("== look %d at %v", w.looks, w.time.Sub(w.began))
	outer := w.current
	mine := &look{}
	w.current = mine
	result, err, crashed := w.reconcile()
	w.current = outer
	w.last = ending{err: err, again: result.RequeueAfter, clean: err == nil && !crashed && !mine.faulted && mine.writes == 0, revision: w.api.revision}
	w.tell(err)
	w.checkHonest()
	w.checkRejected()
	if w.nextTick.IsZero() && (w.redis.waits() || w.metrics.target != nil && w.metrics.next.IsZero()) {
		w.nextTick = w.time.Add(tick)
	}
	switch {
	case mine.retired:
		w.filmed("     the operator that was overtaken ends")
	case crashed || mine.stopped:
		w.restart()
	default:
		w.queue.done(w.time, result, err)
		w.filmed("     again in %v, error %v", result.RequeueAfter, err)
	}
	if w.forks != nil {
		w.checkSettles()
	}
}

var plan0 plan

// reconcile calls the operator; a crash ends it like the end of its process.
func (w *World) reconcile() (result ctrl.Result, err error, crashed bool) {
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

// operator is who writes on behalf of the FlagCache.
const operator = "operator"

func (w *World) operator() *controllers.Reconciler {
	return &controllers.Reconciler{
		Client:    operatorClient{w: w},
		Live:      operatorClient{w: w, live: true},
		FlagFiles: w.files(),
		Prober:    w.redis,
		Sampler:   &w.metrics,
		ACK:       w,
		Events:    recorder{w},
		Clock:     w,
		Operator:  observed.Operator{Namespace: "flagcache-system", FlagServiceImage: "flag-service:v1"},
		Random:    w.random,
		Backoff:   &w.queue.stale,
	}
}

func (w *World) files() *controllers.FlagFiles {
	if w.plan.memory && w.flagFiles != nil {
		return w.flagFiles
	}
	w.flagFiles = &controllers.FlagFiles{Metadata: operatorClient{w: w, everything: true}, Validate: validate}
	return w.flagFiles
}

func validate(data []byte) ([]string, error) {
	_, problems, err := flags.Parse(data)
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(problems))
	for i, p := range problems {
		texts[i] = p.String()
	}
	return texts, nil
}

// random draws a credential that is found again wherever it leaks to.
func (w *World) random() string {
	w.drawn++
	return fmt.Sprintf("%s%04d", secretMarker, w.drawn)
}

// restart ends the operator's process and starts another one.
func (w *World) restart() {
	w.filmed("     the operator starts anew")
	w.redis, w.metrics = prober{}, sampler{}
	w.queue = queue{ready: w.time.Add(restartTime)}
	w.flagFiles = nil
	w.queue.wake(w.time)
}

func (w *World) cancel() {
	w.current.stopped = true
	w.current.cancel()
}

// readFor keeps what the look is about.
func (w *World) readFor(o client.Object) {
	if fc, ok := o.(*v1alpha1.FlagCache); ok && w.current != nil {
		w.current.read = fc
	}
}

// cached is what the operator's cache holds of a kind.
func (w *World) cached(k kind) []client.Object {
	if w.cache.isOld() && w.cache.covers(k) {
		return w.api.at(k, w.cache.states[k])
	}
	return w.api.now(k)
}

// cacheView is an old view of the World.
type cacheView struct {
	until  time.Time
	of     kind
	states [kinds]int
}

func (v cacheView) isOld() bool        { return !v.until.IsZero() }
func (v cacheView) covers(k kind) bool { return v.of == kinds || v.of == k }

// disturb does what the plan has for the look that begins.
func (w *World) disturb() {
	for _, s := range w.plan.skews {
		if s.look != w.looks {
			continue
		}
		if s.restart {
			w.restart()
			w.queue.ready = w.time
		}
		w.cache = cacheView{until: w.time.Add(stale), of: s.kind, states: w.api.before(s.kind, s.lag)}
		w.filmed("---- the view of %s stands still, %d changes ago", viewName(s.kind), s.lag)
	}
	for _, d := range w.plan.wakes {
		if d.look != w.looks {
			continue
		}
		if d.restart {
			w.restart()
			w.queue.ready = w.time
		}
		w.queue.lose, w.queue.extra = d.lost, d.extra
	}
	for _, j := range w.plan.jumps {
		if j.look == w.looks {
			w.offset += j.by
			w.filmed("---- the clock jumps by %v", j.by)
		}
	}
}

func viewName(k kind) string {
	if k == kinds {
		return "everything"
	}
	return k.String()
}

// faultAt is what happens to a call.
func (w *World) faultAt(c call) fault {
	for i, p := range w.plan.points {
		s := &w.struck[i]
		if p.intrudes() || !w.strikes(p, s, c) {
			continue
		}
		if s.times == 0 {
			s.call, s.since = c, w.time
		}
		s.times++
		if w.current != nil {
			w.current.faulted = true
		}
		switch s.look {
		case w.looks:
		case w.looks - 1:
			s.row++
		default:
			s.row = 1
		}
		s.look = w.looks
		return p.fault
	}
	return noFault
}

// strikes says whether a point strikes at a call: at its own, or else at the
// next one that can fail like that, and then at the attempts of the same.
func (w *World) strikes(p point, s *strike, c call) bool {
	switch {
	case s.times == 0:
		return w.calls >= p.call && slices.Contains(faultsOf(c), p.fault)
	case !s.call.same(c):
		return false
	case p.times == untilLifted:
		return w.time.Before(s.since.Add(outage))
	default:
		return s.times < p.times
	}
}

// intrude does what the plan has happen just before a call.
func (w *World) intrude(c call) {
	for i, p := range w.plan.points {
		if p.call != w.calls || w.struck[i].times > 0 || !p.intrudes() {
			continue
		}
		w.struck[i].times++
		w.filmed("---- before %s: %s", c, p.fault)
		switch p.fault {
		case deleted:
			w.as("user", w.deleteFlagCache)
		case respecified:
			w.as("user", w.respecify)
		case overtaken, raced:
			w.overtake(p.fault == overtaken)
		}
	}
}

// overtake has another operator work while this one is held up in the middle of
// a look, for one look or until all is done.
func (w *World) overtake(all bool) {
	held, writer := w.current, w.writer
	held.retired = true
	w.writer = "cluster"
	w.restart()
	w.queue.ready = w.time
	if all {
		w.drive(false)
	} else {
		w.look()
	}
	w.current, w.writer = held, writer
	w.filmed("---- the operator that was overtaken goes on")
}

// wrote hears of every change of the store.
func (w *World) wrote(k kind, before, after client.Object) {
	w.filmWrite(k, before, after)
	if w.writer == operator && w.current != nil {
		w.current.writes++
		w.writes++
	}
	w.nextTick = w.time.Add(tick)
	w.checkWrite(k, before, after)
	if w.wakes(k, before, after) {
		w.queue.wake(w.time)
	}
}

// filmed adds a line to the film.
func (w *World) filmed(format string, args ...any) {
	if w.film != nil {
		*w.film = append(*w.film, fmt.Sprintf(format, args...))
	}
}

func (w *World) filmCall(c call, err error) {
	if w.film != nil && (err != nil || c.isWrite()) {
		w.filmed("%4d %s: %v", w.calls, c, err)
	}
}

func (w *World) filmWrite(k kind, before, after client.Object) {
	if w.film == nil {
		return
	}
	switch {
	case before == nil:
		w.filmed("       %s makes %s %s", w.writer, k, after.GetName())
	case after == nil:
		w.filmed("       %s removes %s %s", w.writer, k, before.GetName())
	default:
		w.filmed("       %s changes %s %s: %s", w.writer, k, after.GetName(), differences(before, after))
	}
}
