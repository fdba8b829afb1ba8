// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
)

// mostGroups is one for each of two identities, while one replaces the other.
const mostGroups = 2

// checkCloud holds the invariants of what runs in AWS against a change of the store.
func (w *World) checkCloud(k kind, before, after client.Object) {
	if !w.cloud.installed {
		return
	}
	w.checkToken()
	if w.writer != operator {
		return
	}
	switch {
	case k == replicationGroups && before == nil:
		w.checkSpend()
		w.checkMarked(after.(*ack.ReplicationGroup))
	case k == replicationGroups && before.GetDeletionTimestamp() == nil && (after == nil || after.GetDeletionTimestamp() != nil):
		w.checkGroupDeleted(before.(*ack.ReplicationGroup))
	case k == replicationGroups && after != nil:
		w.checkGroupChanged(before.(*ack.ReplicationGroup), after.(*ack.ReplicationGroup))
	case k == secrets && after != nil:
		w.checkProven(after.(*corev1.Secret))
	case k == flagCaches && after == nil:
		w.checkNoneLeft()
	}
}

// checkSpend: S10, there is never a second group of one identity, nor a third one.
func (w *World) checkSpend() {
	groups := w.api.now(replicationGroups)
	ids := map[string]bool{}
	for _, o := range groups {
		ids[o.(*ack.ReplicationGroup).Spec.ReplicationGroupID] = true
	}
	if len(groups) > mostGroups || len(ids) < len(groups) {
		w.violate("S10 single spend: there are %d replication groups with %d IDs", len(groups), len(ids))
	}
}

// checkMarked: S11, a group that the user wants to keep is marked from its creation
// on, because a namespace that is deleted takes it first.
func (w *World) checkMarked(g *ack.ReplicationGroup) {
	fc := w.current.read
	if fc != nil && fc.Spec.DeletionPolicy == v1alpha1.DeletionRetain && g.Annotations[ack.AnnotationDeletionPolicy] != ack.DeletionRetain {
		w.violate("S11 kept: ReplicationGroup %s was created and is not marked as retained", g.Name)
	}
}

// checkNoneLeft: S10, no group is forgotten by a FlagCache that goes, whatever was
// seen of it.
func (w *World) checkNoneLeft() {
	for _, o := range w.api.now(replicationGroups) {
		if ownedByName(o) {
			w.violate("S10 single spend: the finalizer went before ReplicationGroup %s", o.GetName())
		}
	}
}

// checkGroupDeleted: S2, no group goes that pods use; S11, none goes that the user
// wants to keep, or of which a last snapshot is missing.
func (w *World) checkGroupDeleted(g *ack.ReplicationGroup) {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok {
		fc = w.current.read
	}
	created := g.Status.State != "" && g.Status.State != ack.GroupCreateFailed
	switch {
	case fc.DeletionTimestamp == nil && created:
		for _, o := range w.api.now(deployments) {
			d := o.(*appsv1.Deployment)
			if d.Spec.Template.Annotations[v1alpha1.AnnotationCache] == g.Labels[v1alpha1.LabelCache] && ptr.Deref(d.Spec.Replicas, 1) > 0 {
				w.violate("S2 capacity: ReplicationGroup %s was deleted, which the pods of %s use", g.Name, d.Name)
			}
		}
	case fc.DeletionTimestamp != nil && fc.Spec.DeletionPolicy == v1alpha1.DeletionRetain && g.Annotations[ack.AnnotationDeletionPolicy] != ack.DeletionRetain:
		w.violate("S11 kept: ReplicationGroup %s was deleted and is not marked as retained", g.Name)
	}
	if fc.Spec.DeletionPolicy == v1alpha1.DeletionSnapshot && created && g.PrimaryEndpoint() != nil && !w.snapshotted(g) {
		w.violate("S11 kept: ReplicationGroup %s was deleted without a last snapshot", g.Name)
	}
}

