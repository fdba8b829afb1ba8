// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Limits of a test.
const (
	MaxConnections = 10_000
	MaxDuration    = 24 * time.Hour
	MaxRate        = 1_000_000
	MaxUsers       = 100_000
)

// Mix is the weights of the kinds of requests.
type Mix struct {
	// Static is the weight of single evaluations of flags without a rule.
	Static int
	// Targeted is the weight of single evaluations of flags with a rule.
	Targeted int
	// Bulk is the weight of evaluations of all flags.
	Bulk int
}

// DefaultMix resembles the requests of server-side clients and some browsers.
var DefaultMix = Mix{Static: 70, Targeted: 20, Bulk: 10}

// Options configure a test. Only URL is required.
type Options struct {
	// URL is the URL of the flag service, such as http://flags:8080.
	URL string
	// Connections is the number of connections, and the maximum number of concurrent
	// requests; 50 by default. Each is kept, as by a client of its own.
	Connections int
	// Duration is the time for which requests are sent; 30 s by default.
	Duration time.Duration
	// Rate is the number of requests per second. 0, the default, is as many as the
	// connections allow.
	Rate float64
	// Mix is the mix of requests; DefaultMix by default.
	Mix Mix
	// Users is the number of generated evaluation contexts; 1,000 by default.
	Users int
	// Contexts are evaluation contexts, JSON objects, to use instead of generated
	// ones.
	Contexts []json.RawMessage
	// Timeout is the timeout of a request; 10 s by default, as of OFREP's clients.
	Timeout time.Duration
	// Header is sent with every request. It is never reported.
	Header http.Header
	// Answers validates answers; nil accepts all.
	Answers Answers
	// Seed determines the order of the requests.
	Seed uint64
	// Progress is called about five times per second, from one goroutine.
	Progress func(Progress)
}

// Progress is the progress of a test.
type Progress struct {
	// Elapsed is the part of Duration that has passed.
	Elapsed, Duration time.Duration
	// Requests is the number of requests that were answered or failed, Errors of
	// those that failed.
	Requests, Errors int64
}

// withDefaults sets defaults and validates the options.
func (o Options) withDefaults() (Options, error) {
	setDefault(&o.Connections, 50)
	setDefault(&o.Duration, 30*time.Second)
	setDefault(&o.Users, 1000)
	setDefault(&o.Timeout, 10*time.Second)
	setDefault(&o.Mix, DefaultMix)
	o.URL = strings.TrimRight(o.URL, "/")
	var errs []error
	refuseUnless := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	parsed, err := url.Parse(o.URL)
	refuseUnless(err == nil && (parsed.Scheme == "http" || parsed.Scheme == "https") && parsed.Host != "",
		"the URL must be like http://host:8080")
	refuseUnless(o.Connections > 0 && o.Connections <= MaxConnections, "there must be 1 to %d connections", MaxConnections)
	refuseUnless(o.Duration > 0 && o.Duration <= MaxDuration, "the duration must be up to %s", MaxDuration)
	refuseUnless(o.Rate >= 0 && o.Rate <= MaxRate, "the rate must be 0 to %d requests per second", MaxRate)
	refuseUnless(o.Users > 0 && o.Users <= MaxUsers && len(o.Contexts) <= MaxUsers, "there must be 1 to %d users", MaxUsers)
	refuseUnless(o.Timeout > 0 && o.Timeout <= time.Minute, "the timeout must be up to %s", time.Minute)
	refuseUnless(o.Mix.Static >= 0 && o.Mix.Targeted >= 0 && o.Mix.Bulk >= 0, "no part of the mix may be negative")
	return o, errors.Join(errs...)
}

func setDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

// contexts returns the evaluation contexts.
func (o Options) contexts() []json.RawMessage {
	if len(o.Contexts) > 0 {
		return o.Contexts
	}
	countries, plans := [...]string{"DE", "FR", "US", "JP", "BR"}, [...]string{"free", "team", "enterprise"}
	made := make([]json.RawMessage, o.Users)
	for n := range made {
		made[n] = fmt.Appendf(nil, `{"targetingKey":"user-%d","email":"user-%d@example.com","country":%q,"plan":%q,"version":"%d.%d.0"}`,
			n, n, countries[n%len(countries)], plans[n%len(plans)], 1+n%3, n%10)
	}
	return made
}
