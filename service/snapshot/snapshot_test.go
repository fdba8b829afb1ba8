// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/logtest"
	"github.com/flagcache/flagcache/service/redistest"
	"github.com/flagcache/flagcache/service/snapshot"
	"github.com/flagcache/flagcache/service/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soon is long enough for every notification, even on a busy machine.
const soon = 10 * time.Second

// document returns a document with one flag of the given value.
func document(value int) string {
	return fmt.Sprintf(`{"flags":{"flag":{"state":"ENABLED","variants":{"v":%d},"defaultVariant":"v"}}}`, value)
}

// instance is a flag service without HTTP: a source, possibly Redis, and the
// refresher.
type instance struct {
	*snapshot.Refresher
	t        *testing.T
	file     string
	registry *prometheus.Registry
	logs     *logtest.Buffer
	log      *slog.Logger
	// served is the set that requests would read.
	served atomic.Pointer[flags.Set]
	// clock is the offset of the instance's clock.
	clock atomic.Int64
}

// start runs an instance with a file of the given content, without a file if it
// is empty, and with Redis unless server is nil.
func start(t *testing.T, content string, server *redistest.Server, change ...func(*snapshot.Options)) *instance {
	t.Helper()
	i := newInstance(t)
	if content != "" {
		i.write(content)
	}
	url := ""
	if server != nil {
		url = server.URL()
	}
	file := source.NewFile(i.file, flags.MaxSize, 200*time.Millisecond, i.log)
	i.run(url, snapshot.Options{Source: file, CacheInterval: 400 * time.Millisecond}, change)
	return i
}

func newInstance(t *testing.T) *instance {
	i := &instance{t: t, file: filepath.Join(t.TempDir(), "flags.json"), registry: prometheus.NewRegistry(), logs: &logtest.Buffer{}}
	i.log = slog.New(slog.NewTextHandler(io.MultiWriter(i.logs, t.Output()), nil))
	return i
}

// run runs the refresher until the test ends, with Redis at the URL unless it is
// empty.
func (i *instance) run(url string, options snapshot.Options, change []func(*snapshot.Options)) {
	i.t.Helper()
	options.Serve = func(set *flags.Set) { i.served.Store(set) }
	options.Now = func() time.Time { return time.Now().Add(time.Duration(i.clock.Load())) }
	options.Log = i.log
	if url != "" {
		options.Cache = cache.New(cache.Options{
			Environment: "test", URL: url, TTL: time.Minute, MaxSize: flags.MaxSize,
			Connections: 4, DialTimeout: 500 * time.Millisecond, Log: i.log,
		}, i.registry)
	}
	for _, c := range change {
		c(&options)
	}
	i.Refresher = snapshot.New(options)
	i.Register(i.registry)
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { i.Run(ctx) })
	i.t.Cleanup(func() { cancel(); ended.Wait() })
}

// write replaces the file atomically.
func (i *instance) write(content string) {
	i.t.Helper()
	if err := os.WriteFile(i.file+".new", []byte(content), 0o600); err != nil {
		i.t.Fatal(err)
	}
	if err := os.Rename(i.file+".new", i.file); err != nil {
		i.t.Fatal(err)
	}
}

// value returns the value of the flag, empty without flags.
func (i *instance) value() string {
	set := i.served.Load()
	if set == nil {
		return ""
	}
	flag, ok := set.Flag("flag")
	if !ok {
		return "absent"
	}
	outcome, err := flag.Evaluate(new(flags.Context), 0)
	if err != nil {
		return err.Error()
	}
	return string(outcome.Value)
}

func (i *instance) awaitValue(want string) {
	i.t.Helper()
	redistest.Eventually(i.t, soon, "the value did not become "+want, func() bool { return i.value() == want })
}

func (i *instance) awaitLog(want string) {
	i.t.Helper()
	redistest.Eventually(i.t, soon, "the log does not contain "+want, func() bool { return strings.Contains(i.logs.String(), want) })
}

