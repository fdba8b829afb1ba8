// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
)

// Durations of ACK and AWS, shorter than the real ones but in proportion: an operation of AWS takes
// less than a polling interval.
const (
	ackPoll  = 20 * time.Second
	awsTakes = 15 * time.Second
)

// Annotations in which the simulated ACK keeps its state, which the real one has in memory or reads
// from AWS.
const (
	// annotationSeen is the last generation that triggered a sync; only changes of the spec do.
	annotationSeen = "world.test/seen"
	// annotationPoll is the time of the next scheduled sync, if any.
	annotationPoll = "world.test/poll"
	// annotationDone is when AWS completes the operation in progress.
	annotationDone = "world.test/done"
	// annotationSent is the spec of a group that was sent to AWS.
	annotationSent = "world.test/sent"
)

// cloud is the simulated state of AWS and ACK.
type cloud struct {
	// installed reports that ACK's kinds exist and ACK is running.
	installed bool
	// failCreations is the number of further group creations that fail in AWS.
	failCreations int
	// quotaExceeded reports that the account's quota is used up.
	quotaExceeded bool
	// stopped reports that ACK is not running while its kinds exist.
	stopped bool
	// lost is the address of a group that was deleted in AWS.
	lost string
}

// passwords are those that a server accepts: the newest one, and the previous one if AWS still
// accepts it.
type passwords [2]string

// acceptOnly returns the passwords of a server that accepts only one.
func acceptOnly(password string) passwords { return passwords{password} }

func (p passwords) accept(password string) bool {
	return password == p[0] || p[1] != "" && password == p[1]
}

// Installed returns which of ACK's kinds exist.
func (w *World) Installed(context.Context) (map[string]bool, error) {
	installed := map[string]bool{}
	for _, k := range ack.Kinds() {
		installed[k.Kind] = w.cloud.installed
	}
	return installed, nil
}

// ackTimeout is how long a user waits for the report that ACK does not respond.
const ackTimeout = 10 * time.Minute

// cachePending reports whether the operator waits by its own clock: for a cache that is being
// created, or until it reports why there is none.
func (w ackSimulator) cachePending() bool {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !w.cloud.installed || w.cloud.quotaExceeded || !ok || fc.DeletionTimestamp != nil || fc.Spec.Cache.Type != v1alpha1.CacheElastiCache {
		return false
	}
	if w.cloud.stopped {
		c := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionCacheProvisioned)
		return w.time.Before(w.lastStep.Add(ackTimeout)) && (c == nil || c.Reason != v1alpha1.ReasonACKNotResponding)
	}
	for _, o := range w.api.now(replicationGroups) {
		if o.(*ack.ReplicationGroup).Status.State == ack.GroupAvailable {
			return false
		}
	}
	return true
}

// ackControllers simulates ACK: objects are synced when their spec has changed, and periodically
// until AWS has the state of the spec.
func (w ackSimulator) ackControllers() {
	if !w.cloud.installed || w.cloud.stopped {
		return
	}
	for k := replicationGroups; k < kinds; k++ {
		for _, o := range w.api.now(k) {
			w.api.update(k, o.GetName(), w.ackSync)
		}
	}
}

func (w ackSimulator) ackSync(o client.Object) {
	due, polls := annotatedTime(o, annotationPoll)
	changed := setAnnotation(o, annotationSeen, strconv.FormatInt(o.GetGeneration(), 10))
	if changed || polls && !w.time.Before(due) {
		delete(o.GetAnnotations(), annotationPoll)
		if group, ok := o.(*ack.ReplicationGroup); ok {
			w.syncGroup(group)
		} else {
			w.syncOther(o)
		}
	}
	if due, polls := annotatedTime(o, annotationPoll); polls && len(o.GetFinalizers()) > 0 {
		w.kube().setAlarm(due)
	}
}

func annotatedTime(o client.Object, key string) (time.Time, bool) {
	at, err := time.Parse(time.RFC3339Nano, o.GetAnnotations()[key])
	return at, err == nil
}

