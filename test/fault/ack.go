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

// Times of ACK and AWS, shorter than the real ones and in the same proportion: what
// AWS does takes less than a poll.
const (
	ackPoll  = 20 * time.Second
	awsTakes = 15 * time.Second
)

// What ACK notes on its objects, in place of what it holds in memory and asks AWS for.
const (
	// noteSeen is the generation that woke ACK last: nothing but the spec wakes it.
	noteSeen = "world.test/seen"
	// notePoll is when ACK looks again, if it does by itself.
	notePoll = "world.test/poll"
	// noteDone is when AWS is done with what it does.
	noteDone = "world.test/done"
	// noteSent is the spec that AWS has of a group.
	noteSent = "world.test/sent"
)

// cloud is what AWS does on demand.
type cloud struct {
	// installed says that ACK's kinds are there, and ACK runs.
	installed bool
	// failing is how many more groups AWS fails to create.
	failing int
	// full says that the account's quota is used up.
	full bool
	// stopped says that ACK does not run, while its kinds are there.
	stopped bool
	// lost is the address of a group that somebody deleted in AWS.
	lost string
}

// passwords that a server takes: the newest, and while AWS lets it in the one before.
type passwords [2]string

// takes are the passwords of a server with one.
func takes(password string) passwords { return passwords{password} }

func (p passwords) take(password string) bool {
	return password == p[0] || p[1] != "" && password == p[1]
}

// Installed tells the operator which of ACK's kinds there are.
func (w *World) Installed(context.Context) (map[string]bool, error) {
	installed := map[string]bool{}
	for _, k := range ack.Kinds() {
		installed[k.Kind] = w.cloud.installed
	}
	return installed, nil
}

// silence is how long a user waits to be told that ACK is silent.
const silence = 10 * time.Minute

// awaitsCloud says that a cache is to come that nothing stands in the way of, or that
// the user is yet to be told what does: the operator waits by its own clock.
func (w *World) awaitsCloud() bool {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !w.cloud.installed || w.cloud.full || !ok || fc.DeletionTimestamp != nil || fc.Spec.Cache.Type != v1alpha1.CacheElastiCache {
		return false
	}
	if w.cloud.stopped {
		c := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionCacheProvisioned)
		return w.time.Before(w.stepped.Add(silence)) && (c == nil || c.Reason != v1alpha1.ReasonACKNotResponding)
	}
	for _, o := range w.api.now(replicationGroups) {
		if o.(*ack.ReplicationGroup).Status.State == ack.GroupAvailable {
			return false
		}
	}
	return true
}

// ackControllers do what ACK does: they look at an object when its spec changed, and
// at intervals while AWS is not where the spec is.
func (w *World) ackControllers() {
	if !w.cloud.installed || w.cloud.stopped {
		return
	}
	for k := replicationGroups; k < kinds; k++ {
		for _, o := range w.api.now(k) {
			w.api.change(k, o.GetName(), w.ackLooks)
		}
	}
}

func (w *World) ackLooks(o client.Object) {
	due, polls := timeNoted(o, notePoll)
	woken := note(o, noteSeen, strconv.FormatInt(o.GetGeneration(), 10))
	if woken || polls && !w.time.Before(due) {
		delete(o.GetAnnotations(), notePoll)
		if group, ok := o.(*ack.ReplicationGroup); ok {
			w.lookAtGroup(group)
		} else {
			w.lookAtPart(o)
		}
	}
	if due, polls := timeNoted(o, notePoll); polls && len(o.GetFinalizers()) > 0 {
		w.alarmAt(due)
	}
}

func timeNoted(o client.Object, key string) (time.Time, bool) {
	at, err := time.Parse(time.RFC3339Nano, o.GetAnnotations()[key])
	return at, err == nil
}

func (w *World) noteTime(o client.Object, key string, in time.Duration) {
	note(o, key, w.time.Add(in).UTC().Format(time.RFC3339Nano))
}

// lookAtGroup is one look of ACK at a replication group.
func (w *World) lookAtGroup(g *ack.ReplicationGroup) {
	switch {
	case g.DeletionTimestamp != nil:
		w.deleteGroup(g)
	case g.Status.State == "", addressOf(g) == w.cloud.lost:
		w.createGroup(g)
	case g.Status.State == ack.GroupCreating, g.Status.State == ack.GroupModifying:
		w.awaitGroup(g)
	case g.Status.State == ack.GroupCreateFailed:
		w.synced(g)
	default:
		w.modifyGroup(g)
	}
}

func (w *World) createGroup(g *ack.ReplicationGroup) {
	token, ok := w.tokenOf(g)
	_, exists := w.servers[addressOf(g)]
	switch {
	case !ok:
		w.recoverable(g, "kubernetes secret not found")
	case w.cloud.full:
		hold(g)
		w.terminal(g, "NodeQuotaForCustomerExceeded: The request cannot be processed because it would exceed the allowed number of cache nodes per customer.")
	case exists:
		w.terminal(g, "Resource already exists")
	default:
		hold(g)
		w.servers[addressOf(g)], w.cloud.lost = takes(token), ""
		g.Status.State, g.Status.NodeGroups = ack.GroupCreating, []ack.NodeGroup{{NodeGroupID: "0001"}}
		created := metav1.NewTime(w.time.Truncate(time.Second))
		g.Status.ReplicationGroupCreateTime = &created
		w.send(g, g.Spec)
		w.busy(g, "replication group currently being created.")
	}
}

