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

	corev1 "k8s.io/api/core/v1"
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
	unwritten := `{"level":"error",` + unwrittenEvent + `,"error":"Post: context canceled"}` + "\n"
	stopping := `{"level":"info",` + stoppingReconciles + "}\n"
	for name, test := range map[string]struct {
		log  string
		want int
	}{
		"no line":                               {"", 0},
		"information":                           {stopping, 0},
		"error":                                 {failed, 1},
		"error of a stopping operator":          {stopping + failed + unread, 2},
		"event that was canceled":               {unwritten, 1},
		"event of a stopping operator":          {stopping + unwritten, 0},
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

// Requests are cut after the header of their response, by real clients of a real
// manager: the log shows whether it was being stopped.
func TestErrorsOfCanceledRequests(t *testing.T) {
	get := func(ctx context.Context, clients kubernetes.Interface, _ manager.Manager) {
		_, _ = clients.CoreV1().ConfigMaps("default").Get(ctx, "flags", metav1.GetOptions{})
	}
	writeEvent := func(ctx context.Context, _ kubernetes.Interface, mgr manager.Manager) {
		about := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "flags"}}
		mgr.GetEventRecorder("test").Eventf(about, nil, corev1.EventTypeNormal, "Tested", "Test", "A test")
		<-ctx.Done()
	}
	for name, test := range map[string]struct {
		request func(context.Context, kubernetes.Interface, manager.Manager)
		// end cuts the request.
		end func(stopManager, cancelRequest func())
		// logged is the message of the error.
		logged string
		want   int
	}{
		"operator is stopped during a request": {get, func(stopManager, _ func()) { stopManager() }, unreadResponse, 0},
		"operator is stopped during an event":  {writeEvent, func(stopManager, _ func()) { stopManager() }, unwrittenEvent, 0},
		"request is canceled":                  {get, func(_, cancelRequest func()) { cancelRequest() }, unreadResponse, 1},
	} {
		t.Run(name, func(t *testing.T) {
			log := logOfCutRequest(t, test.request, test.end, test.logged)
			if errors := Errors(log); len(errors) != test.want {
				t.Errorf("%d errors, want %d; log:\n%s", len(errors), test.want, log)
			}
		})
	}
}

// logOfCutRequest returns the log of a manager whose runnable, like a reconcile,
// requests something from an API server that sends only the header of its response. It
// waits until the error is logged.
func logOfCutRequest(t *testing.T, send func(context.Context, kubernetes.Interface, manager.Manager), end func(stopManager, cancelRequest func()), logged string) string {
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
	log := &watchedBuffer{text: logged, written: make(chan struct{})}
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
		send(request, clients, mgr)
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
	<-log.written
	return log.String()
}

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return r(request) }

// watchedBuffer is a buffer that goroutines share. It closes written when the text was
// written to it.
type watchedBuffer struct {
	text    string
	written chan struct{}

	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *watchedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !strings.Contains(b.buffer.String(), b.text) && bytes.Contains(p, []byte(b.text)) {
		defer close(b.written)
	}
	return b.buffer.Write(p)
}

func (b *watchedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