func (w ackSimulator) annotateTime(o client.Object, key string, in time.Duration) {
	setAnnotation(o, key, w.time.Add(in).UTC().Format(time.RFC3339Nano))
}

// syncGroup is a sync of a replication group.
func (w ackSimulator) syncGroup(g *ack.ReplicationGroup) {
	switch {
	case g.DeletionTimestamp != nil:
		w.deleteGroup(g)
	case g.Status.State == "", addressOf(g) == w.cloud.lost:
		w.createGroup(g)
	case g.Status.State == ack.GroupCreating, g.Status.State == ack.GroupModifying:
		w.checkProgress(g)
	case g.Status.State == ack.GroupCreateFailed:
		w.synced(g)
	default:
		w.modifyGroup(g)
	}
}

func (w ackSimulator) createGroup(g *ack.ReplicationGroup) {
	token, ok := w.tokenOf(g)
	_, exists := w.servers[addressOf(g)]
	switch {
	case !ok:
		w.recoverable(g, "kubernetes secret not found")
	case w.cloud.quotaExceeded:
		addFinalizer(g)
		w.terminal(g, "NodeQuotaForCustomerExceeded: The request cannot be processed because it would exceed the allowed number of cache nodes per customer.")
	case exists:
		w.terminal(g, "Resource already exists")
	default:
		addFinalizer(g)
		w.servers[addressOf(g)], w.cloud.lost = acceptOnly(token), ""
		g.Status.State, g.Status.NodeGroups = ack.GroupCreating, []ack.NodeGroup{{NodeGroupID: "0001"}}
		created := metav1.NewTime(w.time.Truncate(time.Second))
		g.Status.ReplicationGroupCreateTime = &created
		w.recordSent(g, g.Spec)
		w.inProgress(g, "replication group currently being created.")
	}
}

// checkProgress reads the state of an operation in AWS. ACK's conditions are based on the previous
// sync, so a group is Ready one sync later.
func (w ackSimulator) checkProgress(g *ack.ReplicationGroup) {
	what := "replication group currently being created."
	if g.Status.State == ack.GroupModifying {
		what = "replication group currently being modified."
	}
	done, _ := annotatedTime(g, annotationDone)
	switch {
	case w.time.Before(done):
		w.inProgress(g, what)
	case g.Status.State == ack.GroupCreating && w.cloud.failCreations > 0:
		w.cloud.failCreations--
		g.Status.State = ack.GroupCreateFailed
		g.Status.Events = []ack.Event{{Message: "Replication group failed to create"}}
		delete(w.servers, addressOf(g))
		w.synced(g)
	default:
		g.Status.State = ack.GroupAvailable
		g.Status.NodeGroups = []ack.NodeGroup{{NodeGroupID: "0001", Status: ack.GroupAvailable, PrimaryEndpoint: &ack.Endpoint{Address: hostOf(g), Port: cachePort}}}
		g.Status.MemberClusters = nil
		for i := range g.Spec.ReplicasPerNodeGroup + 1 {
			g.Status.MemberClusters = append(g.Status.MemberClusters, fmt.Sprintf("%s-%03d", g.Spec.ReplicationGroupID, i+1))
		}
		w.inProgress(g, what)
	}
}

// modifyGroup sends changes to AWS. The number of replicas has a separate call, whose response
// overwrites the rest of the spec. All other calls include the current token of the Secret, and AWS
// continues to accept the previous one.
func (w ackSimulator) modifyGroup(g *ack.ReplicationGroup) {
	var sent ack.ReplicationGroupSpec
	if err := json.Unmarshal([]byte(g.Annotations[annotationSent]), &sent); err != nil {
		panic(fmt.Sprintf("decoding the sent spec of %s: %v", g.Name, err))
	}
	classes := classesChanged(sent, g.Spec)
	switch {
	case len(classes) == 0:
		w.synced(g)
		return
	case classes["replicas"]:
		sent.ReplicasPerNodeGroup = g.Spec.ReplicasPerNodeGroup
		g.Spec = sent
	default:
		token, ok := w.tokenOf(g)
		if !ok {
			w.recoverable(g, "kubernetes secret not found")
			return
		}
		if known := w.servers[addressOf(g)]; token != known[0] {
			w.servers[addressOf(g)] = passwords{token, known[0]}
		}
	}
	w.recordSent(g, g.Spec)
	if len(classes) == 1 && (classes["quiet"] || classes["tags"]) {
		w.synced(g)
		return
	}
	g.Status.State = ack.GroupModifying
	w.inProgress(g, "replication group currently being modified.")
}