func (i *instance) awaitOrigin(want string) {
	i.t.Helper()
	redistest.Eventually(i.t, soon, "the origin did not become "+want, func() bool {
		current := i.Current()
		return current != nil && current.Origin == want
	})
}

// metric returns the value of a gauge.
func (i *instance) metric(name string) float64 {
	i.t.Helper()
	series := i.series(name)
	if len(series) == 0 {
		i.t.Fatalf("the metric %s does not exist", name)
	}
	return series[0].GetGauge().GetValue()
}

// counter returns the value of a counter, 0 if it does not exist.
func (i *instance) counter(name string) float64 {
	i.t.Helper()
	for _, m := range i.series(name) {
		return m.GetCounter().GetValue()
	}
	return 0
}

// lookups returns the number of lookups in Redis with the given result.
func (i *instance) lookups(result string) float64 {
	i.t.Helper()
	for _, m := range i.series("flag_cache_requests_total") {
		if m.GetLabel()[0].GetValue() == result {
			return m.GetCounter().GetValue()
		}
	}
	return 0
}

func (i *instance) series(name string) []*dto.Metric {
	i.t.Helper()
	families, err := i.registry.Gather()
	if err != nil {
		i.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()
		}
	}
	return nil
}

// awaitCached waits until Redis holds the given document.
func awaitCached(t *testing.T, server *redistest.Server, want string) {
	t.Helper()
	client := server.Client()
	redistest.Eventually(t, soon, "Redis does not hold "+want, func() bool {
		return strings.HasSuffix(client.Get(t.Context(), "feature_flags:test").Val(), want)
	})
}

func TestServesTheSourceAndItsChanges(t *testing.T) {
	i := start(t, document(1), nil)
	i.awaitValue("1")
	i.write(document(2))
	i.awaitValue("2")
	if got := i.Current().Generation; got != 2 {
		t.Errorf("the generation is %d, not 2", got)
	}
	for name, want := range map[string]float64{
		"flag_config_generation": 2, "flag_config_flags": 1, "flag_config_problems": 0, "flag_source_good": 1,
	} {
		if got := i.metric(name); got != want {
			t.Errorf("%s is %v, not %v", name, got, want)
		}
	}
	if got, want := i.servedDigests(), []string{source.Digest([]byte(document(2)))}; !slices.Equal(got, want) {
		t.Errorf("the digests of the served documents are %v, not %v", got, want)
	}
}

// servedDigests returns the digests in the metrics.
func (i *instance) servedDigests() []string {
	i.t.Helper()
	families, err := i.registry.Gather()
	if err != nil {
		i.t.Fatal(err)
	}
	var digests []string
	for _, family := range families {
		if family.GetName() != config.MetricSnapshotInfo {
			continue
		}
		for _, series := range family.GetMetric() {
			digests = append(digests, series.GetLabel()[0].GetValue())
		}
	}
	return digests
}

func TestWaitsForFlagsWithNothingReachable(t *testing.T) {
	server := redistest.Start(t)
	server.Kill()
	i := start(t, "", server)
	i.awaitLog("cannot use the source")
	if got := i.servedDigests(); len(got) > 0 {
		t.Errorf("the digests of the served documents are %v before the first", got)
	}
	if i.Current() != nil || i.Age() != 0 || !strings.Contains(i.SourceError(), "no such file") {
		t.Errorf("without a source it serves %v; source error: %q", i.Current(), i.SourceError())
	}
	i.write(document(1))
	i.awaitValue("1")
	redistest.Eventually(t, soon, "the source is good, but still has an error", func() bool { return i.SourceError() == "" })
}

