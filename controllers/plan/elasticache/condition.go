// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

func notProvisioned(reason, format string, args ...any) metav1.Condition {
	return conditions.False(v1alpha1.ConditionCacheProvisioned, reason, format, args...)
}

func isProvisioned(format string, args ...any) metav1.Condition {
	return conditions.True(v1alpha1.ConditionCacheProvisioned, v1alpha1.ReasonProvisioned, format, args...)
}

func notInstalled(k ack.Kind) metav1.Condition {
	return notProvisioned(v1alpha1.ReasonACKNotInstalled, "The API server does not serve %s: install ACK's %s (https://aws-controllers-k8s.github.io/docs). "+
		"FlagCache continues as soon as it is installed", k.CRD(), k.Controller())
}

// unidentified is for a new cache where the operator does not know its cluster.
func unidentified() metav1.Condition {
	return notProvisioned(v1alpha1.ReasonClusterUnidentified, "The operator cannot identify the cluster, which is part of the ID of a cache in AWS: "+
		"an administrator must set the operator's --cluster-id, or let it get namespace kube-system")
}

// invalidRecord is for a record that cannot be decoded.
func invalidRecord(err error) metav1.Condition {
	return conditions.Unknown(v1alpha1.ConditionCacheProvisioned, v1alpha1.ReasonInvalidRecord,
		"The cache is left as it is, because %v: correct the annotation, or remove it to start a new record", err)
}

// provisioned reports what the cloud does, which is not what clients see: a group in
// use that is modified, snapshotted or failed over continues to serve.
func (c planned) provisioned() metav1.Condition {
	switch {
	case c.seen.Inspected != nil:
		return inspected(c.desired, c.x, c.seen.Inspected)
	case c.seen.Group == nil:
		return c.absent()
	}
	return c.present()
}

// absent is what the group waits for before it is created.
func (c planned) absent() metav1.Condition {
	failed := c.records.failures.of(c.request())
	switch {
	case failed.exhausted():
		return notProvisioned(v1alpha1.ReasonCreateRetriesExhausted, "AWS failed to create the replication group %d times%s: change the spec, or set the annotation %s to a new value to retry",
			maxFailures, inParentheses(failed.Event), v1alpha1.AnnotationReconcileAt)
	case failed.Count > 0:
		return notProvisioned(v1alpha1.ReasonCreateFailed, "AWS failed to create the replication group%s; it is created again after a pause", inParentheses(failed.Event))
	case c.token.IsEmpty():
		return notProvisioned(v1alpha1.ReasonProvisioning, "Creating Secret %s", c.secret())
	case c.deps.waiting != nil:
		return c.dependency(c.deps.waiting)
	}
	return notProvisioned(v1alpha1.ReasonProvisioning, "Creating ReplicationGroup %s", c.object())
}

// dependency is why something that the group refers to does not exist.
func (c planned) dependency(desired observed.Object) metav1.Condition {
	what := observed.KindOf(desired) + " " + desired.GetName()
	seen := c.seen.dependency(desired)
	if seen == nil {
		return notProvisioned(v1alpha1.ReasonProvisioning, "Creating %s", what)
	}
	switch r := RefusalOf(ack.ConditionsOf(seen)); r.Reason {
	case "":
	case v1alpha1.ReasonAlreadyExists:
		return c.alreadyExists(what, r)
	default:
		return notProvisioned(r.Reason, "%s: %s", what, r.Message)
	}
	if len(ack.ConditionsOf(seen)) == 0 && c.x.Now.Sub(seen.GetCreationTimestamp().Time) >= notResponding {
		return ackSilent(what, desired.GetObjectKind().GroupVersionKind().GroupVersion())
	}
	return notProvisioned(v1alpha1.ReasonProvisioning, "Waiting for %s", what)
}

// alreadyExists is for what AWS has and ACK does not manage. Whose it is, ACK does not say.
func (c planned) alreadyExists(what string, r Refusal) metav1.Condition {
	if inspectable(c) {
		return reading(c.desired)
	}
	return notProvisioned(r.Reason, "%s: %s. Next: whoever owns it deletes it in AWS, or lets this FlagCache adopt it (docs/elasticache.md#deletion-and-adoption)", what, r.Message)
}