func (w *World) snapshotted(g *ack.ReplicationGroup) bool {
	return slices.ContainsFunc(w.api.now(snapshots), func(o client.Object) bool {
		s := o.(*ack.Snapshot)
		return slices.Contains(g.Status.MemberClusters, s.Spec.CacheClusterID) && s.Status.SnapshotStatus == ack.SnapshotAvailable
	})
}

// checkGroupChanged: S2, a group that AWS has is changed by one class at a time, and
// not while AWS carries out another change.
func (w *World) checkGroupChanged(before, after *ack.ReplicationGroup) {
	changed := classesChanged(before.Spec, after.Spec)
	switch {
	case before.Status.State == "" || len(changed) == 0:
	case len(changed) > 1:
		w.violate("S2 capacity: %d classes of ReplicationGroup %s changed at once, of which ACK loses some", len(changed), after.Name)
	case before.Status.State != ack.GroupAvailable:
		w.violate("S2 capacity: ReplicationGroup %s was changed while it was %s", after.Name, before.Status.State)
	}
}

// prove notes that a probe succeeded. The map is never changed in place.
func (w *World) prove(address, password string) {
	if _, ours := w.servers[address]; !ours || w.proven[address+" "+password] {
		return
	}
	proven := map[string]bool{address + " " + password: true}
	for known := range w.proven {
		proven[known] = true
	}
	w.proven = proven
}

// checkProven: S12, no connection to a cache in AWS is handed out before a probe
// succeeded with it; by IAM pods log in as somebody else than the probe.
func (w *World) checkProven(secret *corev1.Secret) {
	if string(secret.Data["provider"]) != "elasticache" {
		return
	}
	address := string(secret.Data["host"]) + ":" + string(secret.Data["port"])
	for known := range w.proven {
		at, password, _ := strings.Cut(known, " ")
		if at == address && (password == string(secret.Data["password"]) || len(secret.Data["iam-cache"]) > 0) {
			return
		}
	}
	w.violate("S12 evidence: Secret %s holds a connection that no probe succeeded with", secret.Name)
}

// checkToken: S12, AWS takes the token of the revision that serves, unless somebody
// deleted its group there.
func (w *World) checkToken() {
	address, token := w.usedToken()
	if known, up := w.servers[address]; token != "" && address != w.cloud.lost && (!up || !known.take(token)) {
		w.violate("S12 evidence: AWS does not take the token of revision %s, which serves", w.serving())
	}
}

// usedToken is the token of the revision that serves, and the address of its cache in
// AWS; "" where there is none.
func (w *World) usedToken() (address, token string) {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	serving, serves := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+w.serving())
	if !ok || fc.DeletionTimestamp != nil || !serves {
		return "", ""
	}
	used := name + "-connection-" + serving.Spec.Template.Annotations[v1alpha1.AnnotationConnection]
	secret, ok := live[*corev1.Secret](&w.api.store, secrets, used)
	if !ok || string(secret.Data["provider"]) != "elasticache" {
		return "", ""
	}
	return string(secret.Data["host"]) + ":" + string(secret.Data["port"]), string(secret.Data["password"])
}

// checkCloudRest: S10, in the end no group is there that no pods use; S12, who asked
// for a new token is served by one.
func (w *World) checkCloudRest() {
	if fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name); !ok || fc.DeletionTimestamp != nil {
		return
	}
	for _, g := range w.api.now(replicationGroups) {
		if !w.used(g) {
			w.violate("S10 single spend: ReplicationGroup %s stays, which no pods use", g.GetName())
		}
	}
	if _, token := w.usedToken(); token != "" && w.outdated(token) {
		w.violate("S12 evidence: revision %s serves by a token from before another one was asked for", w.serving())
	}
}

// used tells whether there is a revision whose pods use a group.
func (w *World) used(g client.Object) bool {
	return slices.ContainsFunc(w.api.now(deployments), func(o client.Object) bool {
		return o.(*appsv1.Deployment).Spec.Template.Annotations[v1alpha1.AnnotationCache] == g.GetLabels()[v1alpha1.LabelCache]
	})
}

