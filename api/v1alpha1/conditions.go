// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// ConditionReady summarizes all other conditions. It is True when the current
// spec is being served, with valid flags and a healthy cache; otherwise it has
// the reason and message of the first condition that prevents it.
const (
	ConditionReady = "Ready"

	// ReasonReady: everything in the spec exists and works.
	ReasonReady = "Ready"
	// ReasonSuspended: spec.suspend is true, so the operator makes no changes, other than publishing changed flags.
	ReasonSuspended = "Suspended"
	// ReasonNotPermitted: the administrator's policy does not permit a field of the spec, so the operator makes no changes, other than publishing changed flags.
	ReasonNotPermitted = "NotPermitted"
	// ReasonInitializing: the first reconciliation is in progress.
	ReasonInitializing = "Initializing"
	// ReasonHandledByOther: event only: another operator handles the FlagCache, and this one leaves it alone; see the annotation flagcache.dev/operator.
	ReasonHandledByOther = "HandledByOther"
	// ReasonAnnotationIgnored: event only: an annotation such as flagcache.dev/rotate-token has no effect on this FlagCache; the message says why.
	ReasonAnnotationIgnored = "AnnotationIgnored"
	// ReasonDeleting: the FlagCache is being deleted; the message names what remains.
	ReasonDeleting = "Deleting"
)

// ConditionReconciling is present, and True, while the operator is working
// towards the spec, as defined by kstatus.
const (
	ConditionReconciling = "Reconciling"

	// ReasonRetrying: a call to the API server failed and is being retried.
	ReasonRetrying = "Retrying"
	// ReasonForbidden: the operator's RBAC does not allow a call that it needs.
	ReasonForbidden = "Forbidden"
	// ReasonAdmissionDenied: an admission webhook or policy rejects a child object; the message has its name and what it says.
	ReasonAdmissionDenied = "AdmissionDenied"
	// ReasonQuotaExceeded: a ResourceQuota rejects a child object. What rejects pods is reported with the reason FailedCreate by CacheProvisioned and ServiceAvailable.
	ReasonQuotaExceeded = "QuotaExceeded"
	// ReasonNamespaceTerminating: the namespace is being deleted, so no objects can be created in it.
	ReasonNamespaceTerminating = "NamespaceTerminating"
)

// ConditionStalled is present, and True, when the operator cannot make progress
// until somebody intervenes, as defined by kstatus. It has the reason of Ready.
const (
	ConditionStalled = "Stalled"

	// ReasonNameConflict: objects with the names of children exist and are not controlled by this FlagCache; what a deleted FlagCache of the same name left can be taken back by the annotation flagcache.dev/adopt-children.
	ReasonNameConflict = "NameConflict"
	// ReasonInvalidChild: the API server rejects a child object as invalid.
	ReasonInvalidChild = "InvalidChild"
	// ReasonStatusRejected: the API server rejects the status, so that the other conditions are those of before; the message has why.
	ReasonStatusRejected = "StatusRejected"
	// ReasonLabelChanged: a label that the operator finds a child object by has another value after it was written; the message names it.
	ReasonLabelChanged = "LabelChanged"
)

