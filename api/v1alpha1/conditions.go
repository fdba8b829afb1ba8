// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// ConditionReady is the summary: the current spec is served, from valid flags,
// with a healthy cache. False or Unknown carries the reason of the first
// condition that is in the way.
const (
	ConditionReady = "Ready"

	// ReasonReady: everything that the spec asks for is there and works.
	ReasonReady = "Ready"
	// ReasonSuspended: spec.suspend is true, so the operator changes nothing.
	ReasonSuspended = "Suspended"
	// ReasonInitializing: the operator has seen the FlagCache and starts.
	ReasonInitializing = "Initializing"
	// ReasonDeleting: the FlagCache is being deleted; the message says what is left.
	ReasonDeleting = "Deleting"
)

// ConditionReconciling is present, and True, while the operator works towards
// the spec (kstatus).
const (
	ConditionReconciling = "Reconciling"

	// ReasonRetrying: a call to the API server failed and is tried again.
	ReasonRetrying = "Retrying"
	// ReasonForbidden: the operator's RBAC does not allow a call it needs.
	ReasonForbidden = "Forbidden"
	// ReasonQuotaExceeded: a ResourceQuota or LimitRange refuses a child.
	ReasonQuotaExceeded = "QuotaExceeded"
	// ReasonNamespaceTerminating: the namespace is being deleted, nothing new can be made.
	ReasonNamespaceTerminating = "NamespaceTerminating"
)

// ConditionStalled is present, and True, when only a person can make progress
// possible (kstatus). Its reason is the same as Ready's.
const (
	ConditionStalled = "Stalled"

	// ReasonNameConflict: a child's name is taken by an object of someone else.
	ReasonNameConflict = "NameConflict"
	// ReasonInvalidChild: the API server refuses a child as invalid.
	ReasonInvalidChild = "InvalidChild"
)

// ConditionCacheProvisioned says what provides the cache: the cloud, the
// StatefulSet, or the Secret of an external one. The data path is
// ConditionCacheHealthy's business.
const (
	ConditionCacheProvisioned = "CacheProvisioned"

	// ReasonProvisioned: the cache exists.
	ReasonProvisioned = "Provisioned"
	// ReasonProvisioning: the cache is being made.
	ReasonProvisioning = "Provisioning"
	// ReasonSecretNotFound: the Secret that the spec refers to does not exist.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonSecretNotPermitted: the Secret lacks the label that lets FlagCaches use it.
	ReasonSecretNotPermitted = "SecretNotPermitted"
	// ReasonSecretInvalid: the Secret lacks a key or has an unusable value.
	ReasonSecretInvalid = "SecretInvalid"
	// ReasonModifying: the cache works, and a change of the spec is being carried out.
	ReasonModifying = "Modifying"
	// ReasonACKNotInstalled: the CustomResourceDefinitions of an ACK controller are missing; it is noticed when they come.
	ReasonACKNotInstalled = "ACKNotInstalled"
	// ReasonACKNotResponding: ACK has not looked at an object for too long: its controller is stopped, overloaded, or watches other namespaces.
	ReasonACKNotResponding = "ACKNotResponding"
	// ReasonReferenceNotFound: ACK does not find something that an object refers to.
	ReasonReferenceNotFound = "ReferenceNotFound"
	// ReasonAWSRetrying: AWS refused a call for now and ACK tries it again.
	ReasonAWSRetrying = "AWSRetrying"
	// ReasonAWSAccessDenied: ACK's role lacks a permission; ACK tries again.
	ReasonAWSAccessDenied = "AWSAccessDenied"
	// ReasonAWSQuotaExceeded: a quota of the AWS account is used up; it is tried again every eight minutes.
	ReasonAWSQuotaExceeded = "AWSQuotaExceeded"
	// ReasonAWSInsufficientCapacity: AWS has no such nodes for now; it is tried again every eight minutes.
	ReasonAWSInsufficientCapacity = "AWSInsufficientCapacity"
	// ReasonAWSRejected: AWS refuses the spec; only a change of it helps.
	ReasonAWSRejected = "AWSRejected"
	// ReasonAlreadyExists: AWS has a group of that ID that is not this FlagCache's; see the annotation flagcache.dev/adopt.
	ReasonAlreadyExists = "AlreadyExists"
	// ReasonCreateFailed: AWS failed to create the group, which is deleted and created again, at most five times.
	ReasonCreateFailed = "CreateFailed"
	// ReasonCreateRetriesExhausted: AWS failed to create the group five times, which is not tried again before the spec changes or a reconcile is asked for.
	ReasonCreateRetriesExhausted = "CreateRetriesExhausted"
	// ReasonRecreated: an event only: AWS made the group anew behind FlagCache's back.
	ReasonRecreated = "Recreated"
	// ReasonVerifying: the group is there and the first probe of its endpoint has not succeeded yet.
	ReasonVerifying = "Verifying"
	// ReasonReplacementRejected: the cache that the spec asks for was rolled back with its revision and is gone; the one before serves.
	ReasonReplacementRejected = "ReplacementRejected"
)

// ConditionAlarmsConfigured says whether the CloudWatch alarms of the spec
// exist. It is present only where the spec asks for alarms, and keeps nothing
// from being Ready.
const (
	ConditionAlarmsConfigured = "AlarmsConfigured"

	// ReasonConfigured: every alarm exists.
	ReasonConfigured = "Configured"
	// ReasonConfiguring: alarms are being made.
	ReasonConfiguring = "Configuring"
)

