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

// Bounds of a test.
const (
	MaxConnections = 10_000
	MaxDuration    = 24 * time.Hour
	MaxRate        = 1_000_000
	MaxUsers       = 100_000
)

// Mix says how many of the requests are of each kind, as weights.
type Mix struct {
	// Static are single evaluations of flags without a rule.
	Static int
	// Targeted are single evaluations of flags with one.
	Targeted int
	// Bulk are evaluations of all flags.
	Bulk int
}

// DefaultMix is what a fleet of server-side clients with some browsers asks for.
var DefaultMix = Mix{Static: 70, Targeted: 20, Bulk: 10}

// Options say what to ask, and how much. Only URL has no default.
type Options struct {
	// URL is where the flag service is, such as http://flags:8080.
	URL string
	// Connections is how many requests are under way at a time, at the most; 50 by
	// default.
	Connections int
	// Duration is how long requests are sent; 30 s by default.
	Duration time.Duration
	// Rate is how many requests are due in a second. 0, the default, is as many as
	// the connections carry.
	Rate float64
	// Mix is DefaultMix by default.
	Mix Mix
	// Users is how many evaluation contexts are made up; 1,000 by default.
	Users int
	// Contexts are evaluation contexts, JSON objects, to use instead.
	Contexts []json.RawMessage
	// Timeout bounds one request; 10 s by default, as of OFREP's clients.
	Timeout time.Duration
	// Header is sent with every request. It is never reported.
	Header http.Header
	// Answers says which answers are right; nil takes any.
	Answers Answers
	// Seed makes the order of the requests; the same seed asks the same.
	Seed uint64
	// Progress is called about five times a second, from one goroutine.
	Progress func(Progress)
}

// Progress is how far a test is.
type Progress struct {
	// Elapsed of Duration has passed.
	Elapsed, Duration time.Duration
	// Requests were answered or failed, Errors among them.
	Requests, Errors int64
}

// withDefaults fills in what is not set, and refuses what is out of bounds.
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
	refuseUnless(o.Rate >= 0 && o.Rate <= MaxRate, "the rate must be 0 to %d requests a second", MaxRate)
	refuseUnless(o.Users > 0 && o.Users <= MaxUsers && len(o.Contexts) <= MaxUsers, "there must be 1 to %d users", MaxUsers)
	refuseUnless(o.Timeout > 0 && o.Timeout <= time.Minute, "the time-out must be up to %s", time.Minute)
	refuseUnless(o.Mix.Static >= 0 && o.Mix.Targeted >= 0 && o.Mix.Bulk >= 0, "no part of the mix may be negative")
	return o, errors.Join(errs...)
}

func setDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

// contexts are the evaluation contexts to ask for.
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
