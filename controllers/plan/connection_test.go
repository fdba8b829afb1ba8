// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"bytes"
	"encoding/pem"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/secret"
)

func TestPasswordSurvivesTheLossOfEitherSecret(t *testing.T) {
	for _, lost := range []string{"demo-redis", "demo-connection"} {
		t.Run(lost, func(t *testing.T) {
			w := aWorld(t, aFlagCache()).ready()
			before := mustFind[*corev1.Secret](w, "demo-connection").Data["password"]
			w.children = without(w.children, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: lost}})
			w.reconcile()
			for _, name := range []string{"demo-redis", "demo-connection"} {
				if got := mustFind[*corev1.Secret](w, name).Data["password"]; !bytes.Equal(before, got) {
					t.Errorf("the password in Secret %s changed", name)
				}
			}
		})
	}
}

func TestLostSecretKeepsEgressToTheCache(t *testing.T) {
	w := aWorld(t, withExternal(aFlagCache()))
	w.secret = observed.ExternalSecret{Presence: observed.Present, Data: map[string][]byte{"uri": []byte("redis://cache.example.com:6380")}}
	w.ready()
	w.secret = observed.ExternalSecret{}
	w.reconcile()
	egress := mustFind[*networkingv1.NetworkPolicy](w, "demo").Spec.Egress
	if got := egress[1].Ports[0].Port.IntValue(); got != 6380 {
		t.Errorf("the pods of the stable revision may reach port %d, their cache is at 6380", got)
	}
}

// A generated password that was not stored yet differs in the next reconcile, so that
// whatever used it would be created again each time.
func TestPasswordIsUsedOnlyAfterItIsStored(t *testing.T) {
	w := anEmptyWorld(t, aFlagCache())
	var users []string
	for _, o := range Make(w.snapshot()).Apply {
		switch o.(type) {
		case *appsv1.StatefulSet, *appsv1.Deployment:
			users = append(users, name(o))
		case *corev1.Secret:
			if o.GetName() == "demo-connection" {
				users = append(users, name(o))
			}
		}
	}
	if len(users) > 0 {
		t.Errorf("%v use a password that is not stored in a Secret", users)
	}
	w.reconcile()
	w.reconcile()
	mustFind[*appsv1.StatefulSet](w, "demo-redis")
}

func TestConnectionSecretIsAServiceBinding(t *testing.T) {
	w := aWorld(t, withExternal(aFlagCache()))
	w.secret = observed.ExternalSecret{Presence: observed.Present, Data: map[string][]byte{"uri": []byte("rediss://app:p%40ss@cache.example.com:6380")}}
	w.reconcile()
	secret := mustFind[*corev1.Secret](w, "demo-connection")
	got := map[string]string{}
	for k, v := range secret.Data {
		got[k] = string(v)
	}
	want := map[string]string{
		"type": "redis", "provider": "external", "host": "cache.example.com", "port": "6380", "username": "app", "password": "p@ss", "tls": "true",
		"uri": "rediss://app:p%40ss@cache.example.com:6380", "REDIS_URL": "rediss://app:p%40ss@cache.example.com:6380",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the connection Secret differs (-want +got):\n%s", d)
	}
	if secret.Type != "servicebinding.io/redis" || w.fc.Status.Binding.Name != secret.Name {
		t.Errorf("type %s, binding %v", secret.Type, w.fc.Status.Binding)
	}
}

// TestConnectionIsReadBackExactly: while another connection is not verified yet, the one
// in use is read from its Secret and recognized by its hash.
func TestConnectionIsReadBackExactly(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	for name, used := range map[string]connection.Connection{
		"a password":  {Host: "cache", Port: 6379, Password: secret.New(" p@ss/w?rd ")},
		"an account":  {Host: "fd00::1", Port: 6380, Username: "app", Password: secret.New("pw")},
		"a CA":        {Host: "cache", Port: 6379, Password: secret.New("pw"), TLS: true, CA: authority},
		"IAM":         {Host: "cache", Port: 6379, TLS: true, Username: "app", IAMCache: "fc-demo", IAMRegion: "eu-west-1"},
		"several CAs": {Host: "cache", Port: 6379, TLS: true, CA: "# first\n" + authority + "\n# second\n" + authority + "\n\n"},
		"no password": {Host: "cache", Port: 6379},
	} {
		t.Run(name, func(t *testing.T) {
			w := aWorld(t, withExternal(aFlagCache()))
			used.Provider = "somebody"
			hash := used.Hash(w.fc.UID)
			for _, o := range connection.Desire(w.index(), &used).Apply {
				w.put(o)
			}
			pods := &appsv1.Deployment{}
			pods.Spec.Template.Annotations = map[string]string{v1alpha1.AnnotationConnection: hash}
			got, ok := connection.Of(w.index(), pods)
			if d := cmp.Diff(used, got); !ok || d != "" {
				t.Errorf("found %t, connection differs (-want +got):\n%s", ok, d)
			}
		})
	}
}

