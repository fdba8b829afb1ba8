// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package background

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/types"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var key = types.NamespacedName{Namespace: "shop", Name: "checkout"}

// attempts runs a Runner whose work takes a time, and records the timeout of each attempt.
func attempts(t *testing.T, takes time.Duration, test func(r *Runner[int, int], timeouts *[]time.Duration)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var timeouts []time.Duration
		r := New(Work[int, int]{
			Do: func(ctx context.Context, target, _ int) int {
				deadline, _ := ctx.Deadline()
				timeouts = append(timeouts, time.Until(deadline))
				select {
				case <-ctx.Done():
				case <-time.After(takes):
				}
				return target
			},
			Next:       func(int, int, int) time.Duration { return 0 },
			Keeps:      func(before, after int) bool { return before/10 == after/10 },
			Settle:     time.Minute,
			Notifies:   func(before, after int) bool { return before != after },
			Changed:    func(types.NamespacedName) {},
			Concurrent: 4, QuickTimeout: time.Second, SlowTimeout: 10 * time.Second,
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Start(ctx) }()
		synctest.Wait()
		test(r, &timeouts)
		stop()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

// advance lets time pass.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// TestSlowWorkStaysInItsLane: a target that changes all the time, or has none for a while, does
// not come back to the lane of those that answer.
func TestSlowWorkStaysInItsLane(t *testing.T) {
	attempts(t, 5*time.Second, func(r *Runner[int, int], timeouts *[]time.Duration) {
		r.Watch(key, 1)
		advance(time.Minute)
		r.Watch(key, 2)
		advance(time.Minute)
		r.Pause(key)
		r.Pause(key)
		if _, known := r.Last(key); known {
			t.Error("there is a result without a target")
		}
		r.Watch(key, 3)
		advance(time.Minute)
		if got, want := len(*timeouts), 4; got != want || (*timeouts)[0] != time.Second || (*timeouts)[1] != 10*time.Second || (*timeouts)[2] != 10*time.Second || (*timeouts)[3] != 10*time.Second {
			t.Errorf("the timeouts of the attempts are %v", *timeouts)
		}
		r.Forget(key)
		r.Watch(key, 4)
		advance(time.Minute)
		if (*timeouts)[4] != time.Second {
			t.Errorf("what was forgotten is remembered: %v", *timeouts)
		}
	})
}

// TestTargetsThatReplaceOthersSettle: but not those whose result is kept, nor the first.
func TestTargetsThatReplaceOthersSettle(t *testing.T) {
	attempts(t, 0, func(r *Runner[int, int], timeouts *[]time.Duration) {
		for i, step := range []struct {
			target, done int
		}{{1, 1}, {2, 2}, {30, 2}} {
			r.Watch(key, step.target)
			advance(time.Second)
			if len(*timeouts) != step.done {
				t.Errorf("step %d: %d attempts", i, len(*timeouts))
			}
		}
		advance(time.Minute)
		if last, known := r.Last(key); !known || last != 30 {
			t.Errorf("the result is %d", last)
		}
	})
}
