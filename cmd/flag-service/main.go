// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// flag-service answers OpenFeature's remote evaluation protocol from a file of
// flags in flagd's format, with Redis as an optional shared cache.
//
//	flag-service               serves; the environment configures it
//	flag-service lint FILE...  checks files of flags
//	flag-service loadtest URL  asks a flag service and says how it answers
//	flag-service version       prints the version
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/flagcache/flagcache/service/config"
)

// version is set by the build.
var version = "dev"

// Exit statuses.
const (
	exitOK = iota
	exitFailure
	exitUsage
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	switch {
	case len(args) == 0:
		return serveFrom(ctx, environ, stdout, stderr)
	case args[0] == "lint" && len(args) > 1:
		return lint(args[1:], os.Stdin, stdout, stderr)
	case args[0] == "loadtest":
		return runLoadtest(ctx, args[1:], environ, stdout, stderr)
	case args[0] == "version" && len(args) == 1:
		_, _ = fmt.Fprintln(stdout, version)
		return exitOK
	case len(args) == 1 && (args[0] == "help" || args[0] == "-h" || args[0] == "--help"):
		printUsage(stdout)
		return exitOK
	default:
		printUsage(stderr)
		return exitUsage
	}
}

func serveFrom(ctx context.Context, environ []string, stdout, stderr io.Writer) int {
	settings, err := readSettings(environ)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "flag-service:", err)
		return exitUsage
	}
	tuneMemory()
	if err := serve(ctx, settings, stdout); err != nil {
		_, _ = fmt.Fprintln(stderr, "flag-service:", err)
		return exitFailure
	}
	return exitOK
}

func printUsage(to io.Writer) {
	_, _ = fmt.Fprintf(to, `flag-service answers OpenFeature's remote evaluation protocol (OFREP).

Usage:
  flag-service               serve
  flag-service lint FILE...  check files of flags, - is standard input; exits with 1
                             if there are problems
  flag-service loadtest URL  ask a flag service as clients do; exits with 1 if it breaks a limit
  flag-service version       print the version

Environment of serve:
%s
`, strings.Join(describeVariables(), "\n"))
}

// variable is one of the environment, and its documentation.
type variable struct{ name, meaning string }

// variables describes the environment, in the order of its documentation.
var variables = []variable{
	{config.EnvEnvironment, `names the set of flags, part of the key in Redis (default "default")`},
	{config.EnvFlagsFile, "path of the flags in flagd's JSON format (default " + config.DefaultFlagsFile + ")"},
	{config.EnvListenAddress, "where OFREP is answered (default :8080)"},
	{config.EnvTelemetryAddress, "where /livez, /readyz and /metrics are answered (default :8081)"},
	{config.EnvServiceBindingRoot, `directory of Service Bindings; its entry "cache" says where Redis is`},
	{config.EnvRedisURL, "redis:// or rediss:// URL, also with +sentinel or +cluster, used where no binding is mounted"},
	{config.EnvRedisCAFile, "path of the authorities that Redis' certificate must come from"},
	{config.EnvRedisIAMCacheName, "ElastiCache cache to log in to with AWS credentials"},
	{config.EnvRedisIAMUser, "ElastiCache user (default the URL's)"},
	{config.EnvRedisIAMRegion, "AWS region of the cache (default the AWS SDK's)"},
	{config.EnvRedisIAMServerless, "true for a serverless cache (default false)"},
	{config.EnvCacheTTL, "how long an entry lives in Redis (default 5m)"},
	{config.EnvCacheHMACKeyFile, "path of the key that authenticates values in Redis"},
	{config.EnvRedisPoolSize, "the most connections to Redis (default 10)"},
	{config.EnvRedisDialTimeout, "bounds one connection attempt (default 2s)"},
	{config.EnvLastGoodFile, "path of a file that keeps the last good flags for the next start"},
	{config.EnvDrainDelay, "how long a stopping service goes on accepting requests (default 5s)"},
	{config.EnvLogLevel, "debug, info, warn or error (default info)"},
	{config.EnvRevision, "revision to send in the header " + config.HeaderRevision},
	{config.EnvSplitFile, "path of the file that says which share of the requests goes to which candidate"},
	{config.EnvSplitSalt, "goes into the choice of who is in that share; the same in all instances"},
}

func describeVariables() []string {
	var lines []string
	for _, v := range slices.Concat(variables, databaseVariables, httpVariables) {
		lines = append(lines, fmt.Sprintf("  %-27s %s", v.name, v.meaning))
	}
	return lines
}