// reading is for a group whose tags are being read.
func reading(d desired) metav1.Condition {
	return notProvisioned(v1alpha1.ReasonProvisioning, "Reading the tags of replication group %s in AWS, to adopt it", d.aws)
}

// inspected is the state of a group that is not taken over yet.
func inspected(d desired, x *observed.Index, g *ack.ReplicationGroup) metav1.Condition {
	refused := RefusalOf(ack.ConditionsOf(g))
	switch {
	case g.DeletionTimestamp != nil || !d.adopts():
		return notProvisioned(v1alpha1.ReasonProvisioning, "Leaving replication group %s in AWS as it is", d.aws)
	case read(g):
		return notProvisioned(v1alpha1.ReasonAlreadyExists, "Replication group %s in AWS is not adopted, because its tags %s, %s and %s do not name this FlagCache. "+
			"Next: whoever owns it deletes it in AWS, or an administrator permits the adoption in the operator's policy (elastiCache[].adoptableIDs)", d.aws, tagCluster, tagNamespace, tagName)
	case refused.Reason != "" && refused.Reason != v1alpha1.ReasonAlreadyExists:
		return notProvisioned(refused.Reason, "ReplicationGroup %s: %s", g.Name, refused.Message)
	case x.Since(changeOf(g).At) >= notResponding:
		return notProvisioned(v1alpha1.ReasonACKNotResponding, "%s, and that AWS has replication group %s", silence("ReplicationGroup "+g.Name, notResponding, ack.ElastiCache), d.aws)
	default:
		return reading(d)
	}
}

// ackSilent distinguishes an ACK that does not work from an AWS that is slow.
func ackSilent(what string, api schema.GroupVersion) metav1.Condition {
	return notProvisioned(v1alpha1.ReasonACKNotResponding, "%s", silence(what, notResponding, api))
}

// silence is what to do about an ACK that has not synced something for a time.
func silence(what string, long time.Duration, api schema.GroupVersion) string {
	return fmt.Sprintf("ACK has not synced %s for %d minutes: check that its %s is running and watches this namespace",
		what, int(long.Minutes()), ack.ControllerOf(api))
}

// present is the state of an existing group.
func (c planned) present() metav1.Condition {
	what := "ReplicationGroup " + c.object()
	observed := c.seen.Group
	refused := c.group.refusal()
	switch {
	case observed.DeletionTimestamp != nil && c.records.failures.of(c.request()).Count > 0:
		return c.absent()
	case observed.DeletionTimestamp != nil:
		return notProvisioned(v1alpha1.ReasonProvisioning, "%s is being deleted; it is created again after that", what)
	case c.seen.ofAnother():
		return notProvisioned(v1alpha1.ReasonGroupIDChanged, "Somebody changed the replicationGroupID of %s to %q. It is restored, and replication group %s remains in use: "+
			"if ACK has created the other one, delete it in AWS", what, quote(c.seen.otherID()), c.aws)
	case ack.GroupState(observed) == ack.GroupCreateFailed && c.records.failures.of(c.request()).exhausted():
		return notProvisioned(v1alpha1.ReasonCreateRetriesExhausted, "AWS failed to create %s %d times%s: change the spec, or set the annotation %s to a new value to retry",
			what, maxFailures, inParentheses(lastEvent(observed)), v1alpha1.AnnotationReconcileAt)
	case ack.GroupState(observed) == ack.GroupCreateFailed:
		return notProvisioned(v1alpha1.ReasonCreateFailed, "AWS failed to create %s%s; it is deleted and created again", what, inParentheses(lastEvent(observed)))
	case refused.Reason == v1alpha1.ReasonAlreadyExists:
		return c.alreadyExists(what, refused)
	case !c.group.synced() && c.x.Now.Sub(c.group.last.At) >= notResponding:
		return ackSilent(what, ack.ElastiCache)
	case refused.Reason != "" && (refused.Terminal || !silentFor(c.x, observed, givenUp)):
		return notProvisioned(refused.Reason, "%s: %s", what, c.group.explain(refused))
	case refused.Reason != "":
		return ackSilent(what, ack.ElastiCache)
	case c.seen.usable():
		return c.available(what)
	case c.group.synced() && silentFor(c.x, observed, notResponding):
		return ackSilent(what, ack.ElastiCache)
	default:
		return notProvisioned(v1alpha1.ReasonProvisioning, "Waiting for AWS to make %s available", what)
	}
}

