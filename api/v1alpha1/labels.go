// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Labels.
const (
	// LabelName is the name of the FlagCache, on every child object and pod. The operator
	// finds its children by it, and by their owner reference.
	LabelName = "flagcache.dev/name"
	// LabelRevision is the revision, on the children and pods of a revision.
	LabelRevision = "flagcache.dev/revision"
	// LabelCache is the identity of an ElastiCache replication group, on every object
	// that belongs to it.
	LabelCache = "flagcache.dev/cache"
	// LabelComponent distinguishes the components of a FlagCache: app.kubernetes.io/component
	// with one of the values below.
	LabelComponent = "app.kubernetes.io/component"
	// LabelManagedBy is on every child object, with the value ManagedBy unless others own
	// the label. Nothing depends on it.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	// LabelAllow, with the value AllowTrue, permits FlagCaches to use a Secret of
	// their namespace. The operator reads no other Secret, so that the permission to
	// create a FlagCache does not imply the permission to read Secrets. Children of
	// FlagCaches, which no other may use, do not have it; on those of earlier releases it
	// permits nothing.
	LabelAllow = "flagcache.dev/allow"
)

// Values of labels.
const (
	ManagedBy        = "flagcache"
	AllowTrue        = "true"
	ComponentService = "flag-service"
	ComponentCache   = "cache"
	ComponentFlags   = "flags"
	// ComponentLoadTest differs from ComponentService so that no Service selects its
	// pods.
	ComponentLoadTest = "load-test"
)

// Annotations.
const (
	// AnnotationReconcileAt requests a reconciliation, of ACK's objects by ACK, too; its
	// value, usually a timestamp, is echoed in status.lastHandledReconcileAt.
	AnnotationReconcileAt = "flagcache.dev/reconcile-at"
	// AnnotationOperator is the namespace of the operator that is to handle the FlagCache,
	// by default the one in status.operator. It hands a FlagCache over to another operator.
	AnnotationOperator = "flagcache.dev/operator"
	// AnnotationApplied, on a child object, is a hash of what the operator last
	// applied.
	AnnotationApplied = "flagcache.dev/applied"
	// AnnotationConnection, on a pod, is a hash of its connection.
	AnnotationConnection = "flagcache.dev/connection"
	// AnnotationPromote promotes a candidate regardless of its evaluation. Its value,
	// like that of the next four, is a revision; it has no effect on any other. This one,
	// AnnotationAbort and AnnotationResume have no effect on later canaries of the revision
	// until they are removed and set again.
	AnnotationPromote = "flagcache.dev/promote"
	// AnnotationAbort rejects a candidate.
	AnnotationAbort = "flagcache.dev/abort"
	// AnnotationRetry retries a rejected revision, once.
	AnnotationRetry = "flagcache.dev/retry"
	// AnnotationPause pauses a canary until the annotation is removed, or
	// AnnotationResume is set.
	AnnotationPause = "flagcache.dev/pause"
	// AnnotationResume resumes a paused or inconclusive canary.
	AnnotationResume = "flagcache.dev/resume"
	// AnnotationRecord, on a ControllerRevision, is the record of a revision in JSON:
	// its outcome and the evidence for it.
	AnnotationRecord = "flagcache.dev/record"
	// AnnotationTemplate, on a ControllerRevision whose data lack it, is the pod template
	// of the revision, compressed.
	AnnotationTemplate = "flagcache.dev/template"
	// AnnotationSeal, on a ControllerRevision, authenticates the pod template in its data or
	// in its annotation: only a template that the operator sealed is applied.
	AnnotationSeal = "flagcache.dev/template-seal"
	// AnnotationFlagsSeal, on the ConfigMap of published flags, authenticates its manifest.
	AnnotationFlagsSeal = "flagcache.dev/flags-seal"
	// AnnotationTrial, on the Job of a load test, is the start time of the canary that
	// it belongs to.
	AnnotationTrial = "flagcache.dev/trial"
	// AnnotationRoute, on the Service of a candidate, is the HTTPRoute that may
	// reference it.
	AnnotationRoute = "flagcache.dev/route"
	// AnnotationStable, on the Service that clients use, is the stable revision while
	// the Service also selects the pods of the candidate.
	AnnotationStable = "flagcache.dev/stable"
	// AnnotationRotateToken requests a new token for an ElastiCache replication group,
	// once per value.
	AnnotationRotateToken = "flagcache.dev/rotate-token"
	// AnnotationAdopt, with the ID of a replication group as its value, requests the
	// FlagCache to adopt an existing group with that ID, if the group's tags name the
	// FlagCache or the administrator's policy permits it.
	AnnotationAdopt = "flagcache.dev/adopt"
	// AnnotationAWSID, on ACK's objects and the Secret of a cache, is the ID of the
	// cache in AWS.
	AnnotationAWSID = "flagcache.dev/aws-id"
	// AnnotationAdoptChildren, with the UID of the FlagCache as its value, permits the
	// FlagCache to take back the objects that a deleted FlagCache of the same name left, as
	// after kubectl delete --cascade=orphan: those that the operator last applied and that
	// have no owner. Objects of an ElastiCache cache are not among them.
	AnnotationAdoptChildren = "flagcache.dev/adopt-children"
	// AnnotationChange, on a ReplicationGroup, is the time of the operator's last change
	// and the last time that ACK had synced it before.
	AnnotationChange = "flagcache.dev/change"
	// AnnotationRetained, on an ACK resource, marks ACK's deletion-policy annotation as
	// set by the operator, for deletionPolicy Retain. One set by a user is not changed.
	AnnotationRetained = "flagcache.dev/retained"
	// AnnotationCache, on a pod, is the identity of the cache that it connects to.
	AnnotationCache = "flagcache.dev/cache"
	// AnnotationRole, on a pod, is the IAM role of its ServiceAccount at the time that
	// the pod's revision was created. Pods keep the role that they started with.
	AnnotationRole = "flagcache.dev/role"
	// AnnotationToken, on the Secret of a cache, is the creation time of its token and
	// the value of AnnotationRotateToken that requested it.
	AnnotationToken = "flagcache.dev/token"
	// AnnotationFailures, on the Secret of a cache, is the number of replication groups
	// that AWS failed to create.
	AnnotationFailures = "flagcache.dev/failures"
	// AnnotationConfig, on a Redis pod, is a hash of its configuration.
	AnnotationConfig = "flagcache.dev/config"
	// AnnotationKeyStep, on the Secret of the integrity key, is the time of the last step of
	// its rotation.
	AnnotationKeyStep = "flagcache.dev/key-step"
	// AnnotationProbeUser, on a Redis pod, is the user of its configuration that the probe
	// logs in as. Without it, as with the configuration of an earlier release, there is none,
	// and the probe logs in like the flag service.
	AnnotationProbeUser = "flagcache.dev/probe-user"
)

// RequestAnnotations returns the annotations of a FlagCache by which people request what needs
// a permission of its own (config/admission). Of the other ones of a FlagCache the operator only
// reads AnnotationReconcileAt.
func RequestAnnotations() []string {
	return []string{
		AnnotationAbort, AnnotationAdopt, AnnotationAdoptChildren, AnnotationOperator, AnnotationPause,
		AnnotationPromote, AnnotationResume, AnnotationRetry, AnnotationRotateToken,
	}
}

// Finalizer blocks the deletion of a FlagCache until everything that it owns is
// deleted.
const Finalizer = "flagcache.dev/finalizer"

// FieldManager is the field manager of the operator's server-side apply.
const FieldManager = "flagcache"
