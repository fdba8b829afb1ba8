// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package acklives

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/ackcontroller"
	"github.com/flagcache/flagcache/test/ackcrds"
	"github.com/flagcache/flagcache/test/awsplayer"
)

var update = flag.Bool("update", false, "rewrite the recordings")

const (
	// limit bounds the time of a step.
	limit = 90 * time.Second
	// quiet is how long nothing happens after a step.
	quiet = 700 * time.Millisecond
	// attempts is how often the SDK makes a call that is throttled.
	attempts = 3
	// annotationOwner is the annotation of a namespace with the account of its resources.
	annotationOwner = "services.k8s.aws/owner-account-id"
)

// TestRecordings plays the lives with ACK's controller beside an API server, and with an AWS that has
// real Redis servers. The result must be the committed recordings. What differs is recorded a second
// time, without the other lives, because a sync that takes long on a busy machine may observe two
// states of AWS.
func TestRecordings(t *testing.T) {
	recorded := recordAll(t, "first", lives())
	if *update {
		for _, l := range lives() {
			if err := os.WriteFile(goldenFile(l), []byte(recorded[l.name]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	differs := func(l life) bool { return committed(t, l) != recorded[l.name] }
	again := slices.DeleteFunc(lives(), func(l life) bool { return !differs(l) })
	if len(again) == 0 {
		return
	}
	maps.Copy(recorded, recordAll(t, "second", again))
	for _, l := range again {
		if diff := cmp.Diff(committed(t, l), recorded[l.name]); diff != "" {
			t.Errorf("the recording of %s has changed (-committed +now):\n%s", l.name, diff)
		}
	}
}

// recordAll records lives at the same time.
func recordAll(t *testing.T, attempt string, all []life) map[string]string {
	t.Helper()
	var mu sync.Mutex
	recorded := map[string]string{}
	t.Run(attempt, func(t *testing.T) {
		w := startWorld(t)
		for _, l := range all {
			t.Run(l.name, func(t *testing.T) {
				t.Parallel()
				text := w.record(t, l)
				mu.Lock()
				defer mu.Unlock()
				recorded[l.name] = text
			})
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return recorded
}

// committed returns the committed recording of a life.
func committed(t *testing.T, l life) string {
	t.Helper()
	text, err := os.ReadFile(goldenFile(l))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestEveryRecordingHasALife verifies that no recording remains of a life that does not exist.
func TestEveryRecordingHasALife(t *testing.T) {
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !slices.ContainsFunc(lives(), func(l life) bool { return goldenFile(l) == file }) {
			t.Errorf("%s is of no life", file)
		}
	}
}

// world is ACK's controller with what it needs.
type world struct {
	client client.WithWatch
	aws    *awsplayer.Player
	// log returns the log of ACK.
	log func() string
}

func startWorld(t *testing.T) *world {
	t.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		t.Fatal("KUBEBUILDER_ASSETS is not set: run `make test`, or `make envtest` and set it to bin/envtest")
	}
	server := &envtest.Environment{}
	config, err := server.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), ack.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	w := &world{aws: startAWS(t)}
	if w.client, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	if err := ackcrds.Install(t.Context(), w.client); err != nil {
		t.Fatal(err)
	}
	// One worker for each life, because the time of a sync must not depend on other lives.
	controller, err := ackcontroller.Start(t.Context(), ackcontroller.Options{
		Config: config, Endpoint: w.aws.Endpoint(), Args: []string{fmt.Sprintf("--reconcile-default-max-concurrent-syncs=%d", len(lives()))},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := controller.Stop(); err != nil {
			t.Error(err)
		}
	})
	w.log = controller.Log
	return w
}

func startAWS(t *testing.T) *awsplayer.Player {
	t.Helper()
	player, err := awsplayer.New(awsplayer.Options{CreateTime: operation, ModifyTime: operation, DeleteTime: operation, SnapshotTime: operation, Hold: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- player.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return player
}

// record plays a life and returns its recording.
func (w *world) record(t *testing.T, l life) string {
	t.Helper()
	s := &realStage{world: w, t: t, namespace: l.name, recording: newRecording()}
	if err := w.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: l.name}}); err != nil {
		t.Fatal(err)
	}
	s.watchAll()
	for _, step := range l.steps {
		s.play(step)
	}
	return s.text.String()
}

// realStage is a stage with the real controller.
type realStage struct {
	*world
	t *testing.T
	// namespace is the name of the life, with which the IDs of its resources begin.
	namespace string

	mu sync.Mutex
	*recording
	progress
	// changed is the time of the last version or call.
	changed time.Time
	// seen is the number of calls of AWS that were seen, of all lives.
	seen int
}

// watchAll records the versions of all objects until the test ends.
func (s *realStage) watchAll() {
	var watches sync.WaitGroup
	ctx, cancel := context.WithCancel(s.t.Context())
	s.t.Cleanup(func() {
		cancel()
		watches.Wait()
	})
	for _, kind := range ack.Kinds() {
		if kind.GroupVersion() != ack.ElastiCache {
			continue
		}
		w, err := s.client.Watch(ctx, kind.NewList(), client.InNamespace(s.namespace))
		if err != nil {
			s.t.Fatal(err)
		}
		watches.Go(func() {
			for event := range w.ResultChan() {
				if o, ok := event.Object.(client.Object); ok {
					s.seeVersion(o, event.Type != watch.Deleted)
				} else if ctx.Err() == nil {
					s.t.Errorf("watching %s: %v", kind.Resource, event.Object)
				}
			}
		})
	}
}

// seeVersion records a version of an object.
func (s *realStage) seeVersion(o client.Object, exists bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seeCalls()
	s.add(o, exists)
	s.changed = time.Now()
	if exists {
		s.see(keyOf(o), o)
	} else {
		s.see(keyOf(o), nil)
	}
}

// seeCalls records the calls of AWS since the last time.
func (s *realStage) seeCalls() {
	calls := s.aws.Calls()
	for _, c := range calls[s.seen:] {
		id := c.ID[strings.LastIndex(c.ID, ":")+1:]
		if id != s.namespace && !strings.HasPrefix(id, s.namespace+"-") {
			continue
		}
		s.changed = time.Now()
		if !c.Mutating() {
			continue
		}
		s.call(c.Action, c.ID, c.Code)
		if c.Code == "" {
			s.succeeded = append(s.succeeded, c.Action)
		}
	}
	s.seen = len(calls)
}

// play performs a step, and waits until its states were reached and nothing happens anymore.
func (s *realStage) play(step step) {
	s.t.Helper()
	s.mu.Lock()
	s.begin(step)
	s.changed = time.Now()
	s.mu.Unlock()
	step.do(s)
	if len(step.until) > 0 {
		s.await(step)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(step.name)
}

func (s *realStage) await(step step) {
	s.t.Helper()
	ticker := time.NewTicker(quiet / 10)
	defer ticker.Stop()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		select {
		case <-ticker.C:
			switch settled, held := s.settled(); {
			case !settled:
			case len(s.unreached()) == 0:
				return
			case !held:
				s.must(s.aws.Complete(s.t.Context(), s.namespace))
			}
		case <-deadline.C:
			s.mu.Lock()
			defer s.mu.Unlock()
			left := "at rest"
			if len(s.states) > 0 {
				left = s.states[0].name
			}
			s.end(step.name)
			s.t.Fatalf("%s: not %s after %v:\n%s\n%s", step.name, left, limit, s.text.String(), s.log())
		}
	}
}

// settled reports whether nothing happened for a while, and whether a state was not reached that AWS
// must not leave. ACK is then between two syncs, because it waits longer than that.
func (s *realStage) settled() (settled, held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seeCalls()
	s.advance()
	held = slices.ContainsFunc(s.states, func(want *state) bool { return want.during })
	return time.Since(s.changed) > quiet, held
}

// unreached returns the states that were not reached.
func (s *realStage) unreached() []*state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states
}

func (s *realStage) create(o client.Object) {
	o.SetNamespace(s.namespace)
	s.must(s.client.Create(s.t.Context(), o))
}

func (s *realStage) edit(o client.Object, change func(client.Object)) {
	s.must(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		edited := ack.KindOf(o).New()
		if err := s.client.Get(s.t.Context(), client.ObjectKey{Namespace: s.namespace, Name: o.GetName()}, edited); err != nil {
			return err
		}
		change(edited)
		return s.client.Update(s.t.Context(), edited)
	}))
}

func (s *realStage) remove(o client.Object) {
	deleted := ack.KindOf(o).New()
	deleted.SetNamespace(s.namespace)
	deleted.SetName(o.GetName())
	s.must(s.client.Delete(s.t.Context(), deleted))
}

func (s *realStage) secret(name, value string) {
	secret := func() *corev1.Secret {
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name},
			Type:       corev1.SecretTypeOpaque, StringData: map[string]string{secretEntry: value},
		}
	}
	s.must(client.IgnoreNotFound(s.client.Delete(s.t.Context(), secret())))
	if value != "" {
		s.must(s.client.Create(s.t.Context(), secret()))
	}
}

func (s *realStage) ownerAccount(account string) {
	namespace := &corev1.Namespace{}
	s.must(s.client.Get(s.t.Context(), client.ObjectKey{Name: s.namespace}, namespace))
	delete(namespace.Annotations, annotationOwner)
	if account != "" {
		namespace.Annotations = map[string]string{annotationOwner: account}
	}
	s.must(s.client.Update(s.t.Context(), namespace))
}

func (s *realStage) refuse(action, id, code, message string, times int) {
	if code == "Throttling" {
		times *= attempts
	}
	s.aws.Inject(awsplayer.Fault{Action: action, ID: id, Code: code, Message: message, Times: times})
}

func (s *realStage) failCreation(id string) {
	s.aws.Inject(awsplayer.Fault{Action: "CreateReplicationGroup", ID: id, Code: awsplayer.CreateFailed})
}

func (s *realStage) rollBack(id string) {
	s.aws.Inject(awsplayer.Fault{Action: "ModifyReplicationGroup", ID: id, Code: awsplayer.RolledBack})
}

func (s *realStage) deleteInAWS(id string) { s.must(s.aws.DeleteOutOfBand(id)) }

func (s *realStage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}
