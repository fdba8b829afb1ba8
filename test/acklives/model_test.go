// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package acklives

import (
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/ackmodel"
)

// TestModel plays the lives with the model, which must result in the recordings of the real
// controller.
func TestModel(t *testing.T) {
	for _, l := range lives() {
		t.Run(l.name, func(t *testing.T) {
			s := newModelStage()
			for _, step := range l.steps {
				s.play(t, step)
			}
			if diff := cmp.Diff(committed(t, l), s.text.String()); diff != "" {
				t.Errorf("the model differs from the recording (-recording +model):\n%s", diff)
			}
		})
	}
}

func goldenFile(l life) string { return filepath.Join("testdata", l.name+".golden") }

// modelStage is a stage with the model in virtual time.
type modelStage struct {
	*recording
	progress
	ack ackmodel.Controller
	now time.Time
	// changed is the time of the last sync.
	changed time.Time
	objects map[string]client.Object
	secrets map[string]string
	lastUID int
}

func newModelStage() *modelStage {
	// The timing is that of the recordings.
	timing := ackmodel.Timing{Poll: poll, Backoff: 5 * time.Millisecond, MaxBackoff: 1000 * time.Second, Operation: operation}
	return &modelStage{
		recording: newRecording(), ack: ackmodel.New(timing), now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC),
		objects: map[string]client.Object{}, secrets: map[string]string{},
	}
}

// Timing of the recordings: ACK polls every second, and an operation of AWS lasts for some polls.
const (
	poll      = time.Second
	operation = 2500 * time.Millisecond
)

// play performs a step and advances the time until its states were reached.
func (s *modelStage) play(t *testing.T, step step) {
	t.Helper()
	s.begin(step)
	step.do(s)
	s.act()
	s.changed = s.now
	for begin := s.now; len(s.states) > 0 || len(step.until) > 0 && s.next().Sub(s.changed) <= quiet; {
		if !s.wait() || s.now.Sub(begin) > time.Hour {
			s.end(step.name)
			t.Fatalf("%s: %d states not reached after %v:\n%s", step.name, len(s.states), s.now.Sub(begin), s.text.String())
		}
		s.act()
	}
	s.end(step.name)
}

// act syncs objects until none is due.
func (s *modelStage) act() {
	for again := true; again; {
		again = false
		for _, name := range slices.Sorted(maps.Keys(s.objects)) {
			result := s.ack.Sync(s.objects[name], s, s.now)
			if result.Synced {
				s.changed = s.now
			}
			again = again || len(result.Versions) > 0
			for _, call := range result.Calls {
				s.call(call.Action, call.ID, call.Code)
				if call.Code == "" {
					s.succeeded = append(s.succeeded, call.Action)
				}
			}
			for _, version := range result.Versions {
				s.write(name, version)
			}
			s.see(name, s.objects[name])
		}
	}
}

// never is the time of the next sync if there is none.
var never = time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)

// next returns the time of the next sync.
func (s *modelStage) next() time.Time {
	next := never
	for _, o := range s.objects {
		if due, ok := s.ack.Due(o); ok && due.Before(next) {
			next = due
		}
	}
	return next
}

// wait moves the time to the next sync.
func (s *modelStage) wait() bool {
	next := s.next()
	if next != never && next.After(s.now) {
		s.now = next
	}
	return next != never
}

// write stores a version like the API server.
func (s *modelStage) write(name string, o client.Object) {
	before := s.objects[name]
	if before != nil {
		o.SetGeneration(before.GetGeneration())
		if !reflect.DeepEqual(specOf(before), specOf(o)) || (before.GetDeletionTimestamp() == nil) != (o.GetDeletionTimestamp() == nil) {
			o.SetGeneration(before.GetGeneration() + 1)
		}
	}
	s.objects[name] = o
	deleted := o.GetDeletionTimestamp() != nil && len(o.GetFinalizers()) == 0
	if deleted {
		delete(s.objects, name)
	}
	s.add(o, !deleted)
	s.see(name, s.objects[name])
}

func specOf(o client.Object) any { return reflect.ValueOf(o).Elem().FieldByName("Spec").Interface() }

func (s *modelStage) create(o client.Object) {
	s.lastUID++
	o.SetUID(types.UID(fmt.Sprint(s.lastUID)))
	o.SetGeneration(1)
	s.write(keyOf(o), o)
}

func (s *modelStage) edit(o client.Object, change func(client.Object)) {
	edited := s.objects[keyOf(o)].DeepCopyObject().(client.Object)
	change(edited)
	s.write(keyOf(o), edited)
}

func (s *modelStage) remove(o client.Object) {
	deleted := s.objects[keyOf(o)].DeepCopyObject().(client.Object)
	deleted.SetDeletionTimestamp(&metav1.Time{Time: s.now})
	s.write(keyOf(o), deleted)
}

func (s *modelStage) secret(name, value string) { s.secrets[name] = value }

// Secret implements ackmodel.Secrets.
func (s *modelStage) Secret(key *ack.SecretKey) (string, error) {
	if s.secrets[key.Name] == "" {
		return "", ackmodel.ErrSecretNotFound
	}
	return s.secrets[key.Name], nil
}

func (s *modelStage) ownerAccount(account string) { s.ack.RoleMissing = account != "" }

func (s *modelStage) refuse(action, _, code, message string, times int) {
	s.ack.Refuse(action, code, message, times)
}

func (s *modelStage) failCreation(string) { s.ack.FailCreations++ }
func (s *modelStage) rollBack(string)     { s.ack.RollBack++ }
func (s *modelStage) deleteInAWS(string)  { s.ack.DeleteGroups() }
