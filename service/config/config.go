// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package config defines the interface between the flag service and its
// deployment: environment variables, ports, paths, headers and metrics.
//
// The operator's plan renders these names into a pod template and the flag
// service reads them, so that neither half imports the other. It contains only
// constants.
package config

// Environment variables of the flag service. All are optional.
const (
	// EnvEnvironment names the set of flags. It becomes part of the Redis key,
	// feature_flags:{environment}. Default: "default".
	EnvEnvironment = "FLAG_ENVIRONMENT"
	// EnvFlagsFile is the path of the flags file in flagd's JSON format.
	// Default: DefaultFlagsFile.
	EnvFlagsFile = "FLAGS_FILE"
	// EnvFlagsManifest is the path of the manifest of published flags: FlagsManifestKey
	// in a mounted ConfigMap that the operator writes. The flags are then read as it
	// describes, instead of from EnvFlagsFile. Default: none.
	EnvFlagsManifest = "FLAGS_MANIFEST"
	// EnvFlagsStore identifies what the flags file is of, such as the name of a
	// FlagCache. A document in Redis of another one is not used.
	EnvFlagsStore = "FLAGS_STORE"
	// EnvPostgresURIFile is the path of a file with a PostgreSQL connection URI.
	// The flags are then read from that database instead of EnvFlagsFile. The file
	// is reloaded when it changes. Default: none.
	EnvPostgresURIFile = "FLAGS_POSTGRES_URI_FILE"
	// EnvAdminAddress is the listen address of the admin API. It requires
	// EnvPostgresURIFile and EnvAdminTokensDir. Default: none, which disables the
	// admin API.
	EnvAdminAddress = "ADMIN_ADDRESS"
	// EnvAdminTokensDir is a directory whose files are the admin API's bearer
	// tokens, each named after its client. It is reloaded when it changes.
	EnvAdminTokensDir = "ADMIN_TOKENS_DIR"
	// EnvListenAddress is the listen address of OFREP. Default: ":8080".
	EnvListenAddress = "LISTEN_ADDRESS"
	// EnvTelemetryAddress is the listen address of /livez, /readyz and /metrics.
	// Default: ":8081".
	EnvTelemetryAddress = "TELEMETRY_ADDRESS"
	// EnvFlagdAddress is the listen address of flagd's evaluation protocols,
	// flagd.evaluation.v1 and v2, such as ":8013". Default: none, which disables them.
	EnvFlagdAddress = "FLAGD_ADDRESS"
	// EnvFlagdSyncAddress is the listen address of flagd's protocol for providers that
	// evaluate flags themselves, flagd.sync.v1, such as ":8015". Whoever may evaluate flags
	// can then read their definitions. Default: none, which disables it.
	EnvFlagdSyncAddress = "FLAGD_SYNC_ADDRESS"
	// EnvServiceBindingRoot is the directory of Service Bindings
	// (https://servicebinding.io); the cache's binding is the entry BindingName.
	// Default: none; EnvRedisURL is used.
	EnvServiceBindingRoot = "SERVICE_BINDING_ROOT"
	// EnvRedisURL is a redis:// or rediss:// URL, used if no binding is mounted.
	// Default: none; without a binding, the service runs without a cache.
	EnvRedisURL = "REDIS_URL"
	// EnvCacheTTL is the TTL of an entry in Redis, as a Go duration. Default: "5m".
	EnvCacheTTL = "CACHE_TTL"
	// EnvCacheHMACKeyFile is the path of the key that authenticates cached values.
	// Values of the keys in the files of the same name with the suffixes
	// IntegrityNextSuffix and IntegrityPreviousSuffix are accepted, too. The files are
	// reloaded when they change. Default: none; values carry a checksum, which detects
	// corruption but not forgery.
	EnvCacheHMACKeyFile = "CACHE_HMAC_KEY_FILE"
	// EnvRedisPoolSize is the maximum number of connections to Redis per pod.
	// Default: 10.
	EnvRedisPoolSize = "REDIS_POOL_SIZE"
	// EnvRedisDialTimeout is the timeout of one connection attempt, as a Go
	// duration. Default: "2s".
	EnvRedisDialTimeout = "REDIS_DIAL_TIMEOUT"
	// EnvRedisCAFile is the path of the CA bundle in PEM that certificates of Redis
	// are verified with, unless the binding contains one. It is reloaded when it
	// changes. Default: none; the system's CAs are trusted.
	EnvRedisCAFile = "REDIS_CA_FILE"
	// EnvRedisIAMCacheName enables authentication by AWS credentials for
	// EnvRedisURL. It is the name of the ElastiCache replication group or
	// serverless cache. Default: none.
	EnvRedisIAMCacheName = "REDIS_IAM_CACHE_NAME"
	// EnvRedisIAMUser is the ElastiCache user. Default: the user of EnvRedisURL.
	EnvRedisIAMUser = "REDIS_IAM_USER"
	// EnvRedisIAMRegion is the cache's AWS region. Default: the region determined
	// by the AWS SDK, for example from AWS_REGION.
	EnvRedisIAMRegion = "REDIS_IAM_REGION"
	// EnvRedisIAMServerless is "true" for a serverless cache. Default: "false".
	EnvRedisIAMServerless = "REDIS_IAM_SERVERLESS"
	// EnvLastGoodFile is the path of a file that keeps the last good flags for a
	// start with neither source nor Redis. Default: none; they are not kept.
	EnvLastGoodFile = "LAST_GOOD_FILE"
	// EnvDrainDelay is how long a stopping service continues to accept requests
	// while it is unready, as a Go duration, so that its endpoint is removed before
	// connections are refused. Default: "5s".
	EnvDrainDelay = "DRAIN_DELAY"
	// EnvLogLevel is debug, info, warn or error. Default: "info".
	EnvLogLevel = "LOG_LEVEL"
	// EnvRevision is the revision that the pod belongs to. It is sent in the
	// HeaderRevision header. Default: none; the header is absent.
	EnvRevision = "FLAGCACHE_REVISION"
	// EnvAuthTokensDir is a directory of tokens, usually a mounted Secret: each
	// file contains one and is named after its client. Requests then require a
	// token, as a bearer token or X-API-Key. The directory is reloaded when it
	// changes. Default: none; requests are not authenticated.
	EnvAuthTokensDir = "AUTH_TOKENS_DIR"
	// EnvRateLimit is the maximum number of requests per second and pod; further
	// ones get 429. Default: 0, no limit.
	EnvRateLimit = "RATE_LIMIT"
	// EnvRateLimitBurst is the burst of EnvRateLimit. Default: the requests of one
	// second.
	EnvRateLimitBurst = "RATE_LIMIT_BURST"
	// EnvClientRateLimit is the maximum number of requests per second, pod and
	// token. It requires EnvAuthTokensDir. Default: 0, no limit.
	EnvClientRateLimit = "CLIENT_RATE_LIMIT"
	// EnvClientRateLimitBurst is the burst of EnvClientRateLimit. Default: the
	// requests of one second.
	EnvClientRateLimitBurst = "CLIENT_RATE_LIMIT_BURST"
	// EnvMaxInFlight is the maximum number of concurrent requests of each protocol; further
	// ones get 429. Default: 1024; 0 is no limit.
	EnvMaxInFlight = "MAX_IN_FLIGHT"
	// EnvMaxBytesInFlight is the maximum number of bytes of responses that are being
	// prepared, or that clients have not received, in the process and in the kernel.
	// Further requests get 503, and connections whose clients receive nothing are
	// reset. Default: 33554432, which is 32 MiB; 0 is no limit.
	EnvMaxBytesInFlight = "MAX_BYTES_IN_FLIGHT"
	// EnvMaxConnections is the maximum number of connections. Further ones wait,
	// and idle ones are closed for them. Default: 4096; 0 is no limit.
	EnvMaxConnections = "MAX_CONNECTIONS"
	// EnvCORSAllowedOrigins is a comma-separated list of the origins whose pages
	// may send requests, such as "https://shop.example"; "*" allows all, "none"
	// allows none. Default: "*".
	EnvCORSAllowedOrigins = "CORS_ALLOWED_ORIGINS"
	// EnvCompressFrom is the size in bytes from which bulk responses are compressed
	// with gzip for clients that accept it. Default: 1500; 0 disables compression.
	EnvCompressFrom = "COMPRESS_FROM"
	// EnvEventStreams is the maximum number of concurrent event streams, those of flagd's
	// protocols included. Default: 1000; 0 disables streams.
	EnvEventStreams = "EVENT_STREAMS"
	// EnvEventStreamsInactivity is how long clients should keep the event stream of
	// an inactive page, as a Go duration. Default: "2m".
	EnvEventStreamsInactivity = "EVENT_STREAMS_INACTIVITY"
	// EnvEventStreamsHeartbeat is the interval at which an idle event stream is
	// sent a comment, as a Go duration: proxies close idle streams. Default: "15s".
	EnvEventStreamsHeartbeat = "EVENT_STREAMS_HEARTBEAT"
	// EnvEventStreamsSpread is the time over which clients are notified of a
	// change, as a Go duration, so that they do not all send requests at once.
	// Default: "1s".
	EnvEventStreamsSpread = "EVENT_STREAMS_SPREAD"
	// EnvMaxStaleness is the age of the flags, as a Go duration, beyond which the
	// service is unready. It still answers requests. Default: 0, no limit.
	EnvMaxStaleness = "MAX_STALENESS"
	// EnvPprofAddress is the listen address of Go's profiles, under /debug/pprof/.
	// Default: none, which disables them.
	EnvPprofAddress = "PPROF_ADDRESS"
	// EnvOTLPEndpoint is defined by OpenTelemetry: if it, or its variant for traces
	// alone, is set, requests are traced. Default: none, which disables tracing.
	EnvOTLPEndpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	// EnvOTLPTracesEndpoint is EnvOTLPEndpoint's variant for traces alone.
	EnvOTLPTracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	// EnvOTLPProtocol is defined by OpenTelemetry; only "http/protobuf" is
	// supported.
	EnvOTLPProtocol = "OTEL_EXPORTER_OTLP_PROTOCOL"
	// EnvOTLPTracesProtocol is EnvOTLPProtocol's variant for traces alone.
	EnvOTLPTracesProtocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	// EnvSplitFile is the path of the file with the share of requests that is
	// forwarded to the candidate (see package split). Default: none; every request
	// is answered locally.
	EnvSplitFile = "SPLIT_FILE"
	// EnvSplitSalt is the identity of the FlagCache, "namespace/name". It is part
	// of the hash that selects the callers in a share, so that two FlagCaches
	// select independently and all pods of one select alike. Default: none.
	EnvSplitSalt = "SPLIT_SALT"
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

// PostgresSSLModes are the modes of the parameter sslmode that decide whether a connection to the
// database is encrypted. Without one, and with allow and prefer, whoever is between the two
// decides.
const PostgresSSLModes = "disable, require, verify-ca, verify-full"

// Keys of the ConfigMap with published flags, and the version of the manifest's layout.
const (
	// FlagsManifestKey has the manifest, in JSON: its version, the store, and the number
	// and digest of the current document.
	FlagsManifestKey = "manifest.json"
	// FlagsDocumentKey has the current document, compressed with gzip, as binary data.
	FlagsDocumentKey = "flags.json.gz"
	// FlagsManifestVersion is the version of the manifest's layout.
	FlagsManifestVersion = 1
	// FlagsNumberLead is by how much the number of a document may exceed the time in
	// seconds since 1970, with which a series of numbers begins. There are fewer changes
	// than seconds, so only somebody else, or a wrong clock, gives out a higher one, which
	// no later document would reach.
	FlagsNumberLead = 24 * 60 * 60
	// FlagsClockSkew is by how much the clock of a pod may be ahead of, or behind, that of
	// the operator, in seconds: pods accept numbers that exceed their time by both.
	FlagsClockSkew = 24 * 60 * 60
)

// Paths inside a flag service container.
const (
	// FlagsDir is the mount path of the flags ConfigMap.
	FlagsDir = "/etc/flagcache/flags"
	// DefaultFlagsFile is the default of EnvFlagsFile.
	DefaultFlagsFile = FlagsDir + "/flags.json"
	// PostgresDir is the mount path of the Secret with the database URI.
	PostgresDir = "/etc/flagcache/postgres"
	// BindingRoot is the value of EnvServiceBindingRoot in the operator's pods.
	BindingRoot = "/bindings"
	// BindingName is the entry of the cache in the binding root.
	BindingName = "cache"
	// IntegrityDir is the mount path of the key that authenticates cached values.
	IntegrityDir = "/etc/flagcache/integrity"
	// IntegrityKey is the name of that key in its Secret, and of its file. Beside it may be,
	// with these suffixes, the key that is used next and the one that was used before: values
	// that they authenticate are accepted, too.
	IntegrityKey            = "hmac-key"
	IntegrityNextSuffix     = "-next"
	IntegrityPreviousSuffix = "-previous"
	// TrafficDir is the mount path of the ConfigMap with the traffic split.
	TrafficDir = "/etc/flagcache/traffic"
	// SplitKey is the split's key in that ConfigMap, and the name of its file.
	SplitKey = "split.json"
	// SplitFile is the value of EnvSplitFile in the operator's pods.
	SplitFile = TrafficDir + "/" + SplitKey
)

// HTTP paths.
const (
	PathLive    = "/livez"
	PathReady   = "/readyz"
	PathMetrics = "/metrics"
	// PathEvaluate is OFREP's bulk endpoint. For a single flag, a slash and its key
	// follow.
	PathEvaluate = "/ofrep/v1/evaluate/flags"
	// PathEvents is the endpoint of event streams.
	PathEvents = "/ofrep/v1/events"
	// PathAdmin is the prefix of the admin API.
	PathAdmin = "/admin/v1"
)

// HeaderRevision is the response header with the revision that answered.
const HeaderRevision = "FlagCache-Revision"

// HeaderAge is the response header with the number of seconds since the source
// or Redis last confirmed the flags.
const HeaderAge = "FlagCache-Age"

// HeaderBehind is the header of a response from flags that are older than those the
// request demands. Its value is their version.
const HeaderBehind = "FlagCache-Behind"

// HeaderSplit marks a request that a stable pod forwards to the candidate. Its
// values are the candidate's revision and, since a client may set the header too,
// secret identities of the pods that have forwarded the request, so that each of
// them forwards it once.
// In the response of a terminating candidate its value is SplitDraining.
const HeaderSplit = "FlagCache-Split"

// Results of a request that was forwarded to the candidate: the label result of
// MetricSplitRequests. All but SplitOK are failures of the candidate, and the
// stable pod answered instead.
const (
	// SplitOK is a response with status 200, 304, 400 or 404 that answers the
	// request.
	SplitOK = "ok"
	// SplitRefused is a connection that could not be established.
	SplitRefused = "refused"
	// SplitTimeout is a response that was not complete in time.
	SplitTimeout = "timeout"
	// SplitTruncated is a connection that was closed before the response was
	// complete.
	SplitTruncated = "truncated"
	// SplitError is any other status, such as 5xx or 429, or an invalid response.
	SplitError = "error"
)

// Reasons why a request in the candidate's share was answered by the stable pod
// without being a failure of the candidate: the label reason of
// MetricSplitSkipped.
const (
	// SplitDraining is a candidate pod that is terminating, which is not a failure
	// of its revision.
	SplitDraining = "draining"
	// SplitBusy is a stable pod that has reached its limit of concurrent requests
	// to the candidate, or of responses that are larger than its own.
	SplitBusy = "busy"
	// SplitCutOff is the pause after many consecutive failures.
	SplitCutOff = "cutoff"
	// SplitUnresolved is a failed DNS lookup of the candidate's Service.
	SplitUnresolved = "unresolved"
	// SplitOversized is a request whose URL and headers are too large to be
	// forwarded, or whose response may be too large to be checked.
	SplitOversized = "oversized"
	// SplitMissing is a response without a flag that the stable pod serves, while a
	// change of flags may not have reached the candidate yet.
	SplitMissing = "missing"
	// SplitBehind is a response from flags that are older than those the request
	// demands.
	SplitBehind = "behind"
)

// Who answered a request: the label track of MetricRequests and
// MetricRequestDuration.
const (
	// TrackOwn is a request answered by the pod itself.
	TrackOwn = "own"
	// TrackCandidate is a request answered by the candidate.
	TrackCandidate = "candidate"
)

// Names in Redis.
const (
	// RedisKeyPrefix is followed by the environment.
	RedisKeyPrefix = "feature_flags:"
	// RedisChannelPrefix is followed by the environment; a message on the channel
	// means that the key's value changed.
	RedisChannelPrefix = "feature_flags_changed:"
	// RedisLockPrefix is followed by the environment; the holder of the lock may
	// refill the cache from the source.
	RedisLockPrefix = "feature_flags_lock:"
)

// Metrics of the flag service, by name.
const (
	// MetricRequests counts requests by endpoint (single, bulk, events, other) and
	// code.
	MetricRequests = "ofrep_requests_total"
	// MetricRequestDuration is the latency histogram in seconds, by endpoint.
	MetricRequestDuration = "ofrep_request_duration_seconds"
	// MetricFreshnessWaits counts the requests for more recent flags than the served
	// ones, by the result of the wait for them: fresh, behind, refused, ended.
	MetricFreshnessWaits = "ofrep_freshness_waits_total"
	// MetricFreshnessWaiting is the number of requests that wait for them.
	MetricFreshnessWaiting = "ofrep_freshness_waiting"
	// MetricFreshnessWait is the histogram of the durations of these waits in seconds.
	// They are no part of MetricRequestDuration.
	MetricFreshnessWait = "ofrep_freshness_wait_seconds"
	// MetricLogDropped counts log lines that were dropped because the log was not
	// read fast enough.
	MetricLogDropped = "log_lines_dropped_total"
	// MetricStreams is the number of open event streams, and streams of flagd's protocols.
	MetricStreams = "sse_streams"
	// MetricBytesInFlight is the number of bytes of responses that are being prepared,
	// or that clients have not received.
	MetricBytesInFlight = "flag_service_bytes_in_flight"
	// MetricResponsesRefused counts the requests that were refused because of it.
	MetricResponsesRefused = "flag_service_responses_refused_total"
	// MetricSlowReaders counts the connections that were reset because their clients
	// did not receive responses.
	MetricSlowReaders = "flag_service_slow_readers_total"
	// MetricFlagdRequests counts requests of flagd's protocols by service, method and code.
	MetricFlagdRequests = "flagd_requests_total"
	// MetricFlagdRequestDuration is their latency histogram in seconds by service, without
	// streams.
	MetricFlagdRequestDuration = "flagd_request_duration_seconds"
	// MetricEvaluations counts evaluations by key, variant and reason. Keys are
	// those of the current flags only, so its size is bounded.
	MetricEvaluations = "flag_evaluations_total"
	// MetricCacheRequests counts lookups in Redis by result: hit, miss, error.
	MetricCacheRequests = "flag_cache_requests_total"
	// MetricCacheBreakerOpen is 1 while Redis is unavailable and only probed once
	// per second, else 0.
	MetricCacheBreakerOpen = "flag_cache_breaker_open"
	// MetricCacheMissDuration is the histogram of the time from a miss in Redis
	// until the flags were available again, in seconds.
	MetricCacheMissDuration = "flag_cache_miss_duration_seconds"
	// MetricCacheWaitTimeouts counts the waits for Redis, such as for another
	// instance's lock, that were too long and ended without it.
	MetricCacheWaitTimeouts = "flag_cache_wait_timeouts_total"
	// MetricCacheRefused counts the lookups in Redis whose document was not used.
	MetricCacheRefused = "flag_cache_refused_total"
	// MetricCacheForeign is 1 while the document in Redis is that of another store, or
	// was sealed with another integrity key.
	MetricCacheForeign = "flag_cache_foreign"
	// MetricSourceLoads counts reads of the source by result: ok, error.
	MetricSourceLoads = "flag_source_loads_total"
	// MetricSourceLoading is the number of reads of the source in progress.
	MetricSourceLoading = "flag_source_loads_in_flight"
	// MetricLastGoodFailures counts failures to write the file of EnvLastGoodFile.
	MetricLastGoodFailures = "flag_last_good_write_failures_total"
	// MetricSnapshotAge is the time in seconds since the source or Redis last
	// confirmed the served flags.
	MetricSnapshotAge = "flag_config_age_seconds"
	// MetricSnapshotGeneration is incremented each time another set of flags is
	// served.
	MetricSnapshotGeneration = "flag_config_generation"
	// MetricSnapshotFlags is the number of flags served.
	MetricSnapshotFlags = "flag_config_flags"
	// MetricSnapshotInfo is 1, with the digest of the served document in the label
	// LabelDigest: its SHA-256 in hexadecimal. There is none before the first
	// document.
	MetricSnapshotInfo = "flag_config_info"
	// LabelDigest is the label of MetricSnapshotInfo.
	LabelDigest = "digest"
	// MetricSnapshotProblems is the number of problems with single flags in the
	// served document, or in a later one of which all flags were rejected; most
	// problems reject the flag.
	MetricSnapshotProblems = "flag_config_problems"
	// MetricAdminRequests counts requests to the admin API by method and code.
	MetricAdminRequests = "flag_admin_requests_total"
	// MetricAdminInvalidationFailures counts changes that could not be published to
	// Redis.
	MetricAdminInvalidationFailures = "flag_admin_invalidation_failures_total"
	// MetricSourceGood is 1 while the source's document is served, and 0 while an
	// older one or the one in Redis is served instead.
	MetricSourceGood = "flag_source_good"
	// MetricSplitRequests counts, at the stable pods, the requests that were
	// forwarded to the candidate, by revision and result: the results that clients
	// would have seen.
	MetricSplitRequests = "split_requests_total"
	// MetricSplitDuration is the latency histogram in seconds of the same requests,
	// failed ones included, by revision.
	MetricSplitDuration = "split_request_duration_seconds"
	// MetricSplitLocal counts requests that a stable pod answered itself during a
	// split, so that the share that was actually forwarded is MetricSplitRequests /
	// (MetricSplitRequests + MetricSplitLocal).
	MetricSplitLocal = "split_local_total"
	// MetricSplitSkipped counts those of MetricSplitLocal that were in the
	// candidate's share, by revision and reason.
	MetricSplitSkipped = "split_skipped_total"
	// MetricSplitWeight is the share in percent that is being forwarded, 0 without
	// a split.
	MetricSplitWeight = "split_weight_percent"
	// MetricSplitFileGood is 1 while the file of EnvSplitFile is absent or valid,
	// and 0 while it is invalid, which disables the split.
	MetricSplitFileGood = "split_file_good"
)
