// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

// scripted is a source that takes its time.
type scripted struct {
	takes time.Duration

	mu           sync.Mutex
	asked        []Target
	inside, most int
}

func (s *scripted) Sample(ctx context.Context, t Target) Sample {
	s.mu.Lock()
	s.asked = append(s.asked, t)
	s.inside++
	s.most = max(s.most, s.inside)
	s.mu.Unlock()
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inside--
	return Sample{At: time.Now(), Trouble: t.Candidate}
}

func (s *scripted) times() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// sampling runs a Sampler in virtual time, and fails if anything of it is left.
func sampling(t *testing.T, source Source, test func(*Sampler)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := NewSampler(Options{Source: source, Changed: func(types.NamespacedName) {}, AtOnce: 2})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Start(ctx) }()
		synctest.Wait()
		test(s)
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the sampler ended with %v", err)
		}
	})
}

// pass lets virtual time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestSamplesAtOnceAndAtEveryInterval(t *testing.T) {
	source := &scripted{takes: time.Second}
	target := aTarget()
	sampling(t, source, func(s *Sampler) {
		s.Watch(target.FlagCache, target)
		if _, ok := s.Last(target.FlagCache); ok {
			t.Error("there is a sample before one was taken")
		}
		pass(time.Second)
		first, ok := s.Last(target.FlagCache)
		if !ok {
			t.Fatal("there is no sample after the first look")
		}
		s.Watch(target.FlagCache, aTarget())
		pass(30 * time.Second)
		if last, _ := s.Last(target.FlagCache); source.times() != 4 || !last.At.After(first.At) {
			t.Errorf("%d looks in 31 s with an interval of 10 s, the last at %s", source.times(), last.At)
		}
	})
}

func TestForgetsAtOnce(t *testing.T) {
	source := &scripted{takes: time.Hour}
	target := aTarget()
	sampling(t, source, func(s *Sampler) {
		s.Watch(target.FlagCache, target)
		synctest.Wait()
		s.Forget(target.FlagCache)
		s.Forget(target.FlagCache)
		synctest.Wait()
		if source.inside != 0 {
			t.Error("a look goes on that nobody wants")
		}
		pass(time.Minute)
		if _, ok := s.Last(target.FlagCache); ok || source.times() != 1 {
			t.Errorf("forgotten, and yet there is a sample (%t) after %d looks", ok, source.times())
		}
	})
}

func TestAnotherTargetBeginsAnew(t *testing.T) {
	changes := map[string]func(*Target){
		"another candidate": func(t *Target) { t.Candidate = "00000000" },
		"another limit":     func(t *Target) { t.LatencyP95 = time.Second },
		"another server":    func(t *Target) { t.Prometheus = &v1alpha1.PrometheusSpec{Address: "http://a"} },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			source := &scripted{takes: time.Second}
			target := aTarget()
			sampling(t, source, func(s *Sampler) {
				s.Watch(target.FlagCache, target)
				pass(time.Second)
				change(&target)
				s.Watch(target.FlagCache, target)
				if _, ok := s.Last(target.FlagCache); ok {
					t.Error("what was sampled about another target counts")
				}
				pass(time.Second)
				if last, _ := s.Last(target.FlagCache); last.Trouble != target.Candidate {
					t.Errorf("the sample is about %s", last.Trouble)
				}
			})
		})
	}
}

func TestLooksAtFewCanariesAtOnce(t *testing.T) {
	source := &scripted{takes: time.Second}
	sampling(t, source, func(s *Sampler) {
		for i := range 9 {
			target := aTarget()
			target.FlagCache.Name = fmt.Sprint("fc", i)
			s.Watch(target.FlagCache, target)
		}
		pass(5 * time.Second)
		if source.times() != 9 || source.most != 2 {
			t.Errorf("%d looks, %d of them at the same time", source.times(), source.most)
		}
	})
}

func TestASourceThatHangsIsGivenUp(t *testing.T) {
	source := &scripted{takes: time.Hour}
	target := aTarget()
	sampling(t, source, func(s *Sampler) {
		s.Watch(target.FlagCache, target)
		pass(sampleTimeout)
		if _, ok := s.Last(target.FlagCache); !ok {
			t.Error("there is no sample after the time-out")
		}
	})
}

func TestWatchedBeforeTheStartAndAfterTheEnd(t *testing.T) {
	source := &scripted{}
	target := aTarget()
	target.Interval = 0
	synctest.Test(t, func(t *testing.T) {
		s := NewSampler(Options{Source: source, Changed: func(types.NamespacedName) {}})
		s.Watch(target.FlagCache, target)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Start(ctx) }()
		pass(1500 * time.Millisecond)
		if source.times() != 2 {
			t.Errorf("%d looks in 1.5 s, although the shortest interval is 1 s", source.times())
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the sampler ended with %v", err)
		}
		target.Candidate = "late"
		s.Watch(target.FlagCache, target)
		pass(time.Minute)
		if source.times() != 2 {
			t.Error("it looks after its end")
		}
	})
}

func TestAnotherOriginIsWhatCountsInAnotherWay(t *testing.T) {
	of := func(change func(*Target)) string {
		target := aTarget()
		change(&target)
		source := &scripted{}
		return Sources{Pods: source, Prometheus: source, CloudWatch: source}.Sample(t.Context(), target).Origin
	}
	first := of(func(*Target) {})
	for name, same := range map[string]func(*Target){
		"another interval":  func(t *Target) { t.Interval = time.Minute },
		"another candidate": func(t *Target) { t.Candidate = "00000000" },
		"another canary":    func(t *Target) { t.Since = t.Since.Add(time.Hour) },
	} {
		if of(same) != first {
			t.Errorf("%s: what is counted cannot be added up any more", name)
		}
	}
	for name, other := range map[string]func(*Target){
		"another limit":  func(t *Target) { t.LatencyP95 = time.Second },
		"another server": func(t *Target) { t.Prometheus = &v1alpha1.PrometheusSpec{Address: "http://a"} },
		"CloudWatch":     func(t *Target) { t.CloudWatch = &v1alpha1.CloudWatchSpec{} },
		"no split":       func(t *Target) { t.Split = false },
	} {
		if of(other) == first {
			t.Errorf("%s: what is counted is added up", name)
		}
	}
}