// outdated tells whether a token was drawn before the user asked for a new one.
func (w *World) outdated(token string) bool {
	first, err := strconv.Atoi(strings.TrimPrefix(drawn.FindString(token), secretMarker))
	return err == nil && first <= w.asked
}

// cloudState is what the future depends on of an object's times.
func (w *World) cloudState(o client.Object) string {
	switch o := o.(type) {
	case *v1alpha1.FlagCache:
		return fmt.Sprint(w.knowsGroup(o), w.knowsRecords(o))
	case *corev1.Secret:
		return fmt.Sprint(w.failureState(o), w.outdated(string(o.Data["token"])+string(o.Data["password"])))
	case *ack.ReplicationGroup:
		var last struct {
			At, Looked time.Time
			Quiet      bool
			Attempt    int
		}
		_ = json.Unmarshal([]byte(o.Annotations[v1alpha1.AnnotationChange]), &last)
		looked := !o.Status.LastSyncTime().Time.Equal(last.Looked)
		since := max(last.At.Sub(w.time), -time.Hour)
		if looked && !o.Status.Is(ack.ConditionTerminal) {
			since = 0
		}
		done, _ := timeNoted(o, noteDone)
		return fmt.Sprint(w.untilPoll(o), max(0, done.Sub(w.time)), looked, last.Quiet, last.Attempt, since.Round(time.Second))
	case ack.Object:
		return fmt.Sprint(w.untilPoll(o.(client.Object)))
	default:
		return ""
	}
}

// knowsGroup tells whether the status is about a group that there is, and not about
// one that was made anew since.
func (w *World) knowsGroup(fc *v1alpha1.FlagCache) bool {
	return fc.Status.Cache != nil && slices.ContainsFunc(w.api.now(replicationGroups), func(o client.Object) bool {
		return fc.Status.Cache.CreatedAt.Equal(o.(*ack.ReplicationGroup).Status.ReplicationGroupCreateTime)
	})
}

func (w *World) untilPoll(o client.Object) time.Duration {
	due, polls := timeNoted(o, notePoll)
	if !polls {
		return -1
	}
	return due.Sub(w.time)
}

// failureState is which failure is on record, and how long ago it was.
func (w *World) failureState(secret *corev1.Secret) string {
	var failed struct {
		Count int
		At    time.Time
		UID   string
	}
	if json.Unmarshal([]byte(secret.Annotations[v1alpha1.AnnotationFailures]), &failed) != nil {
		return ""
	}
	still := slices.ContainsFunc(w.api.now(replicationGroups), func(o client.Object) bool { return string(o.GetUID()) == failed.UID })
	return fmt.Sprint(failed.Count, still, max(failed.At.Sub(w.time), -time.Hour).Round(time.Second))
}

// withoutTimes takes from an object of a cache the times that ACK and the operator
// wrote into it, for cloudState to tell.
func withoutTimes(o client.Object) {
	notes := o.GetAnnotations()
	for _, key := range []string{v1alpha1.AnnotationChange, noteSeen, notePoll, noteDone} {
		delete(notes, key)
	}
	for _, key := range []string{v1alpha1.AnnotationToken, v1alpha1.AnnotationFailures} {
		var kept struct {
			Request string
			Count   int
		}
		if text, ok := notes[key]; ok && json.Unmarshal([]byte(text), &kept) == nil {
			notes[key] = fmt.Sprintf("%s %d", kept.Request, kept.Count)
		}
	}
	if g, ok := o.(*ack.ReplicationGroup); ok {
		g.Status.ReplicationGroupCreateTime = nil
	}
	if seen, ok := o.(ack.Object); ok {
		conditions := seen.ACKStatus().Conditions
		for i := range conditions {
			conditions[i].LastTransitionTime = nil
		}
	}
}
