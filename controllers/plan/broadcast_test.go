// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/policy"
	"github.com/flagcache/flagcache/service/config"
)

// broadcastStory records what Redis is to have.
type broadcastStory struct {
	*world
	lines []string
	plan  Plan
}

// then reconciles until nothing changes, and records the result.
func (s *broadcastStory) then(what string) {
	s.t.Helper()
	for range 4 {
		s.plan = s.reconcile()
	}
	line := "nothing"
	if b := s.plan.Broadcast; b != nil {
		line = fmt.Sprintf("%s as %s: number %d, %q, for %s", b.Redis.Connection.Endpoint(), cmp.Or(b.Redis.Connection.Username, "default"),
			b.Number-noon.Unix(), s.documentOf(b), strings.Join(b.Environments, " and "))
		if b.Redis.ID != s.plan.Probe.ID || b.Keys.Seal.IsEmpty() || b.Store != "flagcache:shop/demo" {
			s.t.Errorf("%s: the target is %+v", what, b)
		}
	}
	s.lines = append(s.lines, fmt.Sprintf("%-62s %s", what, line))
}

// documentOf is the document for Redis.
func (s *broadcastStory) documentOf(b *BroadcastTarget) []byte {
	s.t.Helper()
	document, err := observed.Decompress(b.Compressed, 1<<20)
	if err != nil || digestOf(string(document)) != b.Digest {
		s.t.Fatalf("the document is %q with the digest %s: %v", document, b.Digest, err)
	}
	return document
}

// answers lets the probe of the connection in use succeed.
func (s *broadcastStory) answers() {
	s.probe = observed.Probe{Health: observed.Healthy, Of: s.plan.Probe.ID, At: s.now, Role: "master"}
}

func aBroadcastStory(t *testing.T, w *world) *broadcastStory {
	s := &broadcastStory{world: w}
	s.then("the FlagCache is created")
	s.podsAvailable()
	s.then("the pods are available")
	return s
}

func (s *broadcastStory) end(file string) {
	s.t.Helper()
	expectGolden(s.t, file, strings.Join(s.lines, "\n")+"\n")
}

// TestRedisGetsWhatIsPublished: and nothing else, whatever happens to the flags.
func TestRedisGetsWhatIsPublished(t *testing.T) {
	s := aBroadcastStory(t, aWorld(t, aFlagCache()))
	s.probe = observed.Probe{Of: s.plan.Probe.ID, At: s.now, Failing: true}
	s.then("the first probe fails")
	s.probe = observed.Probe{Of: s.plan.Probe.ID, At: s.now}
	s.then("a probe succeeds")
	s.answers()
	s.then("the cache is healthy")
	s.probe.Failing = true
	s.then("one probe fails")
	s.document = "other flags"
	if p := s.reconcile(); p.Publish == nil || p.Broadcast != nil {
		t.Errorf("what is not published yet is written to Redis: %+v", p.Broadcast)
	}
	s.then("the flags changed")
	s.flags = broken()
	s.then("the flags break")
	s.published().BinaryData[config.FlagsDocumentKey] = observed.Compress([]byte("evil flags"))
	s.then("the document is edited by somebody")
	s.flags, s.document = loaded(), "good flags"
	s.then("the flags are fixed")
	s.published().BinaryData[config.FlagsDocumentKey] = observed.Compress([]byte("evil flags"))
	s.published().Data[config.FlagsManifestKey] = strings.Replace(s.published().Data[config.FlagsManifestKey], digestOf("good flags"), digestOf("evil flags"), 1)
	if p := s.reconcile(); p.Broadcast != nil {
		t.Errorf("somebody's edit is written to Redis: %+v", p.Broadcast)
	}
	s.then("document and digest were edited by somebody")
	s.edit(func(spec *v1alpha1.FlagCacheSpec) { spec.Suspend = true })
	s.document = "flags of a suspended FlagCache"
	s.then("it is suspended, and the flags change")
	s.edit(func(spec *v1alpha1.FlagCacheSpec) { spec.Suspend = false })
	s.violations = []policy.Violation{{Field: "service.image", Problem: "not permitted"}}
	s.document = "flags of a refused FlagCache"
	s.then("the policy does not permit it, and the flags change")
	s.violations = nil
	s.probe = observed.Probe{Of: s.plan.Probe.ID, Health: observed.Unhealthy, Reason: "ConnectionRefused", At: s.now, Failing: true}
	s.then("Redis is down")
	s.answers()
	s.then("Redis is back")
	s.probe = observed.Probe{}
	s.then("the operator restarts")
	s.children = without(s.children, mustFind[*corev1.Secret](s.world, "demo-integrity"))
	s.answers()
	if p := s.reconcile(); p.Broadcast != nil {
		t.Errorf("flags are sealed with a key that is not stored: %+v", p.Broadcast)
	}
	s.then("the integrity key was lost")
	at := metav1.NewTime(s.now)
	s.fc.DeletionTimestamp = &at
	s.then("it is deleted")
	s.end("broadcast-flags.golden")
}

// TestRedisOfAnExternalSecret: a tenant may name any server in a Secret, and nothing is sent there
// before the operator has logged in with what the Secret has.
func TestRedisOfAnExternalSecret(t *testing.T) {
	s := aBroadcastStory(t, anExternalWorld(t, func(*v1alpha1.FlagCache) {}))
	s.answers()
	s.then("the cache is healthy")
	s.secret.Data = map[string][]byte{"host": []byte("redis.of-somebody.svc")}
	s.then("the Secret names the Redis of somebody else")
	s.podsAvailable()
	s.then("the pods of the new revision are available")
	s.probe = observed.Probe{Of: s.plan.Probe.ID, Health: observed.Unhealthy, Reason: "AuthenticationRequired", At: s.now, Failing: true}
	s.then("that requires another password")
	s.secret.Data = map[string][]byte{"host": []byte("cache.example.com")}
	s.podsAvailable()
	s.then("the Secret is corrected")
	s.podsAvailable()
	s.then("the pods are available")
	s.answers()
	s.then("the cache is healthy")
	s.secret = observed.ExternalSecret{Presence: observed.NotPermitted}
	s.then("the owner of the Secret withdraws the consent")
	s.secret = observed.ExternalSecret{}
	s.then("the Secret is deleted")
	s.end("broadcast-external.golden")
}

// TestRedisWhileTheEnvironmentChanges: pods of both environments get the flags.
func TestRedisWhileTheEnvironmentChanges(t *testing.T) {
	s := aBroadcastStory(t, aWorld(t, withCanary(aFlagCache())))
	s.answers()
	s.then("the cache is healthy")
	s.edit(func(spec *v1alpha1.FlagCacheSpec) { spec.Environment = "staging" })
	s.then("the environment changes")
	s.podsAvailable()
	s.document = "other flags"
	s.then("its candidate is evaluated, and the flags change")
	s.upgraded()
	s.then("the pods are those of an operator that did not publish flags")
	s.end("broadcast-environment.golden")
}

// TestADatabaseIsNotBroadcast: its pods write what they read.
func TestADatabaseIsNotBroadcast(t *testing.T) {
	w := anExternalWorld(t, func(fc *v1alpha1.FlagCache) { withPostgres(fc) })
	w.database, w.flags = databaseSecret("postgres://flags:s3cret@db.example.com:6432/flags\n"), observed.Flags{}
	s := aBroadcastStory(t, w)
	s.answers()
	s.then("the cache is healthy")
	if s.plan.Broadcast != nil {
		t.Errorf("Redis is to have %+v", s.plan.Broadcast)
	}
}