// ConditionCacheProvisioned reports whether the cache exists, as seen by its
// provider: the cloud, the StatefulSet, or the Secret of an external cache.
// Whether clients can use it is reported by ConditionCacheHealthy.
const (
	ConditionCacheProvisioned = "CacheProvisioned"

	// ReasonProvisioned: the cache exists.
	ReasonProvisioned = "Provisioned"
	// ReasonProvisioning: the cache is being created.
	ReasonProvisioning = "Provisioning"
	// ReasonCacheDeadlineExceeded: the pod of an in-cluster Redis did not become ready in five minutes; the message says what keeps it from running. Before, the condition has the reason of Kubernetes: FailedCreate, Unschedulable, ImagePullBackOff, CrashLoopBackOff and the like.
	ReasonCacheDeadlineExceeded = "ProgressDeadlineExceeded"
	// ReasonSecretNotFound: the Secret that the spec refers to does not exist.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonSecretNotPermitted: the Secret lacks the label flagcache.dev/allow=true, without which FlagCaches may not use it, or is a child of a FlagCache.
	ReasonSecretNotPermitted = "SecretNotPermitted"
	// ReasonSecretInvalid: a key of the Secret is missing or has an invalid value.
	ReasonSecretInvalid = "SecretInvalid"
	// ReasonModifying: the cache works, and a change to it is being applied.
	ReasonModifying = "Modifying"
	// ReasonRotationPending: of Reconciling only: the cache works, and a rotation of its token that is due waits, or a new token is not used yet; the message says for what.
	ReasonRotationPending = "RotationPending"
	// ReasonACKNotInstalled: the CustomResourceDefinitions of an ACK controller are not installed; reconciliation continues when they are.
	ReasonACKNotInstalled = "ACKNotInstalled"
	// ReasonACKOutdated: the CustomResourceDefinition of an ACK kind lacks a field that the spec requires; the message names the release of ACK that has it, and reconciliation continues when it is installed.
	ReasonACKOutdated = "ACKOutdated"
	// ReasonACKNotResponding: ACK has not synced an object for too long: its controller is stopped, overloaded, or watches other namespaces.
	ReasonACKNotResponding = "ACKNotResponding"
	// ReasonReferenceNotFound: ACK cannot resolve a reference of an object.
	ReasonReferenceNotFound = "ReferenceNotFound"
	// ReasonAWSRetrying: an AWS call failed with a temporary error and ACK is retrying it.
	ReasonAWSRetrying = "AWSRetrying"
	// ReasonAWSAccessDenied: the IAM role of ACK lacks a permission; ACK is retrying.
	ReasonAWSAccessDenied = "AWSAccessDenied"
	// ReasonAWSQuotaExceeded: a quota of the AWS account is exhausted; the call is retried every eight minutes.
	ReasonAWSQuotaExceeded = "AWSQuotaExceeded"
	// ReasonAWSInsufficientCapacity: AWS has no capacity for this node type at the moment; the call is retried every eight minutes.
	ReasonAWSInsufficientCapacity = "AWSInsufficientCapacity"
	// ReasonAWSRejected: AWS rejects the spec as invalid, or rolled a change back; it is not retried until the spec or the annotation flagcache.dev/reconcile-at changes.
	ReasonAWSRejected = "AWSRejected"
	// ReasonAlreadyExists: AWS has a replication group with this ID that does not belong to this FlagCache, or is not adopted because its tags do not name this FlagCache.
	ReasonAlreadyExists = "AlreadyExists"
	// ReasonClusterUnidentified: the operator cannot identify the cluster, so that it can give a new cache no ID in AWS; an administrator must set its --cluster-id, or let it get namespace kube-system.
	ReasonClusterUnidentified = "ClusterUnidentified"
	// ReasonGroupIDChanged: somebody changed the ID in a ReplicationGroup, which the operator has restored; AWS may have another group with that ID, which is not deleted.
	ReasonGroupIDChanged = "GroupIDChanged"
	// ReasonCreateFailed: AWS failed to create the replication group, which is deleted and created again, at most five times.
	ReasonCreateFailed = "CreateFailed"
	// ReasonCreateRetriesExhausted: AWS failed to create the replication group five times; it is not retried until the spec or the annotation flagcache.dev/reconcile-at changes.
	ReasonCreateRetriesExhausted = "CreateRetriesExhausted"
	// ReasonRecreated: event only: the replication group was deleted in AWS and ACK has created it again, empty.
	ReasonRecreated = "Recreated"
	// ReasonVerifying: the replication group is available and the first probe of its endpoint has not succeeded yet.
	ReasonVerifying = "Verifying"
	// ReasonReplacementRejected: the cache in the spec was rolled back with its revision and deleted; the previous cache is in use.
	ReasonReplacementRejected = "ReplacementRejected"
	// ReasonInvalidRecord: an annotation in which the operator keeps its record of the cache cannot be decoded; the cache is left as it is until the annotation is corrected or removed.
	ReasonInvalidRecord = "InvalidRecord"
)

// ConditionAlarmsConfigured reports whether the CloudWatch alarms in the spec
// exist. It is present only when the spec has alarms, and does not affect Ready.
const (
	ConditionAlarmsConfigured = "AlarmsConfigured"

	// ReasonConfigured: all alarms exist.
	ReasonConfigured = "Configured"
	// ReasonConfiguring: alarms are being created.
	ReasonConfiguring = "Configuring"
)

