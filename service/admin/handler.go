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

// invalidationTimeout limits publishing a change to Redis. Instances that miss
// it detect the change by polling.
const invalidationTimeout = time.Second

// Options configure the API.
type Options struct {
	// Store stores the flags.
	Store *postgres.Store
	// Find returns the client with the given token, or nil.
	Find func(token string) *access.Client
	// Invalidate is called after a change of an environment was committed; nil if
	// there is no cache.
	Invalidate func(ctx context.Context, environment string) error
	Log        *slog.Logger
}

// api handles requests.
type api struct {
	Options
	requests      *prometheus.CounterVec
	invalidations prometheus.Counter
}

// operation handles one kind of request. An error is sent as a problem.
type operation func(*call) error

// call is one request with its context.
type call struct {
	w http.ResponseWriter
	r *http.Request
	// id identifies the request in responses, logs and the audit.
	id string
	// client is the client's name.
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
			Help: "Changes by the admin API that could not be published to Redis; instances detect them by polling.",
		}),
	}
	registry.MustRegister(a.requests, a.invalidations)

	const environment = config.PathAdmin + "/environments/{environment}"
	mux := http.NewServeMux()
	mux.Handle(config.PathAdmin+"/environments", a.resource(map[string]operation{"GET": a.listEnvironments}))
	mux.Handle(environment, a.resource(map[string]operation{"GET": a.readEnvironment, "PUT": a.replaceEnvironment}))
	mux.Handle(environment+"/audit", a.resource(map[string]operation{"GET": a.listAudit}))
	mux.Handle(environment+"/flags", a.resource(map[string]operation{"GET": a.listFlags, "POST": a.createFlag}))
	flag := a.resource(map[string]operation{
		"GET": a.readFlag, "PUT": a.replaceFlag, "PATCH": a.patchFlag, "DELETE": a.deleteFlag,
	})
	mux.Handle(environment+"/flags/{key}", flag)
	mux.Handle(environment+"/flags/{$}", slashKey(flag, a.resource(nil)))
	mux.Handle("GET "+config.PathAdmin+"/openapi.yaml", http.HandlerFunc(describe))
	mux.Handle("/", a.resource(nil))
	return mux
}

// slashKey handles the flag with the key "/", whose escaped path http.ServeMux
// does not distinguish from a path without a key.
func slashKey(flag, otherwise http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(strings.ToUpper(r.URL.EscapedPath()), "/%2F") {
			otherwise.ServeHTTP(w, r)
			return
		}
		r.SetPathValue("key", "/")
		flag.ServeHTTP(w, r)
	})
}

// describe serves the API's description without authentication: it contains no
// secrets.
func describe(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(openapi.Document)
}

// resource handles the methods of one resource; nil is an unknown resource.
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
		return newProblem(http.StatusNotFound, "not found; "+config.PathAdmin+"/openapi.yaml describes the API")
	}
	do, ok := operations[c.r.Method]
	if !ok {
		allowed := strings.Join(slices.Sorted(maps.Keys(operations)), ", ")
		c.w.Header().Set("Allow", allowed)
		return newProblem(http.StatusMethodNotAllowed, "the allowed methods are "+allowed)
	}
	return do(c)
}

// admit authenticates the client and applies its rate limit. A token is always
// required, even if no tokens are configured.
func (a *api) admit(c *call) error {
	scheme, token, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	client := a.Find(strings.TrimSpace(token))
	if !strings.EqualFold(scheme, "Bearer") || client == nil {
		return newProblem(http.StatusUnauthorized, "a valid bearer token is required in the Authorization header")
	}
	if client.Limit != nil && !client.Limit.Allow() {
		return newProblem(http.StatusTooManyRequests, "too many requests by this client")
	}
	c.client = client.Name
	return nil
}

// fail responds with a problem, and logs errors that the client did not cause.
func (a *api) fail(c *call, err error) {
	p := problemOf(err)
	p.RequestID = c.id
	if p.Status == http.StatusServiceUnavailable && c.r.Context().Err() == nil {
		a.Log.Error("admin request failed", "error", err, "method", c.r.Method, "path", c.r.URL.Path, "client", c.client, "request", c.id)
	}
	writeProblem(c.w, p)
}

// publish logs a committed change and invalidates the cache. A failure to do so
// is only logged: flag services also poll the database.
func (a *api) publish(c *call, environment, action, key string) {
	a.Log.Info("flags changed", "environment", environment, "action", action, "flag", key, "client", c.client, "request", c.id)
	if a.Invalidate == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), invalidationTimeout)
	defer cancel()
	if err := a.Invalidate(ctx, environment); err != nil {
		a.invalidations.Inc()
		a.Log.Warn("invalidating the flags in Redis failed", "environment", environment, "error", err)
	}
}

func (c *call) author() postgres.Author { return postgres.Author{Actor: c.client, RequestID: c.id} }

// acceptableID matches request IDs that are safe to log.
var acceptableID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// requestID returns the client's request ID, or a new one.
func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); acceptableID.MatchString(id) {
		return id
	}
	return rand.Text()
}

// methodLabel bounds the label's values, because clients can send arbitrary
// methods.
func methodLabel(method string) string {
	switch method {
	case "GET", "PUT", "POST", "PATCH", "DELETE":
		return method
	default:
		return "other"
	}
}

// statusRecorder records the status of a response.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap returns the wrapped writer for http.ResponseController.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