// explain is the message of a refusal, with the event that ACK refers to.
func (g group) explain(refused Refusal) string {
	if !g.rolledBack() {
		return refused.Message
	}
	what, next, _ := strings.Cut(refused.Message, seeEvents)
	return what + inParentheses(lastEvent(g.observed)) + next
}

// silentFor reports whether ACK has not synced an object for a time.
func silentFor(x *observed.Index, o observed.Object, long time.Duration) bool {
	return x.Now.Sub(ack.ConditionsOf(o).LastSyncTime().Time) >= long
}

// available is what else of the spec AWS refuses, or cannot be created.
func (c planned) available(what string) metav1.Condition {
	for _, o := range c.deps.objects {
		seen := c.seen.dependency(o)
		if seen == nil {
			continue
		}
		if r := RefusalOf(ack.ConditionsOf(seen)); r.Reason != "" {
			return notProvisioned(r.Reason, "%s %s: %s", observed.KindOf(o), o.GetName(), r.Message)
		}
	}
	if c.spec.VPCID != "" && !c.x.ACK["SecurityGroup"] {
		return isProvisioned("%s is available in the security groups that it has: the API server does not serve "+
			"securitygroups.ec2.services.k8s.aws, install ACK's ec2-controller to have one created", what)
	}
	return isProvisioned("%s is available", what)
}

// progress is what is still being done to a group that serves. Errors that ACK retries
// by itself are progress, too; others need a person.
func (c planned) progress(provisioned metav1.Condition, changing bool) cache.Progress {
	switch {
	case !c.seen.usable() || len(c.seen.Users) == 0:
		return cache.Progress{}
	case provisioned.Status == metav1.ConditionFalse && provisioned.Reason == v1alpha1.ReasonAWSRetrying:
		return cache.Progress{Reason: provisioned.Reason, Message: provisioned.Message}
	case provisioned.Status == metav1.ConditionTrue && changing:
		return cache.Progress{Reason: v1alpha1.ReasonModifying, Message: "The cache is being modified and remains in use"}
	case provisioned.Status == metav1.ConditionTrue && c.rotationWaits() != "":
		return cache.Progress{Reason: v1alpha1.ReasonRotationPending, Message: c.rotationWaits()}
	default:
		return cache.Progress{}
	}
}

// lastEvent is AWS' message about a creation that failed. AWS keeps the events of a group
// that was deleted, and returns them for the next one with its ID.
func lastEvent(group *ack.ReplicationGroup) string {
	events := slices.DeleteFunc(slices.Clone(group.Status.Events), func(e *ack.Event) bool { return e == nil })
	if len(events) == 0 {
		return ""
	}
	last := slices.MaxFunc(events, func(a, b *ack.Event) int { return ack.Value(a.Date).Compare(ack.Value(b.Date).Time) })
	return quote(ack.Value(last.Message))
}

// inParentheses is a text to append to another, "" for none.
func inParentheses(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

// verifying is for a group that is available and that no probe has connected to.
func (c planned) verifying(probe *connection.Connection) metav1.Condition {
	problem := ""
	if probe != nil {
		problem = nextProblem(c.x, *probe)
	}
	return notProvisioned(v1alpha1.ReasonVerifying, "ReplicationGroup %s is available but does not answer the probe yet%s", c.object(), problem)
}

// nextProblem is why a probe of a connection that nobody uses yet fails, to append to a
// message.
func nextProblem(x *observed.Index, probe connection.Connection) string {
	if x.NextProbe.Of != probe.Hash(x.FlagCache.UID) || x.NextProbe.Message == "" {
		return ""
	}
	return ": " + x.NextProbe.Message
}