// ConditionCacheHealthy reports the result of probing the cache the way its
// clients use it. When False, it has the reason of the failing probe, such as
// ConnectionRefused, TimedOut, HostNotFound or WrongPassword.
const (
	ConditionCacheHealthy = "CacheHealthy"

	// ReasonHealthy: connecting, authenticating, writing and reading back succeed.
	ReasonHealthy = "Healthy"
	// ReasonProbing: there is no probe result yet.
	ReasonProbing = "Probing"
	// ReasonNoEndpoint: the cache has no endpoint to probe yet.
	ReasonNoEndpoint = "NoEndpoint"
	// ReasonForeignStore: the Redis works, and has the flags of another FlagCache or flag service under the same environment; pods refuse them and work without Redis. Set another spec.environment in one of them.
	ReasonForeignStore = "ForeignStore"
)

// ConditionWithinBudget reports whether the estimated monthly cost of the cache
// is within spec.budget. It is present only when the spec has a budget.
const (
	ConditionWithinBudget = "WithinBudget"

	// ReasonWithinBudget: the estimate is within the budget.
	ReasonWithinBudget = "WithinBudget"
	// ReasonBudgetExceeded: the estimate exceeds the budget; with whenExceeded Refuse, changes that raise the cost are held and Ready is False.
	ReasonBudgetExceeded = "BudgetExceeded"
	// ReasonPriceUnknown: the price table lacks a price that the estimate needs; no change is held.
	ReasonPriceUnknown = "PriceUnknown"
	// ReasonRegionUnknown: whenExceeded is Refuse and the region of a new cache is not known, so its creation is held and Ready is False; set elastiCache.region.
	ReasonRegionUnknown = "RegionUnknown"
)

// ConditionConnectionReady reports whether the connection Secret is published.
const (
	ConditionConnectionReady = "ConnectionReady"

	// ReasonPublished: the connection Secret has the cache's endpoint and credentials.
	ReasonPublished = "Published"
	// ReasonPublishing: the connection Secret is being written.
	ReasonPublishing = "Publishing"
	// ReasonWaitingForCache: the cache has no endpoint or credentials yet.
	ReasonWaitingForCache = "WaitingForCache"
)

// ConditionFlagsValid reports whether all flags of the source can be served, and
// whether they are: the operator compares the digest of the document that each ready pod
// reports with that of the published one, which status.flags has. While the source cannot be
// used, the document that was published last is served. For flags.type Postgres it reports on the Secret, with the reasons
// SecretNotFound, SecretNotPermitted and SecretInvalid.
const (
	ConditionFlagsValid = "FlagsValid"

	// ReasonValid: all flags are valid.
	ReasonValid = "Valid"
	// ReasonStoredInDatabase: the flags are in a database, where the admin API validates each change; the operator does not read them.
	ReasonStoredInDatabase = "StoredInDatabase"
	// ReasonConfigMapNotFound: the ConfigMap does not exist; the flags that were published last are still served.
	ReasonConfigMapNotFound = "ConfigMapNotFound"
	// ReasonKeyNotFound: the ConfigMap lacks the key; the flags that were published last are still served.
	ReasonKeyNotFound = "KeyNotFound"
	// ReasonUnparseable: the file cannot be used; the flags that were published last are still served.
	ReasonUnparseable = "Unparseable"
	// ReasonPodsBehind: pods serve other flags than were published last, longer than a kubelet takes to update a mount; the message names them.
	ReasonPodsBehind = "PodsBehind"
	// ReasonHeldBack: the file can be used, and is not published while spec.suspend is true or the policy does not permit the FlagCache; the message says what pods serve.
	ReasonHeldBack = "HeldBack"
	// ReasonFlagsRejected: some flags are invalid and are not served; the others are.
	ReasonFlagsRejected = "FlagsRejected"
)

// ConditionFlagsDelivered reports whether every ready pod serves the flags that were published
// last, by what the pods report: status.flags has their number. Ready does not depend on it;
// pods that are behind for minutes are reported by FlagsValid. While the flags cannot be written
// to Redis, the message says so, and pods have a change when their kubelets update the mount. For
// flags.type Postgres it does not exist.
const (
	ConditionFlagsDelivered = "FlagsDelivered"

	// ReasonDelivered: every ready pod serves the flags.
	ReasonDelivered = "Delivered"
	// ReasonDelivering: the flags were published, and the pods that the message names serve other ones, or were not asked yet.
	ReasonDelivering = "Delivering"
	// ReasonPodsNotReached: not every ready pod has reported which flags it serves, because the operator cannot reach it or its image does not report it.
	ReasonPodsNotReached = "PodsNotReached"
	// ReasonNoReadyPods: no pod that would serve the flags is ready.
	ReasonNoReadyPods = "NoReadyPods"
	// ReasonNotPublished: no flags that could be served have been published, or somebody deleted or edited them while the source cannot be used.
	ReasonNotPublished = "NotPublished"
)

