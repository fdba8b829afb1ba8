// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flagcache/flagcache/controllers/secret"
)

func TestParseReplication(t *testing.T) {
	t.Parallel()
	replica := func(fields ...string) string {
		return "# Replication\r\nrole:slave\r\n" + strings.Join(fields, "\r\n") + "\r\n"
	}
	for name, c := range map[string]struct {
		info string
		want replication
	}{
		"an empty reply":                 {"", replication{}},
		"another section":                {"# Server\r\nredis_version:7\r\n", replication{}},
		"an unknown role":                {"role:sentinel\r\n", replication{}},
		"a primary":                      {"# Replication\r\nrole:master\r\nconnected_slaves:0\r\n", replication{role: "master"}},
		"a primary with one field":       {"role:master", replication{role: "master"}},
		"a connected replica":            {replica("master_link_status:up", "master_last_io_seconds_ago:9"), replication{role: "slave"}},
		"a lagging replica":              {replica("master_link_status:up", "master_last_io_seconds_ago:33"), replication{"slave", 50 * time.Second}},
		"a disconnected replica":         {replica("master_link_status:down", "master_last_io_seconds_ago:-1", "master_link_down_since_seconds:3"), replication{"slave", 5 * time.Second}},
		"a replica that never connected": {replica("master_link_status:down", "master_link_down_since_seconds:-1"), replication{role: "slave"}},
		"a replica without fields":       {replica(), replication{role: "slave"}},
		"a replica with invalid fields":  {replica("master_last_io_seconds_ago:many"), replication{role: "slave"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, parseReplication(c.info), cmp.AllowUnexported(replication{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTargetMasksItsPassword(t *testing.T) {
	t.Parallel()
	target := Target{Addr: "redis:6379", Password: secret.New(secretPassword)}
	inJSON, err := json.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("probing", "target", target, "password", target.Password)
	all := string(inJSON) + logged.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
		all += fmt.Sprintf(verb, &target)
	}
	expectNoPassword(t, "the output", all)
	if !strings.Contains(all, "***") {
		t.Errorf("got %s, want stars", all)
	}
}

// Fails for a new field of Target that is neither compared nor covered here.
func TestTargetEqualComparesAllFields(t *testing.T) {
	t.Parallel()
	base := Target{}.withDefaults()
	for i := range reflect.TypeFor[Target]().NumField() {
		changed := base
		field := reflect.ValueOf(&changed).Elem().Field(i)
		switch field.Kind() {
		case reflect.String:
			field.SetString("x")
		case reflect.Bool:
			field.SetBool(true)
		case reflect.Slice:
			field.SetBytes([]byte("x"))
		case reflect.Struct:
			field.Set(reflect.ValueOf(secret.New("x")))
		default:
			field.SetInt(field.Int() + 1)
		}
		if changed.withDefaults().equal(base) {
			t.Errorf("targets that differ in %s are equal", reflect.TypeFor[Target]().Field(i).Name)
		}
	}
	if empty := (Target{CA: []byte{}}).withDefaults(); !empty.equal(base) {
		t.Error("an empty CA differs from none")
	}
}

func TestNextTick(t *testing.T) {
	t.Parallel()
	const interval = 10 * time.Second
	due := time.Unix(1000, 0)
	for name, c := range map[string]struct{ due, ended, want time.Duration }{
		"one interval after it was due":   {0, time.Second, interval},
		"missed ticks are skipped":        {0, 25 * time.Second, 3 * interval},
		"a probe as long as the interval": {0, interval, 2 * interval},
		"a target between two ticks":      {123 * time.Millisecond, time.Second, interval + 100*time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := nextTick(interval, due.Add(c.due), due.Add(c.ended)).Sub(due); got != c.want {
				t.Errorf("due again after %v, want %v", got, c.want)
			}
		})
	}
}

func TestDelayedBy(t *testing.T) {
	t.Parallel()
	const interval = 10 * time.Second
	now := time.Unix(1000, 0)
	for name, c := range map[string]struct{ waited, want time.Duration }{
		"no wait":                         {0, interval},
		"the wait is added":               {5 * time.Second, interval + 5*time.Second},
		"at most two intervals are added": {time.Hour, 3 * interval},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := delayedBy(interval, c.waited, now).Sub(now); got != c.want {
				t.Errorf("due again after %v, want %v", got, c.want)
			}
		})
	}
}

func TestLaneAfter(t *testing.T) {
	t.Parallel()
	const aborted = true
	quick := Attempt{Latency: hurriedTimeout}
	slow := Attempt{Latency: hurriedTimeout + 1}
	broken := failed(ReasonTimedOut, "")
	for name, c := range map[string]struct {
		outcome  Outcome
		attempt  Attempt
		aborted  bool
		lateFull bool
		want     string
	}{
		"a new cache responds":                          {Healthy, quick, !aborted, false, "fast"},
		"a new cache responds late":                     {Healthy, slow, !aborted, false, "late"},
		"a new cache is aborted":                        {"", broken, aborted, false, "failing"},
		"a new cache fails":                             {"", broken, !aborted, false, "failing"},
		"a healthy cache is aborted":                    {Healthy, broken, aborted, false, "late"},
		"a healthy cache is aborted, late lane full":    {Healthy, broken, aborted, true, "failing"},
		"a healthy cache fails":                         {Healthy, broken, !aborted, false, "late"},
		"a healthy cache fails, late lane full":         {Healthy, broken, !aborted, true, "failing"},
		"a healthy cache becomes unhealthy":             {Unhealthy, broken, !aborted, false, "failing"},
		"a healthy cache responds late, late lane full": {Healthy, slow, !aborted, true, "late"},
		"a failing cache responds":                      {Unhealthy, quick, !aborted, false, "fast"},
		"a failing cache responded once and is aborted": {Unhealthy, broken, aborted, false, "failing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lanes := newLanes(DefaultWorkers)
			if c.lateFull {
				lanes.late.running = lanes.late.workers
			}
			if got := lanes.after(c.outcome, c.attempt, c.aborted).name; got != c.want {
				t.Errorf("next lane %s, want %s", got, c.want)
			}
		})
	}
}

func TestFirstTick(t *testing.T) {
	t.Parallel()
	const interval = 10 * time.Second
	now := time.Unix(1000, 12345)
	for spread, want := range map[float64]time.Duration{
		0:      100 * time.Millisecond,
		0.5:    5100 * time.Millisecond,
		0.9999: 10 * time.Second,
	} {
		if got := firstTick(interval, spread, now).Sub(time.Unix(1000, 0)); got != want {
			t.Errorf("a spread of %v: first tick after %v, want %v", spread, got, want)
		}
	}
}
