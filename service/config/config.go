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
	// EnvPostgresURIFile is the path of a file that holds a PostgreSQL connection
	// URI. The flags are then in that database and EnvFlagsFile is not read; the
	// file is read again when it changes. Default: none.
	EnvPostgresURIFile = "FLAGS_POSTGRES_URI_FILE"
	// EnvAdminAddress is where the admin API is answered; it takes EnvPostgresURIFile
	// and EnvAdminTokensDir. Default: none, and then there is no admin API.
	EnvAdminAddress = "ADMIN_ADDRESS"
	// EnvAdminTokensDir is a directory whose files are the admin API's bearer tokens,
	// each named after its client. It is read again when it changes.
	EnvAdminTokensDir = "ADMIN_TOKENS_DIR"
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
	// EnvRedisCAFile is the path of the authorities, in PEM, that certificates of
	// Redis must come from, read again when it changes. Default: none, and then the
	// system's count, unless the binding has its own.
	EnvRedisCAFile = "REDIS_CA_FILE"
	// EnvRedisIAMCacheName turns on authentication by AWS credentials for EnvRedisURL
	// and names the ElastiCache replication group or serverless cache. Default: none.
	EnvRedisIAMCacheName = "REDIS_IAM_CACHE_NAME"
	// EnvRedisIAMUser is the ElastiCache user. Default: the user of EnvRedisURL.
	EnvRedisIAMUser = "REDIS_IAM_USER"
	// EnvRedisIAMRegion is the cache's AWS region. Default: the one that the AWS SDK
	// finds, for example in AWS_REGION.
	EnvRedisIAMRegion = "REDIS_IAM_REGION"
	// EnvRedisIAMServerless is true for a serverless cache. Default: "false".
	EnvRedisIAMServerless = "REDIS_IAM_SERVERLESS"
	// EnvLastGoodFile is the path of a file that keeps the last good flags for a
	// start with nothing reachable. Default: none, and then nothing is kept.
	EnvLastGoodFile = "LAST_GOOD_FILE"
	// EnvDrainDelay is how long a stopping service goes on accepting requests
	// while it reports itself unready, as a Go duration, so that endpoints are
	// withdrawn before connections are refused. Default: "5s".
	EnvDrainDelay = "DRAIN_DELAY"
	// EnvLogLevel is debug, info, warn or error. Default: "info".
	EnvLogLevel = "LOG_LEVEL"
	// EnvRevision is the revision this pod belongs to; it is sent in the
	// HeaderRevision header. Default: none, and then the header is absent.
	EnvRevision = "FLAGCACHE_REVISION"
	// EnvAuthTokensDir is a directory of tokens, usually a mounted Secret: each
	// file holds one, and its name is the client's. With it, requests need one as a
	// bearer token or X-API-Key. The directory is read again when it changes.
	// Default: none, and then everybody is let in.
	EnvAuthTokensDir = "AUTH_TOKENS_DIR"
	// EnvRateLimit is how many requests a second one pod answers; the others get
	// 429. Default: 0, no limit.
	EnvRateLimit = "RATE_LIMIT"
	// EnvRateLimitBurst is how many of them may come at once. Default: as many as
	// come in a second.
	EnvRateLimitBurst = "RATE_LIMIT_BURST"
	// EnvClientRateLimit is how many requests a second one pod answers to the
	// holder of one token. It needs EnvAuthTokensDir. Default: 0, no limit.
	EnvClientRateLimit = "CLIENT_RATE_LIMIT"
	// EnvClientRateLimitBurst is how many of them may come at once. Default: as
	// many as come in a second.
	EnvClientRateLimitBurst = "CLIENT_RATE_LIMIT_BURST"
	// EnvMaxInFlight is how many requests may be answered at a time; more get 429.
	// Default: 1024; 0 is no limit.
	EnvMaxInFlight = "MAX_IN_FLIGHT"
	// EnvMaxConnections is how many connections there may be at a time; more wait,
	// and idle ones make room for them. Default: 4096; 0 is no limit.
	EnvMaxConnections = "MAX_CONNECTIONS"
	// EnvCORSAllowedOrigins is a list, separated by commas, of the origins whose
	// pages may ask, such as "https://shop.example"; "*" is all, "none" is none.
	// Default: "*".
	EnvCORSAllowedOrigins = "CORS_ALLOWED_ORIGINS"
	// EnvCompressFrom is the size in bytes from which bulk answers are compressed
	// with gzip for clients that accept it. Default: 1500; 0 is never.
	EnvCompressFrom = "COMPRESS_FROM"
	// EnvEventStreams is how many clients may be told of changes by event streams at
	// a time. Default: 1000; 0 switches event streams off.
	EnvEventStreams = "EVENT_STREAMS"
	// EnvEventStreamsInactivity is how long clients are told to keep an event stream
	// of a page that nobody looks at, as a Go duration. Default: "2m".
	EnvEventStreamsInactivity = "EVENT_STREAMS_INACTIVITY"
	// EnvEventStreamsHeartbeat is how often a silent event stream gets a comment,
	// as a Go duration; proxies cut streams that say nothing. Default: "15s".
	EnvEventStreamsHeartbeat = "EVENT_STREAMS_HEARTBEAT"
	// EnvEventStreamsSpread is the time over which clients are told of a change, as
	// a Go duration, so that they do not all ask at once. Default: "1s".
	EnvEventStreamsSpread = "EVENT_STREAMS_SPREAD"
	// EnvMaxStaleness is the age of the flags, as a Go duration, past which the
	// service reports itself unready. It goes on answering. Default: 0, no bound.
	EnvMaxStaleness = "MAX_STALENESS"
	// EnvPprofAddress is where Go's profiles are served, under /debug/pprof/.
	// Default: none, and then they are not.
	EnvPprofAddress = "PPROF_ADDRESS"
	// EnvOTLPEndpoint is OpenTelemetry's own: with it, or with its variant for
	// traces alone, requests are traced. Default: none, and then they are not.
	EnvOTLPEndpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	// EnvOTLPTracesEndpoint is EnvOTLPEndpoint's variant for traces alone.
	EnvOTLPTracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	// EnvOTLPProtocol is OpenTelemetry's own; "http/protobuf" is the only one that
	// is spoken.
	EnvOTLPProtocol = "OTEL_EXPORTER_OTLP_PROTOCOL"
	// EnvOTLPTracesProtocol is EnvOTLPProtocol's variant for traces alone.
	EnvOTLPTracesProtocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	// EnvSplitFile is the path of the file that says which share of the requests
	// is handed to which candidate (package split). Default: none, and then every
	// request is answered here.
	EnvSplitFile = "SPLIT_FILE"
	// EnvSplitSalt is the identity of the FlagCache, "namespace/name". It goes
	// into the choice of who is in a share, so that two FlagCaches choose
	// independently and all pods of one choose alike. Default: none.
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