// ConditionServiceAvailable reports whether all replicas of the current revision
// of the flag service are available. While something keeps pods from running, it
// has the reason of Kubernetes, such as FailedCreate, Unschedulable,
// ImagePullBackOff or CrashLoopBackOff, and the message has a next step.
const (
	ConditionServiceAvailable = "ServiceAvailable"

	// ReasonAvailable: all replicas are available.
	ReasonAvailable = "Available"
	// ReasonProgressing: replicas are starting.
	ReasonProgressing = "Progressing"
	// ReasonForeignAutoscaler: event only: a HorizontalPodAutoscaler of somebody else scales the Deployment of a revision, so its replicas are left to that; use spec.service.autoscaling instead.
	ReasonForeignAutoscaler = "ForeignAutoscaler"
	// ReasonProgressDeadlineExceeded: replicas did not become available in time.
	ReasonProgressDeadlineExceeded = "ProgressDeadlineExceeded"
	// ReasonWaitingForFlags: no valid source of flags has been seen yet.
	ReasonWaitingForFlags = "WaitingForFlags"
	// ReasonWaitingForConnection: no connection to the cache has been available yet.
	ReasonWaitingForConnection = "WaitingForConnection"
)

// ConditionServing reports whether clients get answers, from any revision. Use
// it for alerts on user impact.
const (
	ConditionServing = "Serving"

	// ReasonServing: at least one replica behind the Service is ready.
	ReasonServing = "Serving"
	// ReasonNoReadyReplicas: no replica behind the Service is ready.
	ReasonNoReadyReplicas = "NoReadyReplicas"
)

// ConditionRolloutHealthy reports on the rollout from the stable revision to the
// next one.
const (
	ConditionRolloutHealthy = "RolloutHealthy"

	// ReasonStable: the revision of the current spec is stable; no rollout is in progress.
	ReasonStable = "Stable"
	// ReasonRollingOut: the next revision is starting; the stable revision serves all traffic.
	ReasonRollingOut = "RollingOut"
	// ReasonRolloutStuck: the next revision does not become available; the stable revision serves all traffic.
	ReasonRolloutStuck = "RolloutStuck"
	// ReasonCanaryProgressing: the candidate gets a share of the traffic and is being evaluated; the stable revision serves the rest.
	ReasonCanaryProgressing = "CanaryProgressing"
	// ReasonCanaryPaused: the canary is paused by the annotation flagcache.dev/pause.
	ReasonCanaryPaused = "CanaryPaused"
	// ReasonCanaryHeld: a dependency of both revisions is failing, or the gateway does not accept the HTTPRoute, so the candidate is not evaluated; the message says what to do.
	ReasonCanaryHeld = "CanaryHeld"
	// ReasonCanaryInconclusive: the deadline of a step passed with too little evidence; somebody has to resume, promote or abort the canary.
	ReasonCanaryInconclusive = "CanaryInconclusive"
	// ReasonStableUnavailable: the stable revision has no ready pod, so another one serves as soon as it has one; see the pods of the Deployment that the message names.
	ReasonStableUnavailable = "StableUnavailable"
	// ReasonRolledBack: the revision of the spec was rejected and the stable revision serves all traffic; change the spec, or retry.
	ReasonRolledBack = "RolledBack"
	// ReasonInvalidRevisionRecord: the annotation in which the operator keeps its record of a revision cannot be decoded, so the revision is neither promoted nor retried; restore the annotation, or delete its ControllerRevision.
	ReasonInvalidRevisionRecord = "InvalidRecord"
	// ReasonUnknownRevision: event only: the value of an annotation such as flagcache.dev/promote is no revision of the FlagCache, so it has no effect.
	ReasonUnknownRevision = "UnknownRevision"
	// ReasonAnnotationUsed: event only: an annotation such as flagcache.dev/promote was given when an earlier canary of the candidate ended, so it has no effect on this one; remove it, and set it again.
	ReasonAnnotationUsed = "AnnotationUsed"
	// ReasonNotStarted: there is no revision yet, or the first has had no ready pod yet.
	ReasonNotStarted = "NotStarted"
)
