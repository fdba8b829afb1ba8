// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"crypto/rand"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/access"
	"github.com/flagcache/flagcache/service/admin/openapi"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/source/postgres"
)

// invalidationTimeout bounds telling Redis of a change. Who is not told finds out
// by polling.
const invalidationTimeout = time.Second

// Options are what the API works with.
type Options struct {
	// Store holds the flags.
	Store *postgres.Store
	// Find returns the client whose token it is, or nil.
	Find func(token string) *access.Client
	// Invalidate is called after a change of an environment was committed; nil where
	// nobody needs to be told.
	Invalidate func(ctx context.Context, environment string) error
	Log        *slog.Logger
}

// api answers requests.
type api struct {
	Options
	requests      *prometheus.CounterVec
	invalidations prometheus.Counter
}

// operation answers one kind of request. An error becomes a problem.
type operation func(*call) error

// call is one request with what is known about it.
type call struct {
	w http.ResponseWriter
	r *http.Request
	// id names the request in answers, logs and the audit.
	id string
	// client is the name of whoever asks.
	client string
}

// NewHandler returns the API and registers its metrics.
func NewHandler(options Options, registry prometheus.Registerer) http.Handler {
	a := &api{
		Options: options,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: config.MetricAdminRequests,
			Help: "Requests to the admin API by method and HTTP status code.",
		}, []string{"method", "code"}),
		invalidations: prometheus.NewCounter(prometheus.CounterOpts{
			Name: config.MetricAdminInvalidationFailures,
			Help: "Changes by the admin API that Redis could not be told of; polling makes up for it.",
		}),
	}
	registry.MustRegister(a.requests, a.invalidations)

	const environment = config.PathAdmin + "/environments/{environment}"
	mux := http.NewServeMux()
	mux.Handle(config.PathAdmin+"/environments", a.resource(map[string]operation{"GET": a.listEnvironments}))
	mux.Handle(environment, a.resource(map[string]operation{"GET": a.readEnvironment, "PUT": a.replaceEnvironment}))
	mux.Handle(environment+"/audit", a.resource(map[string]operation{"GET": a.listAudit}))
	mux.Handle(environment+"/flags", a.resource(map[string]operation{"GET": a.listFlags, "POST": a.createFlag}))
	mux.Handle(environment+"/flags/{key}", a.resource(map[string]operation{
		"GET": a.readFlag, "PUT": a.replaceFlag, "PATCH": a.patchFlag, "DELETE": a.deleteFlag,
	}))
	mux.Handle("GET "+config.PathAdmin+"/openapi.yaml", http.HandlerFunc(describe))
	mux.Handle("/", a.resource(nil))
	return mux
}

// describe serves the API's description, to anybody: it holds no secret.
func describe(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openapi.Document)
}

// resource answers the methods of one resource; nil is one that does not exist.
func (a *api) resource(operations map[string]operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorder := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		c := &call{w: recorder, r: r, id: requestID(r)}
		w.Header().Set("X-Request-Id", c.id)
		w.Header().Set("Cache-Control", "no-store")
		if err := a.answer(c, operations); err != nil {
			a.fail(c, err)
		}
		a.requests.WithLabelValues(methodLabel(r.Method), strconv.Itoa(recorder.status)).Inc()
	})
}

func (a *api) answer(c *call, operations map[string]operation) error {
	if err := a.admit(c); err != nil {
		return err
	}
	if operations == nil {
		return refuse(http.StatusNotFound, "there is nothing at this path; "+config.PathAdmin+"/openapi.yaml says what there is")
	}
	do, ok := operations[c.r.Method]
	if !ok {
		allowed := strings.Join(slices.Sorted(maps.Keys(operations)), ", ")
		c.w.Header().Set("Allow", allowed)
		return refuse(http.StatusMethodNotAllowed, "the methods here are "+allowed)
	}
	return do(c)
}

// admit finds out who asks, and whether he may now. Nobody is let in without a
// token, also when there are no tokens.
func (a *api) admit(c *call) error {
	scheme, token, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	client := a.Find(strings.TrimSpace(token))
	if !strings.EqualFold(scheme, "Bearer") || client == nil {
		return refuse(http.StatusUnauthorized, "the header Authorization must be Bearer and a valid token")
	}
	if client.Limit != nil && !client.Limit.Allow() {
		return refuse(http.StatusTooManyRequests, "this client asks too often")
	}
	c.client = client.Name
	return nil
}

// fail answers with a problem, and logs what is not the client's doing.
func (a *api) fail(c *call, err error) {
	p := problemOf(err)
	p.RequestID = c.id
	if p.Status == http.StatusServiceUnavailable && c.r.Context().Err() == nil {
		a.Log.Error("an admin request failed", "error", err, "method", c.r.Method, "path", c.r.URL.Path, "client", c.client, "request", c.id)
	}
	writeProblem(c.w, p)
}

// changed tells of a change that was committed. That it could not be told fails
// nothing: flag services look at the database too.
func (a *api) changed(c *call, environment, action, key string) {
	a.Log.Info("changed flags", "environment", environment, "action", action, "flag", key, "client", c.client, "request", c.id)
	if a.Invalidate == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), invalidationTimeout)
	defer cancel()
	if err := a.Invalidate(ctx, environment); err != nil {
		a.invalidations.Inc()
		a.Log.Warn("Redis could not be told of a change", "environment", environment, "error", err)
	}
}

func (c *call) author() postgres.Author { return postgres.Author{Actor: c.client, RequestID: c.id} }

// acceptableID is a request's name that may go into logs as it is.
var acceptableID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// requestID is the name that the client gave to the request, or a new one.
func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); acceptableID.MatchString(id) {
		return id
	}
	return rand.Text()
}

// methodLabel bounds the metric's labels: anybody can invent methods.
func methodLabel(method string) string {
	switch method {
	case "GET", "PUT", "POST", "PATCH", "DELETE":
		return method
	default:
		return "other"
	}
}

// statusRecorder remembers the status of an answer.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController find what is below.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
