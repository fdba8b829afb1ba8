// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// redisStory records what the probe logs in as while Redis is replaced.
type redisStory struct {
	*world
	lines []string
	plan  Plan
	// stable is the revision of the pods at the beginning.
	stable string
}

var redisUsers = regexp.MustCompile(`(?m)^user (\S+) on`)

// step reconciles, and records the result.
func (s *redisStory) step(what string) {
	s.t.Helper()
	s.plan = s.reconcile()
	secret, set := mustFind[*corev1.Secret](s.world, "demo-redis"), mustFind[*appsv1.StatefulSet](s.world, "demo-redis")
	var users []string
	for _, user := range redisUsers.FindAllStringSubmatch(string(secret.Data["redis.conf"]), -1) {
		users = append(users, user[1])
	}
	login := "nothing"
	if s.plan.Probe != nil {
		login = cmp.Or(s.plan.Probe.Connection.Username, "default")
	}
	s.lines = append(s.lines, fmt.Sprintf("%-58s configured %s, template %d with probe user %q; probe as %s; pods replaced %t; %s",
		what, strings.Join(users, "+"), set.Generation, set.Spec.Template.Annotations[v1alpha1.AnnotationProbeUser], login,
		s.fc.Status.Revisions.Stable != s.stable || s.fc.Status.Revisions.Candidate != "", s.condition(v1alpha1.ConditionCacheHealthy).Status))
}

// probed lets the probe succeed with what it logs in as.
func (s *redisStory) probed() { s.probe.Of = s.plan.Probe.ID }

// rolling has the controller observe the template, whose pod does not run yet; rolled lets that run.
func (s *redisStory) rolling() {
	set := mustFind[*appsv1.StatefulSet](s.world, "demo-redis")
	set.Status = appsv1.StatefulSetStatus{ObservedGeneration: set.Generation, CurrentRevision: set.Status.UpdateRevision, UpdateRevision: fmt.Sprint("template-", set.Generation), Replicas: 1}
}

func (s *redisStory) rolled() {
	set := mustFind[*appsv1.StatefulSet](s.world, "demo-redis")
	set.Status.CurrentRevision, set.Status.ReadyReplicas = set.Status.UpdateRevision, 1
}

// anEarlierRedis is a FlagCache whose Redis has one user for everybody.
func anEarlierRedis(t *testing.T) *redisStory {
	s := &redisStory{world: aWorld(t, aFlagCache()).ready()}
	secret := mustFind[*corev1.Secret](s.world, "demo-redis")
	secret.Data = map[string][]byte{"password": secret.Data["password"], "redis.conf": []byte("user default on >password-0 ~* &* +@all\n")}
	set := mustFind[*appsv1.StatefulSet](s.world, "demo-redis")
	set.Spec.Template.Annotations = map[string]string{v1alpha1.AnnotationConfig: "of an earlier release"}
	set.Status.CurrentRevision, set.Status.UpdateRevision = "template-1", "template-1"
	s.plan, s.stable = Make(s.snapshot()), s.fc.Status.Revisions.Stable
	s.probed()
	return s
}

// TestProbeMovesToItsOwnUser: the probe logs in as its own user from when Redis knows that,
// and the flag service all the time as before.
func TestProbeMovesToItsOwnUser(t *testing.T) {
	s := anEarlierRedis(t)
	used := s.plan.Probe.Connection
	s.step("the operator is upgraded: the password is stored first")
	s.probed()
	s.step("the password is stored: Redis gets its configuration")
	s.rolling()
	s.step("the pod is replaced")
	s.rolled()
	s.step("the pod is ready")
	s.probed()
	s.step("the probe has succeeded")
	s.edit(func(spec *v1alpha1.FlagCacheSpec) {
		spec.Cache.InCluster = &v1alpha1.InClusterSpec{Resources: &v1alpha1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}}}
	})
	s.step("the memory of Redis changes")
	s.rolling()
	s.step("the pod is replaced")
	last := s.probe
	s.probe = observed.Probe{}
	s.step("the operator restarts meanwhile")
	s.probe = last
	s.rolled()
	s.step("the pod is ready")
	s.expectSilence()
	expectGolden(t, "incluster-probe-user.golden", strings.Join(s.lines, "\n")+"\n")

	own := s.plan.Probe.Connection
	if own.Password == used.Password || own.Password.IsEmpty() {
		t.Error("the probe has the password of the flag service")
	}
	secret := mustFind[*corev1.Secret](s.world, "demo-connection")
	if string(secret.Data["password"]) != used.Password.Reveal() || secret.Data["username"] != nil {
		t.Error("the connection that applications read changed")
	}
	for _, o := range append(s.children, observed.Object(s.fc)) {
		text := observed.ToJSON(o)
		if secret, ok := o.(*corev1.Secret); ok {
			for _, value := range secret.Data {
				text += string(value)
			}
		}
		if strings.Contains(text, own.Password.Reveal()) && name(o) != "Secret demo-redis" {
			t.Errorf("%s has the password of the probe", name(o))
		}
	}
}

// TestLostProbePasswordIsReplaced: with the Secret of Redis its password of the probe is lost,
// and Redis is restarted once with another one. That of the flag service is in another Secret.
func TestLostProbePasswordIsReplaced(t *testing.T) {
	w := aWorld(t, aFlagCache()).ready()
	password := mustFind[*corev1.Secret](w, "demo-connection").Data["password"]
	generation := mustFind[*appsv1.StatefulSet](w, "demo-redis").Generation
	w.reconcile() // another password would be drawn from now on
	w.children = without(w.children, mustFind[*corev1.Secret](w, "demo-redis"))
	for range 3 {
		w.reconcile()
	}
	secret, set := mustFind[*corev1.Secret](w, "demo-redis"), mustFind[*appsv1.StatefulSet](w, "demo-redis")
	if string(secret.Data["password"]) != string(password) || len(secret.Data["probe-password"]) == 0 || set.Generation != generation+1 {
		t.Errorf("the Secret has %d keys, and the StatefulSet changed %d times", len(secret.Data), set.Generation-generation)
	}
}
