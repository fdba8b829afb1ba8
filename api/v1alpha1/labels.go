// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Labels.
const (
	// LabelName carries the FlagCache's name on every child and pod.
	LabelName = "flagcache.dev/name"
	// LabelRevision carries the revision on a revision's children and pods.
	LabelRevision = "flagcache.dev/revision"
	// LabelCache carries the identity of an ElastiCache group on everything that
	// belongs to it.
	LabelCache = "flagcache.dev/cache"
	// LabelComponent tells the parts of a FlagCache apart; it is
	// app.kubernetes.io/component with one of the components below.
	LabelComponent = "app.kubernetes.io/component"
	// LabelManagedBy is on every child, with the value ManagedBy.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// LabelAllow, with the value AllowTrue, is the consent of a Secret's owner
	// that FlagCaches of its namespace may use the Secret. The operator reads no
	// other Secret, so a person who may create a FlagCache but not read Secrets
	// gains nothing.
	LabelAllow = "flagcache.dev/allow"
)

// Values of labels.
const (
	ManagedBy        = "flagcache"
	AllowTrue        = "true"
	ComponentService = "flag-service"
	ComponentCache   = "cache"
	// ComponentLoadTest is apart from the flag service: no Service selects its pods.
	ComponentLoadTest = "load-test"
)

// Annotations.
const (
	// AnnotationReconcileAt asks for a reconcile; its value, usually a timestamp,
	// is echoed in status.lastHandledReconcileAt.
	AnnotationReconcileAt = "flagcache.dev/reconcile-at"
	// AnnotationApplied, on a child, is a hash of what the operator last applied
	// to it.
	AnnotationApplied = "flagcache.dev/applied"
	// AnnotationConnection, on a pod, is a hash of the connection it was made for.
	AnnotationConnection = "flagcache.dev/connection"
	// AnnotationPromote, with a candidate's revision as its value, ends its canary
	// in its favour. This one and the next four are void for any other revision.
	AnnotationPromote = "flagcache.dev/promote"
	// AnnotationAbort rejects a candidate.
	AnnotationAbort = "flagcache.dev/abort"
	// AnnotationRetry tries a rejected revision once more.
	AnnotationRetry = "flagcache.dev/retry"
	// AnnotationPause keeps a canary where it is until the annotation goes, or
	// AnnotationResume comes.
	AnnotationPause = "flagcache.dev/pause"
	// AnnotationResume ends a pause, also one for too little evidence.
	AnnotationResume = "flagcache.dev/resume"
	// AnnotationRecord, on a ControllerRevision, is what is known of a revision
	// in JSON: its outcome and the evidence for it.
	AnnotationRecord = "flagcache.dev/record"
	// AnnotationTrial, on the Job of a load test, is when the trial that it belongs
	// to began.
	AnnotationTrial = "flagcache.dev/trial"
	// AnnotationRoute, on the Service of a candidate, is the HTTPRoute that may name
	// it.
	AnnotationRoute = "flagcache.dev/route"
	// AnnotationStable, on the Service that clients call, names the stable
	// revision while the Service selects the candidate's pods too.
	AnnotationStable = "flagcache.dev/stable"
	// AnnotationRotateToken asks for a new token of an ElastiCache group, once for
	// each value.
	AnnotationRotateToken = "flagcache.dev/rotate-token"
	// AnnotationAdopt, with the ID of a replication group as its value, lets the
	// FlagCache take over a group of that ID that AWS has already.
	AnnotationAdopt = "flagcache.dev/adopt"
	// AnnotationChange, on a ReplicationGroup, says when the operator changed it last,
	// and when ACK had looked at it last by then.
	AnnotationChange = "flagcache.dev/change"
	// AnnotationRetained, on one of ACK's objects, says that it was the operator that
	// had ACK retain what AWS has, for deletionPolicy Retain: a person's word stays.
	AnnotationRetained = "flagcache.dev/retained"
	// AnnotationCache, on a pod, is the cache that its connection is to.
	AnnotationCache = "flagcache.dev/cache"
	// AnnotationRole, on a pod, is the IAM role that its ServiceAccount had when it was
	// planned: pods keep the one that they began with.
	AnnotationRole = "flagcache.dev/role"
	// AnnotationToken, on the Secret of a cache, says how old its token is and which
	// wish for a new one it answers.
	AnnotationToken = "flagcache.dev/token"
	// AnnotationFailures, on the Secret of a cache, counts the groups that AWS failed
	// to create.
	AnnotationFailures = "flagcache.dev/failures"
	// AnnotationConfig, on a Redis pod, is a hash of its configuration.
	AnnotationConfig = "flagcache.dev/config"
)

// Finalizer keeps a FlagCache until what it owns is gone.
const Finalizer = "flagcache.dev/finalizer"

// FieldManager is the name under which the operator writes.
const FieldManager = "flagcache"
