// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// flag-service serves OpenFeature's remote evaluation protocol, and optionally flagd's
// protocols, from flags in flagd's format, with Redis as an optional shared cache.
//
//	flag-service               serve, configured by the environment
//	flag-service lint FILE...  check flag files
//	flag-service loadtest URL  load-test a flag service
//	flag-service version       print the version
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
	// A second signal ends the process immediately.
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
	_, _ = fmt.Fprintf(to, `flag-service serves OpenFeature's remote evaluation protocol (OFREP).

Usage:
  flag-service               serve
  flag-service lint FILE...  check flag files, - is standard input; exits with 1
                             if there are problems
  flag-service loadtest URL  load-test a flag service; exits with 1 if it exceeds a limit
  flag-service version       print the version

Environment of serve:
%s
`, strings.Join(describeVariables(), "\n"))
}

// variable is an environment variable with its documentation.
type variable struct{ name, meaning string }

// variables describes the environment variables, in the order of the
// documentation.
var variables = []variable{
	{config.EnvEnvironment, `name of the flag set, part of the Redis key (default "default")`},
	{config.EnvFlagsFile, "path of the flags file in flagd's JSON format (default " + config.DefaultFlagsFile + ")"},
	{config.EnvFlagsManifest, "path of the manifest of published flags, as the operator writes it; they are then read instead of the flags file"},
	{config.EnvFlagsStore, "identity of what the file is of, such as the name of a FlagCache; documents in Redis of another one are not used"},
	{config.EnvListenAddress, "listen address of OFREP (default :8080)"},
	{config.EnvFlagdAddress, "listen address of flagd's evaluation protocols, such as :8013 (default: disabled)"},
	{config.EnvFlagdSyncAddress, "listen address of flagd's sync protocol, such as :8015; it has the definitions of flags (default: disabled)"},
	{config.EnvTelemetryAddress, "listen address of /livez, /readyz and /metrics (default :8081)"},
	{config.EnvServiceBindingRoot, `directory of Service Bindings; its entry "cache" is the binding of Redis`},
	{config.EnvRedisURL, "redis:// or rediss:// URL, also with +sentinel or +cluster, used if no binding is mounted"},
	{config.EnvRedisCAFile, "path of the CA bundle for Redis (default: the system's CAs)"},
	{config.EnvRedisIAMCacheName, "ElastiCache cache to authenticate to with AWS credentials"},
	{config.EnvRedisIAMUser, "ElastiCache user (default: the user of the URL)"},
	{config.EnvRedisIAMRegion, "AWS region of the cache (default: determined by the AWS SDK)"},
	{config.EnvRedisIAMServerless, "true for a serverless cache (default false)"},
	{config.EnvCacheTTL, "TTL of an entry in Redis (default 5m)"},
	{config.EnvCacheHMACKeyFile, "path of the key that authenticates values in Redis; those of PATH-next and PATH-previous are accepted as well"},
	{config.EnvRedisPoolSize, "maximum number of connections to Redis (default 10)"},
	{config.EnvRedisDialTimeout, "timeout of one connection attempt to Redis (default 2s)"},
	{config.EnvLastGoodFile, "path of a file that keeps the last good flags for the next start"},
	{config.EnvDrainDelay, "how long a stopping service continues to accept requests (default 5s)"},
	{config.EnvLogLevel, "debug, info, warn or error (default info)"},
	{config.EnvRevision, "revision to send in the header " + config.HeaderRevision},
	{config.EnvSplitFile, "path of the file with the share of requests that is forwarded to the candidate"},
	{config.EnvSplitSalt, "salt of the selection of that share; the same in all instances"},
}

func describeVariables() []string {
	var lines []string
	for _, v := range slices.Concat(variables, databaseVariables, httpVariables) {
		lines = append(lines, fmt.Sprintf("  %-27s %s", v.name, v.meaning))
	}
	return lines
}
