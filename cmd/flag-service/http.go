// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/flagcache/flagcache/service/access"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/ofrep"
	"github.com/flagcache/flagcache/service/telemetry"
)

// httpSettings are the settings of HTTP requests.
type httpSettings struct {
	tokensDir         string
	rate, clientRate  rateSetting
	maxInFlight       int
	maxConnections    int
	maxBytesInFlight  int
	origins           []string
	compressFrom      int
	maxStreams        int
	streamsInactivity time.Duration
	streamsHeartbeat  time.Duration
	streamsSpread     time.Duration
	maxStaleness      time.Duration
	pprofAddress      string
	traced            bool
}

// rateSetting is a rate limit in requests per second with its burst.
type rateSetting struct{ perSecond, burst int }

func (s rateSetting) limit() *rate.Limiter { return access.NewLimit(float64(s.perSecond), s.burst) }

// httpVariables describes the variables, in the order of the documentation.
var httpVariables = []variable{
	{config.EnvAuthTokensDir, "directory of the clients' tokens, one per file (default: requests are not authenticated)"},
	{config.EnvRateLimit, "maximum number of requests per second (default 0, no limit)"},
	{config.EnvRateLimitBurst, "burst of RATE_LIMIT (default: the requests of one second)"},
	{config.EnvClientRateLimit, "maximum number of requests per second and token (default 0, no limit)"},
	{config.EnvClientRateLimitBurst, "burst of CLIENT_RATE_LIMIT (default: the requests of one second)"},
	{config.EnvMaxInFlight, "maximum number of concurrent requests of each protocol (default 1024; 0: no limit)"},
	{config.EnvMaxConnections, "maximum number of connections (default 4096; 0: no limit)"},
	{config.EnvMaxBytesInFlight, "maximum number of bytes of responses that are prepared or not received by clients (default 33554432; 0: no limit)"},
	{config.EnvCORSAllowedOrigins, `comma-separated origins whose pages may send requests (default "*"; "none")`},
	{config.EnvCompressFrom, "size in bytes from which bulk responses are compressed (default 1500; 0: never)"},
	{config.EnvEventStreams, "maximum number of event streams and flagd's streams (default 1000; 0: disabled)"},
	{config.EnvEventStreamsInactivity, "how long clients keep the stream of an inactive page (default 2m)"},
	{config.EnvEventStreamsHeartbeat, "interval of comments on idle streams (default 15s)"},
	{config.EnvEventStreamsSpread, "time over which clients are notified of a change (default 1s)"},
	{config.EnvMaxStaleness, "age of the flags beyond which the service is unready (default 0, no limit)"},
	{config.EnvPprofAddress, "listen address of Go's profiles (default: disabled)"},
	{config.EnvOTLPEndpoint, "endpoint for traces; see also OpenTelemetry's other variables (default: disabled)"},
}

func readHTTPSettings(r *reader) httpSettings {
	s := httpSettings{
		tokensDir:         r.text(config.EnvAuthTokensDir, ""),
		rate:              r.rate(config.EnvRateLimit, config.EnvRateLimitBurst),
		clientRate:        r.rate(config.EnvClientRateLimit, config.EnvClientRateLimitBurst),
		maxInFlight:       r.integer(config.EnvMaxInFlight, 1024, 0, 1_000_000),
		maxConnections:    r.integer(config.EnvMaxConnections, 4096, 0, 1_000_000),
		maxBytesInFlight:  r.integer(config.EnvMaxBytesInFlight, 32<<20, 0, 1<<40),
		origins:           r.origins(config.EnvCORSAllowedOrigins),
		compressFrom:      r.integer(config.EnvCompressFrom, 1500, 0, 1<<30),
		maxStreams:        r.integer(config.EnvEventStreams, 1000, 0, 100_000),
		streamsInactivity: r.duration(config.EnvEventStreamsInactivity, 2*time.Minute, time.Second, 24*time.Hour),
		streamsHeartbeat:  r.duration(config.EnvEventStreamsHeartbeat, 15*time.Second, time.Second, 10*time.Minute),
		streamsSpread:     r.duration(config.EnvEventStreamsSpread, time.Second, 0, 10*time.Minute),
		maxStaleness:      r.duration(config.EnvMaxStaleness, 0, 0, 365*24*time.Hour),
		pprofAddress:      r.optionalAddress(config.EnvPprofAddress),
		traced:            r.traced(),
	}
	if s.clientRate.perSecond > 0 && s.tokensDir == "" {
		r.reject(config.EnvClientRateLimit, "unset unless "+config.EnvAuthTokensDir+" is set: clients are identified by their tokens")
	}
	return s
}

// traced reports whether tracing is enabled. Only one of OpenTelemetry's
// protocols is supported.
func (r *reader) traced() bool {
	const protocol = "http/protobuf"
	if r.text(config.EnvOTLPEndpoint, r.text(config.EnvOTLPTracesEndpoint, "")) == "" {
		return false
	}
	for _, name := range []string{config.EnvOTLPProtocol, config.EnvOTLPTracesProtocol} {
		if r.text(name, protocol) != protocol {
			r.reject(name, protocol)
		}
	}
	return true
}

func (r *reader) rate(name, burst string) rateSetting {
	const maxRate = 10_000_000
	perSecond := r.integer(name, 0, 0, maxRate)
	return rateSetting{perSecond, r.integer(burst, max(1, perSecond), 1, maxRate)}
}

// origins reads a list of origins as browsers send them.
func (r *reader) origins(name string) []string {
	switch value := r.text(name, "*"); value {
	case "*":
		return []string{"*"}
	case "none":
		return nil
	default:
		var list []string
		for origin := range strings.SplitSeq(value, ",") {
			origin = strings.TrimSpace(origin)
			if parsed, err := url.Parse(origin); err != nil || parsed.Host == "" || origin != parsed.Scheme+"://"+parsed.Host {
				r.reject(name, `"*", "none" or comma-separated origins such as https://shop.example`)
			}
			list = append(list, origin)
		}
		return list
	}
}

// handlerOptions returns the options of the OFREP handler.
func (s settings) handlerOptions(log *slog.Logger) ofrep.Options {
	options := ofrep.Options{
		Revision:     s.revision,
		Origins:      s.http.origins,
		Limit:        s.http.rate.limit(),
		MaxInFlight:  s.http.maxInFlight,
		CompressFrom: s.http.compressFrom,
	}
	if s.http.tokensDir != "" {
		options.Keys = access.NewKeys(s.http.tokensDir, s.http.clientRate.limit, log)
	}
	if s.http.maxStreams > 0 {
		options.Streams = ofrep.NewStreams(ofrep.StreamOptions{
			Max:          s.http.maxStreams,
			Inactivity:   s.http.streamsInactivity,
			Heartbeat:    s.http.streamsHeartbeat,
			Spread:       s.http.streamsSpread,
			WriteTimeout: ofrep.StreamWriteTimeout,
		}, time.Now)
	}
	return options
}

// profiles returns the server of Go's profiles. A CPU profile takes 30 seconds
// by default.
func profiles(address string, log *slog.Logger) *server {
	s := ofrep.NewServer(telemetry.Profiles(), log)
	s.WriteTimeout = 5 * time.Minute
	return &server{Server: s, name: "pprof", address: address}
}

// staleness returns a message if the flags exceed the maximum age, else an
// empty string.
func (s httpSettings) staleness(age time.Duration) string {
	if s.maxStaleness == 0 || age <= s.maxStaleness {
		return ""
	}
	return fmt.Sprintf("the flags were last confirmed %s ago, the limit is %s", age.Round(time.Second), s.maxStaleness)
}
