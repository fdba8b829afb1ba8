// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package counter

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func TestCounts(t *testing.T) {
	cases := map[string]struct {
		method, path string
		want         Tally
	}{
		"ignores reads": {http.MethodGet, "/api/v1/namespaces/shop/secrets", Tally{}},
		"creating an object of the core group": {http.MethodPost, "/api/v1/namespaces/shop/secrets",
			Tally{{Method: "POST", Namespace: "shop", Resource: "secrets"}: 1}},
		"creating an object of another group": {http.MethodPost, "/apis/apps/v1/namespaces/shop/deployments",
			Tally{{Method: "POST", Namespace: "shop", Resource: "deployments.apps"}: 1}},
		"writing a status": {http.MethodPatch, "/apis/flagcache.dev/v1alpha1/namespaces/shop/flagcaches/demo/status",
			Tally{{Method: "PATCH", Namespace: "shop", Resource: "flagcaches.flagcache.dev", Subresource: "status"}: 1}},
		"deleting a cluster-scoped object": {http.MethodDelete, "/apis/storage.k8s.io/v1/storageclasses/fast",
			Tally{{Method: "DELETE", Resource: "storageclasses.storage.k8s.io"}: 1}},
		"a refused write": {http.MethodPatch, "/apis/apps/v1/namespaces/shop/deployments/conflict",
			Tally{{Method: "PATCH", Namespace: "shop", Resource: "deployments.apps", Refused: true}: 1}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			counter, client, address := startCounter(t)
			request, err := http.NewRequestWithContext(t.Context(), c.method, address+c.path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if diff := cmp.Diff(c.want, counter.Tally()); diff != "" {
				t.Errorf("tally (-want +got):\n%s", diff)
			}
			if response.ProtoMajor != 2 {
				t.Errorf("the client spoke %s, not HTTP/2 as with an API server", response.Proto)
			}
		})
	}
}

func TestDroppedEventsAreCountedAndAnswered(t *testing.T) {
	counter, client, address := startCounter(t)
	counter.DropEvents()
	path := address + "/apis/events.k8s.io/v1/namespaces/shop/events"
	for method, want := range map[string]int{http.MethodPost: http.StatusCreated, http.MethodPatch: http.StatusNotFound} {
		request, err := http.NewRequestWithContext(t.Context(), method, path, strings.NewReader(`{"kind":"Event"}`))
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != want || response.Header.Get("Seen-Authorization") != "" {
			t.Errorf("%s: got %s, want %d without asking the API server", method, response.Status, want)
		}
	}
	if n := counter.Tally().Of(IsEvent); n != 2 {
		t.Errorf("%d events were counted, want 2", n)
	}
}

func TestUsesItsOwnCredentials(t *testing.T) {
	_, client, address := startCounter(t)
	response, err := client.Get(address + "/api/v1/whoami")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got, want := response.Header.Get("Seen-Authorization"), "Bearer admin"; got != want {
		t.Errorf("the API server saw %q, want %q", got, want)
	}
}

// startCounter starts a fake API server with a Counter in front of it, and a client for
// the Counter's kubeconfig.
func startCounter(t *testing.T) (counter *Counter, client *http.Client, address string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Seen-Authorization", r.Header.Get("Authorization"))
		if strings.HasSuffix(r.URL.Path, "/conflict") {
			w.WriteHeader(http.StatusConflict)
		}
	}))
	t.Cleanup(server.Close)
	counter, err := New(&rest.Config{Host: server.URL, BearerToken: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	access, err := NewAccess(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := access.KeyPair()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, listener, counter, pair) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	config, err := clientcmd.RESTConfigFromKubeConfig(access.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if client, err = rest.HTTPClientFor(config); err != nil {
		t.Fatal(err)
	}
	return counter, client, config.Host
}

func TestTally(t *testing.T) {
	secret := Write{Method: "POST", Namespace: "a", Resource: "secrets"}
	status := Write{Method: "PATCH", Namespace: "b", Resource: "flagcaches.flagcache.dev", Subresource: "status", Refused: true}
	event := Write{Method: "POST", Namespace: "b", Resource: "events.events.k8s.io"}
	lease := Write{Method: "PUT", Namespace: "c", Resource: "leases.coordination.k8s.io"}
	earlier := Tally{secret: 1, event: 2}
	later := Tally{secret: 1, event: 5, status: 1, lease: 7}

	t.Run("Since returns what was added", func(t *testing.T) {
		if diff := cmp.Diff(Tally{event: 3, status: 1, lease: 7}, later.Since(earlier)); diff != "" {
			t.Errorf("difference (-want +got):\n%s", diff)
		}
	})
	t.Run("In returns the part of a namespace", func(t *testing.T) {
		if diff := cmp.Diff(Tally{event: 5, status: 1}, later.In("b")); diff != "" {
			t.Errorf("part (-want +got):\n%s", diff)
		}
	})
	t.Run("leases and events are not changes", func(t *testing.T) {
		got := []int{later.Of(IsChange), later.Of(IsEvent), later.Of(IsLease)}
		if diff := cmp.Diff([]int{2, 5, 7}, got); diff != "" {
			t.Errorf("changes, events, leases (-want +got):\n%s", diff)
		}
	})
	t.Run("it can be encoded as JSON", func(t *testing.T) {
		text, err := json.Marshal(later)
		if err != nil {
			t.Fatal(err)
		}
		var got Tally
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(later, got); diff != "" {
			t.Errorf("tally (-want +got):\n%s", diff)
		}
	})
}
