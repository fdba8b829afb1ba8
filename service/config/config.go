// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package config names the contract between the flag service and whoever
// runs it: environment variables, ports, paths, headers and metrics.
//
// The operator's plan renders these names into a pod template and the flag
// service reads them, so that neither half imports the other. Only constants
// live here.
package config

// Environment variables that the flag service reads. Each has a default, so
// the service starts without any of them.
const (
	// EnvEnvironment names the set of flags. It becomes part of the Redis key,
	// feature_flags:{environment}. Default: "default".
	EnvEnvironment = "FLAG_ENVIRONMENT"
	// EnvFlagsFile is the path of the flags file in flagd's JSON format.
	// Default: DefaultFlagsFile.
	EnvFlagsFile = "FLAGS_FILE"
	// EnvListenAddress is where OFREP is answered. Default: ":8080".
	EnvListenAddress = "LISTEN_ADDRESS"
	// EnvTelemetryAddress is where /livez, /readyz and /metrics are answered.
	// Default: ":8081".
	EnvTelemetryAddress = "TELEMETRY_ADDRESS"
	// EnvServiceBindingRoot is the directory of Service Bindings
	// (https://servicebinding.io); the cache's is its entry BindingName.
	// Default: none, and then EnvRedisURL is used.
	EnvServiceBindingRoot = "SERVICE_BINDING_ROOT"
	// EnvRedisURL is a redis:// or rediss:// URL, used where no binding is
	// mounted. Default: none; without either the service runs without a cache.
	EnvRedisURL = "REDIS_URL"
	// EnvCacheTTL is how long an entry lives in Redis, as a Go duration.
	// Default: "5m".
	EnvCacheTTL = "CACHE_TTL"
	// EnvCacheHMACKeyFile is the path of the key that authenticates cached
	// values. The file is read again when it changes. Default: none, and then
	// values carry a checksum, which detects damage but not forgery.
	EnvCacheHMACKeyFile = "CACHE_HMAC_KEY_FILE"
	// EnvRedisPoolSize is the most connections to Redis of one pod. Default: 10.
	EnvRedisPoolSize = "REDIS_POOL_SIZE"
	// EnvRedisDialTimeout bounds one connection attempt, as a Go duration.
	// Default: "2s".
	EnvRedisDialTimeout = "REDIS_DIAL_TIMEOUT"
	// EnvDrainDelay is how long a stopping service goes on accepting requests
	// while it reports itself unready, as a Go duration, so that endpoints are
	// withdrawn before connections are refused. Default: "5s".
	EnvDrainDelay = "DRAIN_DELAY"
	// EnvLogLevel is debug, info, warn or error. Default: "info".
	EnvLogLevel = "LOG_LEVEL"
	// EnvRevision is the revision this pod belongs to; it is sent in the
	// HeaderRevision header. Default: none, and then the header is absent.
	EnvRevision = "FLAGCACHE_REVISION"
)

// Ports of a flag service pod, and the name of the port of its Service.
const (
	// PortOFREP answers OFREP requests.
	PortOFREP = 8080
	// PortTelemetry answers /livez, /readyz and /metrics.
	PortTelemetry = 8081

	PortNameOFREP     = "ofrep"
	PortNameTelemetry = "telemetry"
)

// Paths inside a flag service container.
const (
	// FlagsDir is where the ConfigMap of flags is mounted.
	FlagsDir = "/etc/flagcache/flags"
	// DefaultFlagsFile is the flags file when EnvFlagsFile is not set.
	DefaultFlagsFile = FlagsDir + "/flags.json"
	// BindingRoot is the value of EnvServiceBindingRoot in our pods.
	BindingRoot = "/bindings"
	// BindingName is the entry of the binding root that holds the cache.
	BindingName = "cache"
	// IntegrityDir is where the key that authenticates cached values is mounted.
	IntegrityDir = "/etc/flagcache/integrity"
	// IntegrityKey is the key's name in its Secret and its file name.
	IntegrityKey = "hmac-key"
)

// HTTP paths.
const (
	PathLive    = "/livez"
	PathReady   = "/readyz"
	PathMetrics = "/metrics"
	// PathEvaluate is OFREP's bulk endpoint; a flag's key follows after a slash.
	PathEvaluate = "/ofrep/v1/evaluate/flags"
)

// HeaderRevision is the response header that names the revision that answered.
const HeaderRevision = "FlagCache-Revision"

// Names in Redis.
const (
	// RedisKeyPrefix is followed by the environment.
	RedisKeyPrefix = "feature_flags:"
	// RedisChannelPrefix is followed by the environment; a message on the
	// channel says that the key's value changed.
	RedisChannelPrefix = "feature_flags_changed:"
	// RedisLockPrefix is followed by the environment; who holds the key may
	// refill the cache from the source.
	RedisLockPrefix = "feature_flags_lock:"
)

// Metrics of the flag service, by name.
const (
	// MetricRequests counts requests by endpoint (single, bulk) and code.
	MetricRequests = "ofrep_requests_total"
	// MetricRequestDuration is the latency histogram in seconds, by endpoint.
	MetricRequestDuration = "ofrep_request_duration_seconds"
	// MetricEvaluations counts evaluations by key, variant and reason. Keys are
	// those of the current flags only, so its size is bounded.
	MetricEvaluations = "flag_evaluations_total"
	// MetricCacheRequests counts look-ups in Redis by result: hit, miss, error.
	MetricCacheRequests = "flag_cache_requests_total"
	// MetricSnapshotAge is the time in seconds since the flags being served were
	// last confirmed by the source or by Redis.
	MetricSnapshotAge = "flag_config_age_seconds"
	// MetricSnapshotGeneration rises by one each time another set of flags is served.
	MetricSnapshotGeneration = "flag_config_generation"
	// MetricSnapshotFlags is how many flags are being served.
	MetricSnapshotFlags = "flag_config_flags"
	// MetricSnapshotProblems is how many problems single flags of the document
	// being served have; most of them leave the flag out.
	MetricSnapshotProblems = "flag_config_problems"
	// MetricSourceGood is 1 while the source's document is the one being served,
	// and 0 while an older one or Redis' has to do.
	MetricSourceGood = "flag_source_good"
)
