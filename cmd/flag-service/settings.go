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

// settings are what the environment says.
type settings struct {
	environment      string
	flagsFile        string
	listenAddress    string
	telemetryAddress string
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

// hasRedis says whether anything names a Redis.
func (s settings) hasRedis() bool { return s.bindingDir != "" || s.redisURL != "" }

// readSettings reads the environment. It returns all that is wrong with it at
// once, each with variable, value and accepted form.
func readSettings(environ []string) (settings, error) {
	r := reader{values: map[string]string{}}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		r.values[name] = value
	}
	s := settings{
		environment:      r.matching(config.EnvEnvironment, "default", environmentName, "up to 253 letters, digits, dots, underscores, slashes and dashes"),
		flagsFile:        r.text(config.EnvFlagsFile, config.DefaultFlagsFile),
		listenAddress:    r.address(config.EnvListenAddress, fmt.Sprintf(":%d", config.PortOFREP)),
		telemetryAddress: r.address(config.EnvTelemetryAddress, fmt.Sprintf(":%d", config.PortTelemetry)),
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
	return s, errors.Join(r.errs...)
}

var (
	environmentName = regexp.MustCompile(`^[A-Za-z0-9._/-]{1,253}$`)
	revisionName    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,253}$`)
)

// reader reads variables and collects what is wrong with them. A variable that
// is empty counts as absent.
type reader struct {
	values map[string]string
	errs   []error
}

func (r *reader) refuse(name, accepted string) {
	r.errs = append(r.errs, fmt.Errorf("%s is %q; it must be %s", name, r.values[name], accepted))
}

func (r *reader) text(name, otherwise string) string {
	if value := r.values[name]; value != "" {
		return value
	}
	return otherwise
}

func (r *reader) matching(name, otherwise string, form *regexp.Regexp, accepted string) string {
	value := r.values[name]
	if value == "" {
		return otherwise
	}
	if !form.MatchString(value) {
		r.refuse(name, accepted)
	}
	return value
}

func (r *reader) address(name, otherwise string) string {
	value := r.text(name, otherwise)
	_, port, err := net.SplitHostPort(value)
	if number, parseErr := strconv.ParseUint(port, 10, 16); err != nil || parseErr != nil || number > 65535 {
		r.refuse(name, "an address such as :8080 or 127.0.0.1:8080")
	}
	return value
}

func (r *reader) duration(name string, otherwise, least, most time.Duration) time.Duration {
	text := r.values[name]
	if text == "" {
		return otherwise
	}
	value, err := time.ParseDuration(text)
	if err != nil || value < least || value > most {
		r.refuse(name, fmt.Sprintf("a duration from %s to %s, such as %s", least, most, otherwise))
	}
	return value
}

func (r *reader) integer(name string, otherwise, least, most int) int {
	text := r.values[name]
	if text == "" {
		return otherwise
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < least || value > most {
		r.refuse(name, fmt.Sprintf("a whole number from %d to %d", least, most))
	}
	return value
}

func (r *reader) flag(name string) bool {
	text := r.values[name]
	if text != "" && text != "true" && text != "false" {
		r.refuse(name, "true or false")
	}
	return text == "true"
}

func (r *reader) level(name string, otherwise slog.Level) slog.Level {
	levels := map[string]slog.Level{
		"": otherwise, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	level, ok := levels[r.values[name]]
	if !ok {
		r.refuse(name, "debug, info, warn or error")
	}
	return level
}

// redisURL checks the URL. The value is not repeated: it may hold a password.
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
