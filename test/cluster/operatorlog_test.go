// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func TestErrors(t *testing.T) {
	failed := `{"level":"error","msg":"Reconciler error","error":"context canceled"}` + "\n"
	unread := `{"level":"error",` + unreadResponse + `,"error":"connection reset"}` + "\n"
	stopping := `{"level":"info",` + stoppingReconciles + "}\n"
	for name, test := range map[string]struct {
		log  string
		want int
	}{
		"no line":                               {"", 0},
		"information":                           {stopping, 0},
		"error":                                 {failed, 1},
		"error of a stopping operator":          {stopping + failed + unread, 2},
		"event in a terminating namespace":      {`{"level":"error","error":"namespace x: because it is being terminated"}`, 0},
		"lost lease":                            {`{"level":"error","error":"leader election lost"}`, 0},
		"lease that could not be renewed":       {`{"level":"error","msg":"error retrieving lease lock x"}`, 0},
		"information about something like that": {`{"level":"info","error":"Reconciler error"}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if errors := Errors(test.log); len(errors) != test.want {
				t.Errorf("%d errors, want %d: %q", len(errors), test.want, errors)
			}
		})
	}
}

// Responses are cut after their header, by real clients of a real manager: the log
// shows whether it was being stopped.
func TestErrorsOfUnreadResponses(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(stopManager, cancelRequest func())
		want int
	}{
		"operator is stopped":  {func(stopManager, _ func()) { stopManager() }, 0},
		"request is cancelled": {func(_, cancelRequest func()) { cancelRequest() }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			log := logOfUnreadResponse(t, test.end)
			if count := strings.Count(log, unreadResponse); count != 1 {
				t.Fatalf("%d responses were not read, want 1; log:\n%s", count, log)
			}
			if errors := Errors(log); len(errors) != test.want {
				t.Errorf("%d errors, want %d; log:\n%s", len(errors), test.want, log)
			}
		})
	}
}

// logOfUnreadResponse returns the log of a manager whose runnable, like a reconcile,
// requests something from an API server that sends only the header of its response.
func logOfUnreadResponse(t *testing.T, end func(stopManager, cancelRequest func())) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Errorf("sending the header: %v", err)
		}
		<-r.Context().Done()
	}))
	defer server.Close()
	headerReceived := make(chan struct{})
	config := &rest.Config{Host: server.URL, WrapTransport: func(transport http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			defer close(headerReceived)
			return transport.RoundTrip(r)
		})
	}}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	log := &lockedBuffer{}
	logger := zap.New(zap.WriteTo(log))
	mgr, err := ctrl.NewManager(config, ctrl.Options{Logger: logger, Metrics: metricsserver.Options{BindAddress: "0"}})
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(t.Context())
	defer stop()
	request, cancel := context.WithCancel(ctrl.LoggerInto(t.Context(), logger))
	defer cancel()
	if err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		defer stop()
		defer context.AfterFunc(ctx, cancel)()
		if _, err := clients.CoreV1().ConfigMaps("default").Get(request, "flags", metav1.GetOptions{}); err == nil {
			t.Error("the request succeeded")
		}
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	go func() {
		<-headerReceived
		end(stop, cancel)
	}()
	if err := mgr.Start(running); err != nil {
		t.Fatal(err)
	}
	return log.String()
}

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return r(request) }

// lockedBuffer is a buffer that goroutines share.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
