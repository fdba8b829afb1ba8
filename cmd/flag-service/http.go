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

// httpSettings are what the environment says about answering requests.
type httpSettings struct {
	tokensDir         string
	rate, clientRate  rateSetting
	maxInFlight       int
	maxConnections    int
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

// rateSetting is so many requests a second, with so many at once.
type rateSetting struct{ perSecond, burst int }

func (s rateSetting) limit() *rate.Limiter { return access.NewLimit(float64(s.perSecond), s.burst) }

// httpVariables describes the variables, in the order of their documentation.
var httpVariables = []variable{
	{config.EnvAuthTokensDir, "directory of tokens, one a file, that requests need; without it everybody is let in"},
	{config.EnvRateLimit, "how many requests a second are answered (default 0, no limit)"},
	{config.EnvRateLimitBurst, "how many of them at once (default: as many as in a second)"},
	{config.EnvClientRateLimit, "how many requests a second of one token are answered (default 0, no limit)"},
	{config.EnvClientRateLimitBurst, "how many of them at once (default: as many as in a second)"},
	{config.EnvMaxInFlight, "how many requests may be answered at a time (default 1024; 0: no limit)"},
	{config.EnvMaxConnections, "how many connections there may be (default 4096; 0: no limit)"},
	{config.EnvCORSAllowedOrigins, `origins, separated by commas, whose pages may ask (default "*"; "none")`},
	{config.EnvCompressFrom, "bytes from which bulk answers are compressed (default 1500; 0: never)"},
	{config.EnvEventStreams, "how many event streams there may be (default 1000; 0: none)"},
	{config.EnvEventStreamsInactivity, "how long clients keep one that nobody looks at (default 2m)"},
	{config.EnvEventStreamsHeartbeat, "how often a silent one gets a comment (default 15s)"},
	{config.EnvEventStreamsSpread, "the time over which clients are told of a change (default 1s)"},
	{config.EnvMaxStaleness, "age of the flags past which the service is unready (default 0, no bound)"},
	{config.EnvPprofAddress, "where Go's profiles are served (default: nowhere)"},
	{config.EnvOTLPEndpoint, "where traces are sent, with OpenTelemetry's other variables (default: nowhere)"},
}

func readHTTPSettings(r *reader) httpSettings {
	s := httpSettings{
		tokensDir:         r.text(config.EnvAuthTokensDir, ""),
		rate:              r.rate(config.EnvRateLimit, config.EnvRateLimitBurst),
		clientRate:        r.rate(config.EnvClientRateLimit, config.EnvClientRateLimitBurst),
		maxInFlight:       r.integer(config.EnvMaxInFlight, 1024, 0, 1_000_000),
		maxConnections:    r.integer(config.EnvMaxConnections, 4096, 0, 1_000_000),
		origins:           r.origins(config.EnvCORSAllowedOrigins),
		compressFrom:      r.integer(config.EnvCompressFrom, 1500, 0, 1<<30),
		maxStreams:        r.integer(config.EnvEventStreams, 1000, 0, 100_000),
		streamsInactivity: r.duration(config.EnvEventStreamsInactivity, 2*time.Minute, time.Second, 24*time.Hour),
		streamsHeartbeat:  r.duration(config.EnvEventStreamsHeartbeat, 15*time.Second, time.Second, 10*time.Minute),
		streamsSpread:     r.duration(config.EnvEventStreamsSpread, time.Second, 0, 10*time.Minute),
		maxStaleness:      r.duration(config.EnvMaxStaleness, 0, 0, 365*24*time.Hour),
		traced:            r.traced(),
	}
	if r.text(config.EnvPprofAddress, "") != "" {
		s.pprofAddress = r.address(config.EnvPprofAddress, "")
	}
	if s.clientRate.perSecond > 0 && s.tokensDir == "" {
		r.refuse(config.EnvClientRateLimit, "absent where "+config.EnvAuthTokensDir+" is: without tokens no client can be told from another")
	}
	return s
}

// traced says whether traces are wanted. Of OpenTelemetry's protocols there is
// one.
func (r *reader) traced() bool {
	const protocol = "http/protobuf"
	if r.text(config.EnvOTLPEndpoint, r.text(config.EnvOTLPTracesEndpoint, "")) == "" {
		return false
	}
	for _, name := range []string{config.EnvOTLPProtocol, config.EnvOTLPTracesProtocol} {
		if r.text(name, protocol) != protocol {
			r.refuse(name, protocol)
		}
	}
	return true
}

func (r *reader) rate(name, burst string) rateSetting {
	const most = 10_000_000
	perSecond := r.integer(name, 0, 0, most)
	return rateSetting{perSecond, r.integer(burst, max(1, perSecond), 1, most)}
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
				r.refuse(name, `"*", "none" or origins such as https://shop.example, separated by commas`)
			}
			list = append(list, origin)
		}
		return list
	}
}

// handlerOptions are the settings of the OFREP handler, with what they need.
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

// profiles is the server of Go's profiles. A CPU profile takes half a minute
// unless told otherwise.
func profiles(address string, log *slog.Logger) *server {
	s := ofrep.NewServer(telemetry.Profiles(), log)
	s.WriteTimeout = 5 * time.Minute
	return &server{Server: s, name: "pprof", address: address}
}

// staleness says that the flags are older than they may be, or nothing.
func (s httpSettings) staleness(age time.Duration) string {
	if s.maxStaleness == 0 || age <= s.maxStaleness {
		return ""
	}
	return fmt.Sprintf("the flags were confirmed %s ago, the bound is %s", age.Round(time.Second), s.maxStaleness)
}
