// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/config"
)

// settings are the settings in the environment.
type settings struct {
	environment      string
	flagsFile        string
	flagsManifest    string
	flagsStore       string
	listenAddress    string
	telemetryAddress string
	flagdAddress     string
	flagdSyncAddress string
	bindingDir       string
	redisURL         string
	cacheTTL         time.Duration
	hmacKeyFile      string
	poolSize         int
	dialTimeout      time.Duration
	redisCAFile      string
	redisIAM         cache.IAM
	lastGoodFile     string
	drainDelay       time.Duration
	logLevel         slog.Level
	revision         string
	splitFile        string
	splitSalt        string
	database         databaseSettings
	http             httpSettings
}

// hasRedis reports whether Redis is configured.
func (s settings) hasRedis() bool { return s.bindingDir != "" || s.redisURL != "" }

// readSettings reads the environment. Its error contains all problems, each
// with variable, value and accepted form.
func readSettings(environ []string) (settings, error) {
	r := reader{values: map[string]string{}}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		r.values[name] = value
	}
	s := settings{
		environment:      r.matching(config.EnvEnvironment, "default", environmentName, "up to 253 letters, digits, dots, underscores, slashes and dashes"),
		flagsFile:        r.text(config.EnvFlagsFile, config.DefaultFlagsFile),
		flagsManifest:    r.text(config.EnvFlagsManifest, ""),
		flagsStore:       r.matching(config.EnvFlagsStore, "", storeName, "up to 253 letters, digits, dots, colons, underscores, slashes and dashes"),
		listenAddress:    r.address(config.EnvListenAddress, fmt.Sprintf(":%d", config.PortOFREP)),
		telemetryAddress: r.address(config.EnvTelemetryAddress, fmt.Sprintf(":%d", config.PortTelemetry)),
		flagdAddress:     r.optionalAddress(config.EnvFlagdAddress),
		flagdSyncAddress: r.optionalAddress(config.EnvFlagdSyncAddress),
		redisURL:         r.redisURL(config.EnvRedisURL),
		cacheTTL:         r.duration(config.EnvCacheTTL, 5*time.Minute, time.Second, 24*time.Hour),
		hmacKeyFile:      r.text(config.EnvCacheHMACKeyFile, ""),
		poolSize:         r.integer(config.EnvRedisPoolSize, 10, 1, 1000),
		dialTimeout:      r.duration(config.EnvRedisDialTimeout, 2*time.Second, time.Millisecond, 30*time.Second),
		redisCAFile:      r.text(config.EnvRedisCAFile, ""),
		lastGoodFile:     r.text(config.EnvLastGoodFile, ""),
		redisIAM: cache.IAM{
			CacheName:  r.text(config.EnvRedisIAMCacheName, ""),
			User:       r.text(config.EnvRedisIAMUser, ""),
			Region:     r.text(config.EnvRedisIAMRegion, ""),
			Serverless: r.flag(config.EnvRedisIAMServerless),
		},
		drainDelay: r.duration(config.EnvDrainDelay, 5*time.Second, 0, 10*time.Minute),
		logLevel:   r.level(config.EnvLogLevel, slog.LevelInfo),
		revision:   r.matching(config.EnvRevision, "", revisionName, "up to 253 letters, digits, dots, underscores and dashes"),
		splitFile:  r.text(config.EnvSplitFile, ""),
		splitSalt:  r.text(config.EnvSplitSalt, ""),
		database:   readDatabaseSettings(&r),
		http:       readHTTPSettings(&r),
	}
	if root := r.text(config.EnvServiceBindingRoot, ""); root != "" {
		s.bindingDir = filepath.Join(root, config.BindingName)
	}
	files := []string{s.flagsFile, s.flagsManifest, s.splitFile, s.database.uriFile, r.text(config.EnvCacheHMACKeyFile, "")}
	r.rejectSharedTokens(config.EnvAuthTokensDir, s.http.tokensDir, files)
	r.rejectSharedTokens(config.EnvAdminTokensDir, s.database.adminTokensDir, files)
	return s, errors.Join(r.errs...)
}