// ConditionCacheHealthy says what the probe of the data path sees. When False,
// its reason is the probe's: ConnectionRefused, TimedOut, HostNotFound,
// WrongPassword and so on.
const (
	ConditionCacheHealthy = "CacheHealthy"

	// ReasonHealthy: connecting, authenticating, writing and reading back work.
	ReasonHealthy = "Healthy"
	// ReasonProbing: no verdict yet.
	ReasonProbing = "Probing"
	// ReasonNoEndpoint: there is no endpoint to probe yet.
	ReasonNoEndpoint = "NoEndpoint"
)

// ConditionWithinBudget says whether the estimated monthly cost of the cache is
// within spec.budget. It is present only where there is a budget.
const (
	ConditionWithinBudget = "WithinBudget"

	// ReasonWithinBudget: the estimate is within the budget.
	ReasonWithinBudget = "WithinBudget"
	// ReasonBudgetExceeded: the estimate is over the budget; with whenExceeded Refuse a change that costs more than what there is is held, and Ready is then False.
	ReasonBudgetExceeded = "BudgetExceeded"
	// ReasonPriceUnknown: a price that the estimate needs is not known, so that nothing is held.
	ReasonPriceUnknown = "PriceUnknown"
	// ReasonRegionUnknown: whenExceeded is Refuse and nobody says in which region the cache is to be made, so that it is held; Ready is then False.
	ReasonRegionUnknown = "RegionUnknown"
)

// ConditionConnectionReady says whether the connection Secret is published.
const (
	ConditionConnectionReady = "ConnectionReady"

	// ReasonPublished: the connection Secret holds the cache's endpoint and credentials.
	ReasonPublished = "Published"
	// ReasonPublishing: the connection Secret is being written.
	ReasonPublishing = "Publishing"
	// ReasonWaitingForCache: the cache has no endpoint or credentials yet.
	ReasonWaitingForCache = "WaitingForCache"
)

// ConditionFlagsValid says whether the source of flags can be served as it is.
// The Secret of flags.type Postgres is judged with the reasons SecretNotFound,
// SecretNotPermitted and SecretInvalid, as an external cache's is.
const (
	ConditionFlagsValid = "FlagsValid"

	// ReasonValid: every flag is valid.
	ReasonValid = "Valid"
	// ReasonStoredInDatabase: the flags are in a database, where the admin API validates each change; the operator does not look into it.
	ReasonStoredInDatabase = "StoredInDatabase"
	// ReasonConfigMapNotFound: the ConfigMap does not exist.
	ReasonConfigMapNotFound = "ConfigMapNotFound"
	// ReasonKeyNotFound: the ConfigMap lacks the key.
	ReasonKeyNotFound = "KeyNotFound"
	// ReasonUnparseable: the file as a whole cannot be used; what was served before goes on.
	ReasonUnparseable = "Unparseable"
	// ReasonFlagsRejected: some flags are invalid and are not served; the others are.
	ReasonFlagsRejected = "FlagsRejected"
)

// ConditionServiceAvailable says whether the current revision of the flag
// service has all its replicas.
const (
	ConditionServiceAvailable = "ServiceAvailable"

	// ReasonAvailable: every replica is available.
	ReasonAvailable = "Available"
	// ReasonProgressing: replicas are starting.
	ReasonProgressing = "Progressing"
	// ReasonProgressDeadlineExceeded: replicas did not start in time.
	ReasonProgressDeadlineExceeded = "ProgressDeadlineExceeded"
	// ReasonWaitingForFlags: there has been no usable source of flags yet.
	ReasonWaitingForFlags = "WaitingForFlags"
	// ReasonWaitingForConnection: there has been no connection to the cache yet.
	ReasonWaitingForConnection = "WaitingForConnection"
)

// ConditionServing says whether clients get answers, of whichever revision.
// Alerts about users belong on it.
const (
	ConditionServing = "Serving"

	// ReasonServing: at least one replica behind the Service is ready.
	ReasonServing = "Serving"
	// ReasonNoReadyReplicas: no replica behind the Service is ready.
	ReasonNoReadyReplicas = "NoReadyReplicas"
)

// ConditionRolloutHealthy says how the change from one revision to the next goes.
const (
	ConditionRolloutHealthy = "RolloutHealthy"

	// ReasonStable: the current revision serves; no change is under way.
	ReasonStable = "Stable"
	// ReasonRollingOut: the next revision is starting; the stable one serves.
	ReasonRollingOut = "RollingOut"
	// ReasonRolloutStuck: the next revision does not become available; the stable one serves.
	ReasonRolloutStuck = "RolloutStuck"
	// ReasonCanaryProgressing: the next revision gets a share of the traffic and is judged; the stable one serves the rest.
	ReasonCanaryProgressing = "CanaryProgressing"
	// ReasonCanaryPaused: the canary waits because of the annotation flagcache.dev/pause.
	ReasonCanaryPaused = "CanaryPaused"
	// ReasonCanaryHeld: something that both revisions depend on is in trouble, so the candidate is not judged.
	ReasonCanaryHeld = "CanaryHeld"
	// ReasonCanaryInconclusive: a step's deadline passed with too little evidence; a person decides.
	ReasonCanaryInconclusive = "CanaryInconclusive"
	// ReasonRolledBack: the revision of the spec was rejected and the stable one serves; change the spec, or retry.
	ReasonRolledBack = "RolledBack"
	// ReasonNotStarted: there is no revision yet.
	ReasonNotStarted = "NotStarted"
)
