// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/source"
	"github.com/flagcache/flagcache/service/config"
)

// withPostgres points a FlagCache at the Secret flags-db.
func withPostgres(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Flags = v1alpha1.FlagsSpec{
		Type:     v1alpha1.FlagsPostgres,
		Postgres: &v1alpha1.PostgresSource{SecretRef: v1alpha1.KeyReference{Name: "flags-db", Key: "uri"}},
	}
	return fc
}

func databaseSecret(uri string) observed.ExternalSecret {
	return observed.ExternalSecret{Presence: observed.Present, Data: map[string][]byte{"uri": []byte(uri)}}
}

// aDatabaseWorld holds one FlagCache with its flags in PostgreSQL.
func aDatabaseWorld(t *testing.T) *world {
	w := aWorld(t, withPostgres(aFlagCache()))
	w.database = databaseSecret("postgres://flags:s3cret@db.example.com:6432/flags?sslmode=require\n")
	w.flags = observed.Flags{}
	return w
}

func TestFlagsInADatabase(t *testing.T) {
	w := aDatabaseWorld(t).ready()
	w.expect(v1alpha1.ConditionFlagsValid, metav1.ConditionTrue, v1alpha1.ReasonStoredInDatabase)
	w.expectSilence()

	pod := mustFind[*appsv1.Deployment](w, "demo-"+w.fc.Status.Revisions.Stable).Spec.Template.Spec
	if got := pod.Volumes[0].Secret; got == nil || got.SecretName != "flags-db" {
		t.Errorf("the first volume is %v, want the Secret flags-db", pod.Volumes[0])
	}
	if got := pod.Containers[0].VolumeMounts[0]; got.MountPath != config.PostgresDir || !got.ReadOnly {
		t.Errorf("the Secret is mounted as %v", got)
	}
	if d := cmp.Diff([]string{config.PostgresDir + "/uri"}, variable(pod, config.EnvPostgresURIFile)); d != "" {
		t.Errorf("%s differs (-want +got):\n%s", config.EnvPostgresURIFile, d)
	}
	if got := variable(pod, config.EnvFlagsFile); got != nil {
		t.Errorf("%s is %v, but there is no flags file", config.EnvFlagsFile, got)
	}
	if d := cmp.Diff([]int32{6432}, sourcePorts(w)); d != "" {
		t.Errorf("the ports of the database differ (-want +got):\n%s", d)
	}
	for _, o := range append(w.children, observed.Object(w.fc)) {
		text, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "s3cret") {
			t.Errorf("%s holds the database's password", name(o))
		}
	}
}

func variable(pod corev1.PodSpec, name string) []string {
	var values []string
	for _, e := range pod.Containers[0].Env {
		if e.Name == name {
			values = append(values, e.Value)
		}
	}
	return values
}

func sourcePorts(w *world) []int32 {
	w.t.Helper()
	var ports []int32
	for _, rule := range mustFind[*networkingv1.NetworkPolicy](w, "demo").Spec.Egress[source.EgressRule:] {
		for _, port := range rule.Ports {
			ports = append(ports, port.Port.IntVal)
		}
	}
	return ports
}

func TestInvalidDatabaseSecret(t *testing.T) {
	tests := map[string]struct {
		secret  observed.ExternalSecret
		reason  string
		says    []string
		stalled bool
	}{
		"absent":         {reason: v1alpha1.ReasonSecretNotFound, says: []string{"flags-db", "key uri", "flagcache.dev/allow=true"}},
		"not permitted":  {secret: observed.ExternalSecret{Presence: observed.NotPermitted}, reason: v1alpha1.ReasonSecretNotPermitted, says: []string{"kubectl label secret flags-db flagcache.dev/allow=true"}, stalled: true},
		"of a FlagCache": {secret: observed.ExternalSecret{Presence: observed.Owned, Owner: "shop"}, reason: v1alpha1.ReasonSecretNotPermitted, says: []string{"belongs to FlagCache shop"}, stalled: true},
		"without a key":  {secret: observed.ExternalSecret{Presence: observed.Present}, reason: v1alpha1.ReasonSecretInvalid, says: []string{"key uri: expected postgres://"}, stalled: true},
		"without a mode": {secret: databaseSecret("postgres://flags:s3cret@db.example.com/flags"), reason: v1alpha1.ReasonSecretInvalid, says: []string{"Secret flags-db, key uri: the URI must have the parameter sslmode, such as ?sslmode=verify-full"}, stalled: true},
		"another URI":    {secret: databaseSecret("mysql://db"), reason: v1alpha1.ReasonSecretInvalid, says: []string{"expected postgres://"}, stalled: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := aDatabaseWorld(t)
			w.database = test.secret
			w.reconcile()
			w.reconcile()
			w.expect(v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, test.reason)
			w.expect(v1alpha1.ConditionReady, metav1.ConditionFalse, test.reason)
			w.expectMessage(v1alpha1.ConditionReady, test.says...)
			w.expect(v1alpha1.ConditionServiceAvailable, metav1.ConditionFalse, v1alpha1.ReasonWaitingForFlags)
			if test.stalled {
				w.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, test.reason)
			}
			w.expectSilence()
		})
	}
}

func TestLostSecretKeepsEgressToTheDatabase(t *testing.T) {
	w := aDatabaseWorld(t).ready()
	w.database = observed.ExternalSecret{}
	w.reconcile()
	w.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
	if d := cmp.Diff([]int32{6432}, sourcePorts(w)); d != "" {
		t.Errorf("the ports that the pods may reach differ (-want +got):\n%s", d)
	}
	w.expectSilence()
}

// TestURIThatLeavesEncryptionOpen: pods of an earlier release serve with such a URI, and are not
// replaced by ones that refuse it.
func TestURIThatLeavesEncryptionOpen(t *testing.T) {
	w := aDatabaseWorld(t).ready()
	stable := w.fc.Status.Revisions.Stable
	w.database = databaseSecret("postgres://flags:s3cret@db.example.com:6432/flags?sslmode=prefer")
	w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = "flag-service:v2" })
	for range 3 {
		w.reconcile()
	}
	w.expect(v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, v1alpha1.ReasonSecretInvalid)
	w.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
	for name := range w.index().Revisions {
		if name != stable {
			t.Errorf("there is a Deployment of revision %s, whose pods refuse the URI", name)
		}
	}
	w.database = databaseSecret("postgres://flags:s3cret@db.example.com:6432/flags?sslmode=require")
	w.reconcile()
	w.expect(v1alpha1.ConditionFlagsValid, metav1.ConditionTrue, v1alpha1.ReasonStoredInDatabase)
	if len(w.index().Revisions) != 2 {
		t.Error("the revision is not rolled out when the URI has a mode")
	}
}

// The flag service reads the URI again when it changes, so that another password or host
// replaces no pod.
func TestDatabaseURIIsNotInTheRevision(t *testing.T) {
	w := aDatabaseWorld(t).ready()
	stable := w.fc.Status.Revisions.Stable
	w.database = databaseSecret("postgres://flags:other@db2.example.com/flags?sslmode=require")
	w.reconcile()
	if got := w.fc.Status.Revisions; got.Stable != stable || got.Candidate != "" {
		t.Errorf("the revisions are %v, want %s alone", got, stable)
	}
	if d := cmp.Diff([]int32{5432}, sourcePorts(w)); d != "" {
		t.Errorf("the ports of the database differ (-want +got):\n%s", d)
	}
}