func TestKeepsTheLastGoodFlags(t *testing.T) {
	broken := map[string]string{
		"not JSON":             "{\n  oops",
		"without flags":        `{}`,
		"without a valid flag": `{"flags":{"flag":{"state":"ENABLED"}}}`,
		"too large":            strings.Repeat(" ", flags.MaxSize+1),
	}
	for name, content := range broken {
		t.Run(name, func(t *testing.T) {
			i := start(t, document(1), nil)
			i.awaitValue("1")
			i.write(content)
			i.awaitLog("cannot use the source, keeping the last good flags")
			if i.value() != "1" || i.metric("flag_source_good") != 0 || i.metric("flag_config_generation") != 1 {
				t.Errorf("an unusable document changed the flags: %s", i.value())
			}
			i.clock.Add(int64(time.Hour))
			if age := i.metric("flag_config_age_seconds"); age < 3600 {
				t.Errorf("after an hour the age is %v s", age)
			}
			i.write(document(2))
			i.awaitValue("2")
			i.awaitLog("the source is usable again")
			if n := strings.Count(i.logs.String(), "cannot use the source"); n != 1 {
				t.Errorf("the error was logged %d times", n)
			}
			redistest.Eventually(t, soon, "the age did not fall", func() bool { return i.metric("flag_config_age_seconds") < 60 })
		})
	}
}

func TestInvalidDocumentIsLoggedWithItsPosition(t *testing.T) {
	i := start(t, "{\n  \"flags\": oops\n}", nil)
	i.awaitLog("line 2, column 12")
}

func TestInvalidFlagIsRejectedAlone(t *testing.T) {
	i := start(t, `{"flags":{"flag":{"state":"ENABLED","variants":{"v":1},"defaultVariant":"v"},"bad":{"state":"ENABLED"}}}`, nil)
	i.awaitValue("1")
	i.awaitLog("flags.bad.variants: the flag has no variants (line 1, column")
	if got := i.metric("flag_config_problems"); got != 1 {
		t.Errorf("%v problems are counted, not 1", got)
	}
}

// TestProblemsAreCountedWhenAllFlagsAreRejected has no valid flag at the start, and
// again later.
func TestProblemsAreCountedWhenAllFlagsAreRejected(t *testing.T) {
	bad := `{"flags":{"flag":{"state":"ENABLED"},"bad":{"state":"ENABLED"}}}`
	i := start(t, bad, nil)
	expect := func(want float64) {
		t.Helper()
		redistest.Eventually(t, 10*time.Second, "the problems are not counted", func() bool { return i.metric("flag_config_problems") == want })
	}
	expect(2)
	i.write(document(1))
	i.awaitValue("1")
	expect(0)
	i.write(bad)
	expect(2)
	i.write(document(1))
	expect(0)
}

func TestServesFromRedisWithoutTheSource(t *testing.T) {
	server := redistest.Start(t)
	first := start(t, document(1), server)
	awaitCached(t, server, document(1))

	second := start(t, "", server)
	second.awaitValue("1")
	second.awaitOrigin(snapshot.OriginCache)
	first.write(document(2))
	second.awaitValue("2")
	// Reverting to the previous document is a change like any other.
	first.write(document(1))
	second.awaitValue("1")

	second.write(document(7))
	second.awaitValue("7")
	second.awaitOrigin(snapshot.OriginSource)
}

func TestSourceTakesPrecedenceOverRedis(t *testing.T) {
	server := redistest.Start(t)
	first := start(t, document(1), server)
	awaitCached(t, server, document(1))
	second := start(t, document(2), server)
	second.awaitValue("2")
	awaitCached(t, server, document(2))
	// The first instance is notified and reads it, but its own source takes
	// precedence.
	seen := first.lookups("hit")
	redistest.Eventually(t, soon, "the first did not read Redis", func() bool { return first.lookups("hit") > seen+1 })
	if first.value() != "1" {
		t.Errorf("the first serves %s from Redis although its source is good", first.value())
	}
}