// Paths inside a flag service container.
const (
	// FlagsDir is where the ConfigMap of flags is mounted.
	FlagsDir = "/etc/flagcache/flags"
	// DefaultFlagsFile is the flags file when EnvFlagsFile is not set.
	DefaultFlagsFile = FlagsDir + "/flags.json"
	// PostgresDir is where the Secret with the database's URI is mounted.
	PostgresDir = "/etc/flagcache/postgres"
	// BindingRoot is the value of EnvServiceBindingRoot in our pods.
	BindingRoot = "/bindings"
	// BindingName is the entry of the binding root that holds the cache.
	BindingName = "cache"
	// IntegrityDir is where the key that authenticates cached values is mounted.
	IntegrityDir = "/etc/flagcache/integrity"
	// IntegrityKey is the key's name in its Secret and its file name.
	IntegrityKey = "hmac-key"
	// TrafficDir is where the ConfigMap that splits the traffic is mounted.
	TrafficDir = "/etc/flagcache/traffic"
	// SplitKey is the split's key in that ConfigMap and its file name.
	SplitKey = "split.json"
	// SplitFile is the value of EnvSplitFile in our pods.
	SplitFile = TrafficDir + "/" + SplitKey
)

// HTTP paths.
const (
	PathLive    = "/livez"
	PathReady   = "/readyz"
	PathMetrics = "/metrics"
	// PathEvaluate is OFREP's bulk endpoint; a flag's key follows after a slash.
	PathEvaluate = "/ofrep/v1/evaluate/flags"
	// PathEvents is the endpoint of event streams.
	PathEvents = "/ofrep/v1/events"
	// PathAdmin is where the admin API begins.
	PathAdmin = "/admin/v1"
)

// HeaderRevision is the response header that names the revision that answered.
const HeaderRevision = "FlagCache-Revision"

// HeaderAge is the response header that says how many seconds ago the flags were
// last confirmed by the source or by Redis.
const HeaderAge = "FlagCache-Age"

// HeaderSplit marks a request that a stable pod hands to the candidate, whose
// revision is its value. Such a request is never handed on again. In the
// response of a candidate that is about to end it is SplitDraining.
const HeaderSplit = "FlagCache-Split"