// awaitGroup sees how far AWS is. What ACK says of a group is judged by the look
// before, so it is Ready one look later.
func (w *World) awaitGroup(g *ack.ReplicationGroup) {
	what := "replication group currently being created."
	if g.Status.State == ack.GroupModifying {
		what = "replication group currently being modified."
	}
	done, _ := timeNoted(g, noteDone)
	switch {
	case w.time.Before(done):
		w.busy(g, what)
	case g.Status.State == ack.GroupCreating && w.cloud.failing > 0:
		w.cloud.failing--
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
		w.busy(g, what)
	}
}

// modifyGroup sends AWS what changed. The number of replicas has a call of its own,
// whose answer is written over the rest of the spec. Every other call carries the
// token that the Secret has by then, and AWS goes on taking the one before.
func (w *World) modifyGroup(g *ack.ReplicationGroup) {
	var sent ack.ReplicationGroupSpec
	if err := json.Unmarshal([]byte(g.Annotations[noteSent]), &sent); err != nil {
		panic(fmt.Sprintf("reading what AWS has of %s: %v", g.Name, err))
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
	w.send(g, g.Spec)
	if len(classes) == 1 && (classes["quiet"] || classes["tags"]) {
		w.synced(g)
		return
	}
	g.Status.State = ack.GroupModifying
	w.busy(g, "replication group currently being modified.")
}

// lose is somebody deleting all groups in AWS, which ACK finds out when it looks next.
func (w *World) lose() {
	for _, o := range w.api.now(replicationGroups) {
		edit(&w.api, replicationGroups, o.GetName(), func(g *ack.ReplicationGroup) {
			w.cloud.lost = addressOf(g)
			delete(w.servers, w.cloud.lost)
			w.noteTime(g, notePoll, ackPoll)
		})
	}
}

func (w *World) deleteGroup(g *ack.ReplicationGroup) {
	done, _ := timeNoted(g, noteDone)
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

// lookAtPart is one look of ACK at something that AWS makes at once, or a snapshot.
func (w *World) lookAtPart(o client.Object) {
	switch {
	case o.GetDeletionTimestamp() != nil && w.inUse(o):
		w.recoverable(o, "CacheSubnetGroupInUse: The resource is in use.")
	case o.GetDeletionTimestamp() != nil:
		o.SetFinalizers(nil)
	default:
		hold(o)
		w.makePart(o)
	}
}

func (w *World) makePart(o client.Object) {
	switch o := o.(type) {
	case *ack.Snapshot:
		if o.Status.SnapshotStatus == "" {
			o.Status.SnapshotStatus = "creating"
			w.busy(o, "snapshot currently being created.")
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

// inUse says that AWS does not delete something because something else needs it.
func (w *World) inUse(o client.Object) bool {
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

// tokenOf is the token that a group's Secret has, or that of its probe's user.
func (w *World) tokenOf(g *ack.ReplicationGroup) (string, bool) {
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

// cachePort is Redis' own.
const cachePort = 6379

func hostOf(g *ack.ReplicationGroup) string {
	return "master." + g.Spec.ReplicationGroupID + ".use1.cache.amazonaws.com"
}

func addressOf(g *ack.ReplicationGroup) string {
	return hostOf(g) + ":" + strconv.Itoa(cachePort)
}

// send notes what AWS has of a group from now on, and how long it takes.
func (w *World) send(g *ack.ReplicationGroup, spec ack.ReplicationGroupSpec) {
	note(g, noteSent, asText(spec))
	w.noteTime(g, noteDone, awsTakes)
}

// hold keeps an object until AWS has deleted what it stands for.
func hold(o client.Object) {
	o.SetFinalizers([]string{"finalizers.elasticache.services.k8s.aws/" + facts[kindOf(o)].gvk.Kind})
}

// What ACK says of an object. Each time it writes all conditions anew.

func (w *World) synced(o client.Object) {
	w.conclude(o, ack.Condition{Type: ack.ConditionSynced, Status: corev1.ConditionTrue}, ack.Condition{Type: ack.ConditionReady, Status: corev1.ConditionTrue})
}

func (w *World) busy(o client.Object, words string) {
	w.conclude(o, ack.Condition{Type: ack.ConditionSynced, Status: corev1.ConditionFalse, Message: words},
		ack.Condition{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Message: words})
	w.noteTime(o, notePoll, ackPoll)
}

func (w *World) recoverable(o client.Object, words string) {
	w.conclude(o, ack.Condition{Type: ack.ConditionRecoverable, Status: corev1.ConditionTrue, Message: words},
		ack.Condition{Type: ack.ConditionSynced, Status: corev1.ConditionUnknown, Reason: words},
		ack.Condition{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Reason: ack.ConditionRecoverable, Message: words})
	w.noteTime(o, notePoll, ackPoll)
	w.alarmAt(w.time.Add(ackPoll))
}

func (w *World) terminal(o client.Object, words string) {
	w.conclude(o, ack.Condition{Type: ack.ConditionTerminal, Status: corev1.ConditionTrue, Message: words},
		ack.Condition{Type: ack.ConditionSynced, Status: corev1.ConditionFalse, Reason: "resource is in terminal condition", Message: "Resource not synced"},
		ack.Condition{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Reason: ack.ConditionTerminal, Message: words})
}

func (w *World) conclude(o client.Object, conditions ...ack.Condition) {
	at := metav1.NewTime(w.time.Truncate(time.Second))
	for i := range conditions {
		conditions[i].LastTransitionTime = &at
	}
	reflect.ValueOf(o).Elem().FieldByName("Status").FieldByName("Conditions").Set(reflect.ValueOf(conditions))
}

// classesChanged are the classes of fields by which two specs differ, each of which
// ACK sends in a call of its own.
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