// deleteGroupsInAWS deletes all groups in AWS, which ACK detects at its next sync.
func (w ackSimulator) deleteGroupsInAWS() {
	for _, o := range w.api.now(replicationGroups) {
		updateAs(&w.api, replicationGroups, o.GetName(), func(g *ack.ReplicationGroup) {
			w.cloud.lost = addressOf(g)
			delete(w.servers, w.cloud.lost)
			w.annotateTime(g, annotationPoll, ackPoll)
		})
	}
}

func (w ackSimulator) deleteGroup(g *ack.ReplicationGroup) {
	done, _ := annotatedTime(g, annotationDone)
	switch {
	case g.Status.State == "" || g.Annotations[ack.AnnotationDeletionPolicy] == ack.DeletionRetain:
		g.Finalizers = nil
	case g.Status.State == ack.GroupDeleting:
		delete(w.servers, addressOf(g))
		g.Finalizers = nil
	case w.time.Before(done):
		w.recoverable(g, "InvalidReplicationGroupState: Cache cluster is not in available state.")
	default:
		g.Status.State = ack.GroupDeleting
		w.recoverable(g, "Delete is in progress.")
	}
}

// syncOther is a sync of a resource that AWS creates at once, or of a snapshot.
func (w ackSimulator) syncOther(o client.Object) {
	switch {
	case o.GetDeletionTimestamp() != nil && w.inUse(o):
		w.recoverable(o, "CacheSubnetGroupInUse: The resource is in use.")
	case o.GetDeletionTimestamp() != nil:
		o.SetFinalizers(nil)
	default:
		addFinalizer(o)
		w.createOther(o)
	}
}

func (w ackSimulator) createOther(o client.Object) {
	switch o := o.(type) {
	case *ack.Snapshot:
		if o.Status.SnapshotStatus == "" {
			o.Status.SnapshotStatus = "creating"
			w.inProgress(o, "snapshot currently being created.")
			return
		}
		o.Status.SnapshotStatus = ack.SnapshotAvailable
	case *ack.SecurityGroup:
		o.Status.ID = "sg-1"
	case *ack.User:
		o.Status.State = ack.UserActive
	case *ack.UserGroup:
		o.Status.State = ack.UserActive
	}
	w.synced(o)
}

// inUse reports whether AWS refuses to delete a resource because another one depends on it.
func (w ackSimulator) inUse(o client.Object) bool {
	users := replicationGroups
	switch o.(type) {
	case *ack.Snapshot, *ack.MetricAlarm:
		return false
	case *ack.User:
		users = userGroups
	}
	for _, user := range w.api.now(users) {
		if user.GetLabels()[v1alpha1.LabelCache] == o.GetLabels()[v1alpha1.LabelCache] && len(user.GetFinalizers()) > 0 {
			return true
		}
	}
	return false
}

// tokenOf returns the token in the Secret of a group or of its probe user.
func (w ackSimulator) tokenOf(g *ack.ReplicationGroup) (string, bool) {
	key := g.Spec.AuthToken
	for _, o := range w.api.now(users) {
		mode := o.(*ack.User).Spec.AuthenticationMode
		if len(g.Spec.UserGroupIDs) > 0 && mode != nil && len(mode.Passwords) > 0 {
			key = &mode.Passwords[0]
		}
	}
	if key == nil {
		return "", true
	}
	secret, ok := live[*corev1.Secret](&w.api.store, secrets, key.Name)
	if !ok || secret.Type != corev1.SecretTypeOpaque || len(secret.Data[key.Key]) == 0 {
		return "", false
	}
	return string(secret.Data[key.Key]), true
}

// cachePort is the default port of Redis.
const cachePort = 6379