var (
	environmentName = regexp.MustCompile(`^[A-Za-z0-9._/-]{1,253}$`)
	storeName       = regexp.MustCompile(`^[A-Za-z0-9.:_/-]{1,253}$`)
	revisionName    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,253}$`)
)

// reader reads variables and collects errors. An empty variable counts as
// unset.
type reader struct {
	values map[string]string
	errs   []error
}

func (r *reader) reject(name, accepted string) {
	r.errs = append(r.errs, fmt.Errorf("%s is %q; it must be %s", name, r.values[name], accepted))
}

// rejectSharedTokens rejects a directory of tokens that also has other files of the service:
// each file of it is a token, and the host name of the cache is known to many.
func (r *reader) rejectSharedTokens(name, dir string, files []string) {
	if dir == "" {
		return
	}
	shared := within(dir, r.values[config.EnvServiceBindingRoot])
	for _, file := range files {
		shared = shared || file != "" && resolve(dir) == resolve(filepath.Dir(file))
	}
	if shared {
		r.reject(name, "a directory of its own: every file in it is a token")
	}
}

// within reports whether a directory is another one, or is in it.
func within(dir, other string) bool {
	if other == "" {
		return false
	}
	relative, err := filepath.Rel(resolve(other), resolve(dir))
	return err == nil && relative != ".." && !strings.HasPrefix(relative, "../")
}

// resolve returns a path without symbolic links, as far as it exists.
func resolve(path string) string {
	if existing, err := filepath.EvalSymlinks(path); err == nil {
		return existing
	}
	return filepath.Clean(path)
}

func (r *reader) text(name, fallback string) string {
	if value := r.values[name]; value != "" {
		return value
	}
	return fallback
}

func (r *reader) matching(name, fallback string, form *regexp.Regexp, accepted string) string {
	value := r.values[name]
	if value == "" {
		return fallback
	}
	if !form.MatchString(value) {
		r.reject(name, accepted)
	}
	return value
}

func (r *reader) address(name, fallback string) string {
	value := r.text(name, fallback)
	_, port, err := net.SplitHostPort(value)
	if number, parseErr := strconv.ParseUint(port, 10, 16); err != nil || parseErr != nil || number > 65535 {
		r.reject(name, "an address such as :8080 or 127.0.0.1:8080")
	}
	return value
}

// optionalAddress reads an address that disables something if it is unset.
func (r *reader) optionalAddress(name string) string {
	if r.text(name, "") == "" {
		return ""
	}
	return r.address(name, "")
}

func (r *reader) duration(name string, fallback, minimum, maximum time.Duration) time.Duration {
	text := r.values[name]
	if text == "" {
		return fallback
	}
	value, err := time.ParseDuration(text)
	if err != nil || value < minimum || value > maximum {
		r.reject(name, fmt.Sprintf("a duration from %s to %s, such as %s", minimum, maximum, fallback))
	}
	return value
}

func (r *reader) integer(name string, fallback, minimum, maximum int) int {
	text := r.values[name]
	if text == "" {
		return fallback
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < minimum || value > maximum {
		r.reject(name, fmt.Sprintf("an integer from %d to %d", minimum, maximum))
	}
	return value
}

func (r *reader) flag(name string) bool {
	text := r.values[name]
	if text != "" && text != "true" && text != "false" {
		r.reject(name, "true or false")
	}
	return text == "true"
}

func (r *reader) level(name string, fallback slog.Level) slog.Level {
	levels := map[string]slog.Level{
		"": fallback, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	level, ok := levels[r.values[name]]
	if !ok {
		r.reject(name, "debug, info, warn or error")
	}
	return level
}

// redisURL validates the URL. Errors do not quote the value, which may contain
// a password.
func (r *reader) redisURL(name string) string {
	value := r.values[name]
	if value == "" {
		return ""
	}
	if err := cache.CheckURL(value); err != nil {
		r.errs = append(r.errs, fmt.Errorf("%s (%d characters, not shown) is %w", name, len(value), err))
	}
	return value
}