func TestExternalSecret(t *testing.T) {
	tests := map[string]struct {
		data map[string]string
		want connection.Connection
		err  string
	}{
		"a redis URI":                   {data: map[string]string{"uri": "redis://cache:7000"}, want: connection.Connection{Host: "cache", Port: 7000}},
		"a URI without a port":          {data: map[string]string{"uri": "redis://cache"}, want: connection.Connection{Host: "cache", Port: 6379}},
		"a rediss URI with an account":  {data: map[string]string{"uri": "rediss://app:pw@cache"}, want: connection.Connection{Host: "cache", Port: 6379, TLS: true, Username: "app", Password: secret.New("pw")}},
		"an IPv6 address":               {data: map[string]string{"uri": "redis://[fd00::1]:6379"}, want: connection.Connection{Host: "fd00::1", Port: 6379}},
		"a trailing newline":            {data: map[string]string{"host": "cache\n", "port": "6380\n"}, want: connection.Connection{Host: "cache", Port: 6380}},
		"the keys of a binding":         {data: map[string]string{"host": "cache", "username": "app", "password": "pw", "tls": "true"}, want: connection.Connection{Host: "cache", Port: 6379, Username: "app", Password: secret.New("pw"), TLS: true}},
		"database 0":                    {data: map[string]string{"uri": "redis://cache/0"}, want: connection.Connection{Host: "cache", Port: 6379}},
		"nothing":                       {err: "neither the key uri nor the key host"},
		"another scheme":                {data: map[string]string{"uri": "http://cache"}, err: "a scheme other than"},
		"no URL":                        {data: map[string]string{"uri": "redis://a b:s3cret"}, err: "not a URL"},
		"no host":                       {data: map[string]string{"uri": "redis://:s3cret@"}, err: "no valid host"},
		"another database":              {data: map[string]string{"uri": "redis://cache/3"}, err: "database 0"},
		"parameters":                    {data: map[string]string{"uri": "redis://cache?db=3"}, err: "query parameters"},
		"a password with # as it comes": {data: map[string]string{"uri": "redis://app:12#s3cret@cache"}, err: "percent-encoded"},
		"a password with / as it comes": {data: map[string]string{"uri": "redis://app:12/s3cret@cache"}, err: "database 0"},
		"a password with ? as it comes": {data: map[string]string{"uri": "redis://app:12?s3cret@cache"}, err: "query parameters"},
		"an account as host":            {data: map[string]string{"host": "app:s3cret"}, err: "no valid host"},
		"a port out of range":           {data: map[string]string{"host": "cache", "port": "70000"}, err: "from 1 to 65535"},
		"an address as host":            {data: map[string]string{"host": "redis://cache"}, err: "no valid host"},
		"an invalid tls":                {data: map[string]string{"host": "cache", "tls": "yes"}, err: "true or false"},
		"an invalid ca":                 {data: map[string]string{"host": "cache", "ca": "s3cret"}, err: "not a certificate"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			data := map[string][]byte{}
			for k, v := range test.data {
				data[k] = []byte(v)
			}
			got, err := connection.Parse(data)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "s3cret") {
					t.Fatalf("got error %v, want one that says %q and no secret", err, test.err)
				}
				return
			}
			test.want.Provider = "external"
			if d := cmp.Diff(test.want, got); err != nil || d != "" {
				t.Errorf("error %v, connection differs (-want +got):\n%s", err, d)
			}
		})
	}
}