func TestOlderDocumentDoesNotReplaceANewerOne(t *testing.T) {
	server := redistest.Start(t)
	first := start(t, document(2), server)
	awaitCached(t, server, document(2))
	// An older file appears late, as on a lagging node.
	late := start(t, "", server)
	late.awaitValue("2")
	path := late.file + ".old"
	if err := os.WriteFile(path, []byte(document(1)), 0o600); err != nil {
		t.Fatal(err)
	}
	hourAgo := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, hourAgo, hourAgo); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, late.file); err != nil {
		t.Fatal(err)
	}
	late.awaitValue("1")
	third := start(t, "", server)
	third.awaitValue("2")
	if first.value() != "2" {
		t.Errorf("the first serves %s", first.value())
	}
}

func TestRedisIsRefilled(t *testing.T) {
	server := redistest.Start(t)
	i := start(t, document(1), server)
	awaitCached(t, server, document(1))
	client := server.Client()
	for name, damage := range map[string]func(){
		"flushed":  func() { client.FlushAll(t.Context()) },
		"poisoned": func() { client.Set(t.Context(), "feature_flags:test", document(666), 0) },
		"another type": func() {
			client.Del(t.Context(), "feature_flags:test")
			client.LPush(t.Context(), "feature_flags:test", "x")
		},
		"restarted": func() { server.Kill(); server.Restart() },
	} {
		t.Run(name, func(t *testing.T) {
			damage()
			awaitCached(t, server, document(1))
			if i.value() != "1" {
				t.Errorf("the value became %s", i.value())
			}
		})
	}
}

func TestPoisonedValuesAreNeverServed(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	client.Set(t.Context(), "feature_flags:test", document(666), 0)
	i := start(t, "", server)
	i.awaitLog("discarding a value in Redis")
	if i.Current() != nil {
		t.Fatalf("it serves %s", i.value())
	}
	redistest.Eventually(t, soon, "the poisoned value was not deleted", func() bool {
		return client.Exists(t.Context(), "feature_flags:test").Val() == 0
	})
}

func TestRedisIsNotRefilledWithoutASource(t *testing.T) {
	server := redistest.Start(t)
	i := start(t, document(1), server)
	awaitCached(t, server, document(1))
	i.write("{")
	i.awaitLog("cannot use the source")
	client := server.Client()
	client.FlushAll(t.Context())
	before := i.lookups("miss")
	redistest.Eventually(t, soon, "it did not read Redis again", func() bool { return i.lookups("miss") > before+1 })
	if client.Exists(t.Context(), "feature_flags:test").Val() != 0 {
		t.Error("it stored a document that its source does not confirm")
	}
	if i.value() != "1" {
		t.Errorf("it serves %s", i.value())
	}
}

// TestRedisFailuresNeverAffectEvaluations evaluates continuously while
// Redis is killed, paused and restarted and the source changes.
func TestRedisFailuresNeverAffectEvaluations(t *testing.T) {
	server := redistest.Start(t)
	i := start(t, document(1), server)
	awaitCached(t, server, document(1))

	ctx, stop := context.WithCancel(t.Context())
	var evaluations atomic.Int64
	var wrong sync.Map
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			evaluations.Add(1)
			if v := i.value(); v != "1" && v != "2" && v != "3" && v != "4" {
				wrong.Store(v, true)
			}
		}
	})
	change := func(value int) {
		t.Helper()
		began := time.Now()
		i.write(document(value))
		i.awaitValue(fmt.Sprint(value))
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the change to %d took %s", value, took)
		}
	}
	server.Kill()
	change(2)
	server.Restart()
	awaitCached(t, server, document(2))
	server.Pause()
	change(3)
	server.Resume()
	awaitCached(t, server, document(3))
	change(4)
	awaitCached(t, server, document(4))
	stop()
	running.Wait()
	wrong.Range(func(value, _ any) bool {
		t.Errorf("an evaluation returned %q", value)
		return true
	})
	if evaluations.Load() < 1000 {
		t.Errorf("only %d evaluations ran", evaluations.Load())
	}
}