// What became of a request that was handed to the candidate, as the label result
// of MetricSplitRequests. Everything but SplitOK was answered by the stable pod
// instead and is a failure of the candidate.
const (
	// SplitOK is an answer: status 200, 304, 400 or 404.
	SplitOK = "ok"
	// SplitRefused is a connection that did not come about.
	SplitRefused = "refused"
	// SplitTimeout is an answer that was not complete in time.
	SplitTimeout = "timeout"
	// SplitTruncated is a connection that ended before the answer was complete.
	SplitTruncated = "truncated"
	// SplitError is any other status, such as 5xx or 429, and an answer that no
	// client could use.
	SplitError = "error"
)

// Why a request in the candidate's share was not its to answer, as the label
// reason of MetricSplitSkipped. The stable pod answered, and it says nothing
// about the candidate.
const (
	// SplitDraining is a candidate pod that is being stopped, which is no failure
	// of its revision.
	SplitDraining = "draining"
	// SplitBusy is more requests under way to the candidate than a stable pod allows.
	SplitBusy = "busy"
	// SplitCutOff is the pause after many failures in a row.
	SplitCutOff = "cutoff"
	// SplitUnresolved is a name server that does not know the candidate's Service,
	// or does not answer.
	SplitUnresolved = "unresolved"
)

// Whose answer a client got, as the label track of MetricRequests and
// MetricRequestDuration.
const (
	// TrackOwn is an answer of the pod itself.
	TrackOwn = "own"
	// TrackCandidate is one that a candidate gave for it.
	TrackCandidate = "candidate"
)

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
	// MetricRequests counts requests by endpoint (single, bulk, events, other) and
	// code.
	MetricRequests = "ofrep_requests_total"
	// MetricRequestDuration is the latency histogram in seconds, by endpoint.
	MetricRequestDuration = "ofrep_request_duration_seconds"
	// MetricLogDropped counts lines of the log that were dropped because nobody took
	// them.
	MetricLogDropped = "log_lines_dropped_total"
	// MetricStreams is how many event streams are open.
	MetricStreams = "sse_streams"
	// MetricEvaluations counts evaluations by key, variant and reason. Keys are
	// those of the current flags only, so its size is bounded.
	MetricEvaluations = "flag_evaluations_total"
	// MetricCacheRequests counts look-ups in Redis by result: hit, miss, error.
	MetricCacheRequests = "flag_cache_requests_total"
	// MetricCacheBreakerOpen is 1 while Redis is in trouble and is asked once a second
	// only, else 0.
	MetricCacheBreakerOpen = "flag_cache_breaker_open"
	// MetricCacheMissDuration is the histogram of the time from a miss in Redis until
	// the flags were there again, in seconds.
	MetricCacheMissDuration = "flag_cache_miss_duration_seconds"
	// MetricSourceLoads counts readings of the source by result: ok, error.
	MetricSourceLoads = "flag_source_loads_total"
	// MetricSourceLoading is how many readings of the source are going on.
	MetricSourceLoading = "flag_source_loads_in_flight"
	// MetricLastGoodFailures counts failures to write the file of EnvLastGoodFile.
	MetricLastGoodFailures = "flag_last_good_write_failures_total"
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
	// MetricAdminRequests counts requests to the admin API by method and code.
	MetricAdminRequests = "flag_admin_requests_total"
	// MetricAdminInvalidationFailures counts changes that Redis could not be told of.
	MetricAdminInvalidationFailures = "flag_admin_invalidation_failures_total"
	// MetricSourceGood is 1 while the source's document is the one being served,
	// and 0 while an older one or Redis' has to do.
	MetricSourceGood = "flag_source_good"
	// MetricSplitRequests counts, at the stable pods, the requests that the
	// candidate was asked, by revision and result. It is what clients would have
	// seen of the candidate.
	MetricSplitRequests = "split_requests_total"
	// MetricSplitDuration is the latency histogram in seconds of the same requests,
	// failed ones included, by revision.
	MetricSplitDuration = "split_request_duration_seconds"
	// MetricSplitLocal counts requests that a stable pod kept while a split was on,
	// so that the share that was really handed on is
	// MetricSplitRequests / (MetricSplitRequests + MetricSplitLocal).
	MetricSplitLocal = "split_local_total"
	// MetricSplitSkipped counts those of MetricSplitLocal that were in the
	// candidate's share, by revision and reason.
	MetricSplitSkipped = "split_skipped_total"
	// MetricSplitWeight is the share in percent that is being handed on, and 0
	// without a split.
	MetricSplitWeight = "split_weight_percent"
	// MetricSplitFileGood is 1 while the file of EnvSplitFile is absent or can be
	// understood, and 0 while it cannot, which counts as none.
	MetricSplitFileGood = "split_file_good"
)