func hostOf(g *ack.ReplicationGroup) string {
	return "master." + g.Spec.ReplicationGroupID + ".use1.cache.amazonaws.com"
}

func addressOf(g *ack.ReplicationGroup) string {
	return hostOf(g) + ":" + strconv.Itoa(cachePort)
}

// recordSent records the spec that was sent to AWS, and when it completes.
func (w ackSimulator) recordSent(g *ack.ReplicationGroup, spec ack.ReplicationGroupSpec) {
	setAnnotation(g, annotationSent, asText(spec))
	w.annotateTime(g, annotationDone, awsTakes)
}

// addFinalizer keeps an object until its resource is deleted in AWS.
func addFinalizer(o client.Object) {
	o.SetFinalizers([]string{"finalizers.elasticache.services.k8s.aws/" + kindInfos[kindOf(o)].gvk.Kind})
}

// Conditions of ACK. Each sync replaces all of them.

func (w ackSimulator) synced(o client.Object) {
	w.setConditions(o, ack.Condition{Type: ack.ConditionSynced, Status: corev1.ConditionTrue}, ack.Condition{Type: ack.ConditionReady, Status: corev1.ConditionTrue})
}

func (w ackSimulator) inProgress(o client.Object, message string) {
	w.setConditions(o, ack.Condition{Type: ack.ConditionSynced, Status: corev1.ConditionFalse, Message: message},
		ack.Condition{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Message: message})
	w.annotateTime(o, annotationPoll, ackPoll)
}

func (w ackSimulator) recoverable(o client.Object, message string) {
	w.setConditions(o, ack.Condition{Type: ack.ConditionRecoverable, Status: corev1.ConditionTrue, Message: message},
		ack.Condition{Type: ack.ConditionSynced, Status: corev1.ConditionUnknown, Reason: message},
		ack.Condition{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Reason: ack.ConditionRecoverable, Message: message})
	w.annotateTime(o, annotationPoll, ackPoll)
	w.kube().setAlarm(w.time.Add(ackPoll))
}

func (w ackSimulator) terminal(o client.Object, message string) {
	w.setConditions(o, ack.Condition{Type: ack.ConditionTerminal, Status: corev1.ConditionTrue, Message: message},
		ack.Condition{Type: ack.ConditionSynced, Status: corev1.ConditionFalse, Reason: "resource is in terminal condition", Message: "Resource not synced"},
		ack.Condition{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Reason: ack.ConditionTerminal, Message: message})
}

func (w ackSimulator) setConditions(o client.Object, conditions ...ack.Condition) {
	at := metav1.NewTime(w.time.Truncate(time.Second))
	for i := range conditions {
		conditions[i].LastTransitionTime = &at
	}
	reflect.ValueOf(o).Elem().FieldByName("Status").FieldByName("Conditions").Set(reflect.ValueOf(conditions))
}

// classesChanged returns the classes of fields in which two specs differ. ACK sends each of them in
// a separate call.
func classesChanged(a, b ack.ReplicationGroupSpec) map[string]bool {
	changed := map[string]bool{}
	for class, of := range map[string]func(ack.ReplicationGroupSpec) any{
		"quiet": func(s ack.ReplicationGroupSpec) any {
			return []any{s.Description, s.SnapshotWindow, s.SnapshotRetentionLimit, s.PreferredMaintenanceWindow}
		},
		"tags":         func(s ack.ReplicationGroupSpec) any { return s.Tags },
		"security":     func(s ack.ReplicationGroupSpec) any { return s.SecurityGroupIDs },
		"engine":       func(s ack.ReplicationGroupSpec) any { return []any{s.EngineVersion, s.CacheParameterGroupName} },
		"nodes":        func(s ack.ReplicationGroupSpec) any { return s.CacheNodeType },
		"replicas":     func(s ack.ReplicationGroupSpec) any { return s.ReplicasPerNodeGroup },
		"availability": func(s ack.ReplicationGroupSpec) any { return []any{s.AutomaticFailoverEnabled, s.MultiAZEnabled} },
	} {
		if hash(of(a)) != hash(of(b)) {
			changed[class] = true
		}
	}
	return changed
}
