// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
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
	"github.com/flagcache/flagcache/controllers/plan/cost"
	"github.com/flagcache/flagcache/controllers/plan/elasticache"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// maxGroups is one for each of two identities during a replacement.
const maxGroups = 2

// checkCloud verifies the invariants of AWS resources after a change of the store.
func (w cloudOracle) checkCloud(k kind, before, after client.Object) {
	if !w.cloud.installed {
		return
	}
	w.checkToken()
	w.checkOthers()
	if w.writer != operator {
		return
	}
	w.checkSpending(k, after)
	switch {
	case k == replicationGroups && before == nil:
		w.checkNoDuplicate()
		w.checkRetained(after.(*ack.ReplicationGroup))
	case k == replicationGroups && before.GetDeletionTimestamp() == nil && (after == nil || after.GetDeletionTimestamp() != nil):
		w.checkGroupDeleted(before.(*ack.ReplicationGroup))
	case k == replicationGroups && after != nil:
		w.checkGroupChanged(before.(*ack.ReplicationGroup), after.(*ack.ReplicationGroup))
	case k == secrets && after != nil:
		w.checkConnectionProbed(after.(*corev1.Secret))
	case k == flagCaches && after == nil:
		w.checkNoGroupLeft()
	}
}

// checkNoDuplicate verifies S10: there is never a second group of the same identity, nor a third
// group.
func (w cloudOracle) checkNoDuplicate() {
	groups := w.api.now(replicationGroups)
	ids := map[string]bool{}
	for _, o := range groups {
		ids[ack.Value(o.(*ack.ReplicationGroup).Spec.ReplicationGroupID)] = true
	}
	if len(groups) > maxGroups || len(ids) < len(groups) {
		w.violation("S10 single spend: there are %d replication groups with %d IDs", len(groups), len(ids))
	}
}

// checkSpending verifies S10: of a FlagCache that requests more than the administrator's policy
// permits, only the status is written.
func (w cloudOracle) checkSpending(k kind, after client.Object) {
	fc, limit := w.current.flagCache, w.policy.ElastiCache[0].MaxNamespaceMonthlyUSD
	if limit == nil || k == flagCaches || fc.DeletionTimestamp != nil {
		return
	}
	e := fc.Spec.Cache.ElastiCache
	cents, _ := cost.Monthly([]cost.Group{{Engine: e.Engine, NodeType: e.NodeType, Nodes: e.Replicas + 1, Region: e.Region}})
	if cents > int64(*limit)*100 {
		w.violation("S10 single spend: a %s was written (%v) although the spec costs %d cents a month, and %d USD are permitted", k, after != nil, cents, *limit)
	}
}

// checkRetained verifies S11: a group with deletion policy Retain has its annotation from its
// creation on, because the deletion of a namespace may delete it first.
func (w cloudOracle) checkRetained(g *ack.ReplicationGroup) {
	fc := w.current.flagCache
	if fc != nil && fc.Spec.DeletionPolicy == v1alpha1.DeletionRetain && g.Annotations[ack.AnnotationDeletionPolicy] != ack.DeletionRetain {
		w.violation("S11 retention: ReplicationGroup %s was created without its retention annotation", g.Name)
	}
}

// checkNoGroupLeft verifies S10: no group is left behind by a deleted FlagCache, whatever the
// operator observed of it.
func (w cloudOracle) checkNoGroupLeft() {
	for _, o := range w.api.now(replicationGroups) {
		if ownedByName(o) {
			w.violation("S10 single spend: the finalizer was removed before ReplicationGroup %s", o.GetName())
		}
	}
}

// checkGroupDeleted verifies S2: no group that pods use is deleted; and S11: none is deleted that
// is to be retained, or without its final snapshot.
func (w cloudOracle) checkGroupDeleted(g *ack.ReplicationGroup) {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok {
		fc = w.current.flagCache
	}
	created := ack.GroupState(g) != "" && ack.GroupState(g) != ack.GroupCreateFailed
	switch {
	case fc.DeletionTimestamp == nil && created:
		for _, o := range w.api.now(deployments) {
			d := o.(*appsv1.Deployment)
			if d.Spec.Template.Annotations[v1alpha1.AnnotationCache] == g.Labels[v1alpha1.LabelCache] && ptr.Deref(d.Spec.Replicas, 1) > 0 {
				w.violation("S2 capacity: ReplicationGroup %s was deleted while the pods of %s use it", g.Name, d.Name)
			}
		}
	case fc.DeletionTimestamp != nil && fc.Spec.DeletionPolicy == v1alpha1.DeletionRetain && g.Annotations[ack.AnnotationDeletionPolicy] != ack.DeletionRetain:
		w.violation("S11 retention: ReplicationGroup %s was deleted without its retention annotation", g.Name)
	}
	if fc.Spec.DeletionPolicy == v1alpha1.DeletionSnapshot && created && ack.PrimaryEndpoint(g) != nil && !w.snapshotted(g) {
		w.violation("S11 retention: ReplicationGroup %s was deleted without a final snapshot", g.Name)
	}
}

func (w cloudOracle) snapshotted(g *ack.ReplicationGroup) bool {
	return slices.ContainsFunc(w.api.now(snapshots), func(o client.Object) bool {
		s := o.(*ack.Snapshot)
		return slices.Contains(ack.Values(g.Status.MemberClusters), ack.Value(s.Spec.CacheClusterID)) && ack.Value(s.Status.SnapshotStatus) == ack.SnapshotAvailable
	})
}

// checkGroupChanged verifies S2: a group that exists in AWS is changed one class at a time, not while
// AWS executes another change, and not while the record of the last change is invalid; and S10: it
// remains the same group.
func (w cloudOracle) checkGroupChanged(before, after *ack.ReplicationGroup) {
	if after.Annotations[ack.AnnotationReadOnly] != "" || len(after.Finalizers) == 0 && ack.GroupState(before) != "" {
		return // ACK changes nothing in AWS
	}
	if before.Annotations[ack.AnnotationReadOnly] != "" {
		return // ACK has written a part of the spec only
	}
	changed := classesChanged(before.Spec, after.Spec)
	if before.Annotations[v1alpha1.AnnotationChange] == notJSON && (len(changed) > 0 || after.Annotations[v1alpha1.AnnotationChange] != notJSON) {
		w.violation("S2 capacity: ReplicationGroup %s was changed although the record of its last change is invalid", after.Name)
	}
	if id := ack.Value(after.Spec.ReplicationGroupID); id != ack.Value(before.Spec.ReplicationGroupID) && w.cloud.Groups[id].State == "" {
		w.violation("S10 single spend: ReplicationGroup %s was given the ID %s, which AWS does not have", after.Name, id)
	}
	switch {
	case ack.GroupState(before) == "" || len(changed) == 0:
	case len(changed) > 1:
		w.violation("S2 capacity: %d classes of ReplicationGroup %s were changed at once, some of which ACK loses", len(changed), after.Name)
	case ack.GroupState(before) != ack.GroupAvailable:
		w.violation("S2 capacity: ReplicationGroup %s was changed while it was %s", after.Name, ack.GroupState(before))
	}
}

// classesChanged returns the classes of fields in which two specs differ. ACK sends each of them in
// a separate call, or loses some of them.
func classesChanged(a, b ack.ReplicationGroupSpec) map[string]bool {
	changed := map[string]bool{}
	for class, of := range map[string]func(ack.ReplicationGroupSpec) any{
		"quiet": func(s ack.ReplicationGroupSpec) any {
			return []any{s.Description, s.SnapshotWindow, s.SnapshotRetentionLimit, s.PreferredMaintenanceWindow}
		},
		"tags": func(s ack.ReplicationGroupSpec) any { // in any order
			tags := map[string]string{}
			for _, tag := range s.Tags {
				tags[ack.Value(tag.Key)] = ack.Value(tag.Value)
			}
			return tags
		},
		"security":     func(s ack.ReplicationGroupSpec) any { return s.SecurityGroupIDs },
		"engine":       func(s ack.ReplicationGroupSpec) any { return []any{s.EngineVersion, s.CacheParameterGroupName} },
		"nodes":        func(s ack.ReplicationGroupSpec) any { return s.CacheNodeType },
		"replicas":     func(s ack.ReplicationGroupSpec) any { return s.ReplicasPerNodeGroup },
		"availability": func(s ack.ReplicationGroupSpec) any { return []any{s.AutomaticFailoverEnabled, s.MultiAZEnabled} },
	} {
		if !reflect.DeepEqual(of(a), of(b)) {
			changed[class] = true
		}
	}
	return changed
}

// recordProbe records a successful probe. The map is never modified in place.
func (w cloudOracle) recordProbe(address, password string) {
	if _, exists := w.server(address); !exists || w.probedConnections[address+" "+password] {
		return
	}
	probed := map[string]bool{address + " " + password: true}
	for known := range w.probedConnections {
		probed[known] = true
	}
	w.probedConnections = probed
}

// checkConnectionProbed verifies S12: no connection to a cache in AWS is published before a probe
// succeeded with it. With IAM, pods authenticate as a different user than the probe.
func (w cloudOracle) checkConnectionProbed(secret *corev1.Secret) {
	if string(secret.Data["provider"]) != "elasticache" {
		return
	}
	address := string(secret.Data["host"]) + ":" + string(secret.Data["port"])
	for known := range w.probedConnections {
		at, password, _ := strings.Cut(known, " ")
		if at == address && (password == string(secret.Data["password"]) || len(secret.Data["iam-cache"]) > 0) {
			return
		}
	}
	w.violation("S12 connection: Secret %s has a connection without a successful probe", secret.Name)
}

// checkToken verifies S12: AWS accepts the token of the stable revision, unless its group was
// deleted in AWS.
func (w cloudOracle) checkToken() {
	address, token := w.stableToken()
	if known, up := w.server(address); token != "" && address != w.cloud.Lost && (!up || !known.Accept(token)) {
		w.violation("S12 connection: AWS does not accept the token of the stable revision %s", w.canaryOracle().stable())
	}
}

// stableToken returns the token of the stable revision and the address of its cache in AWS, empty
// if there is none.
func (w cloudOracle) stableToken() (address, token string) {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	serving, serves := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+w.canaryOracle().stable())
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

// checkCloudAtRest verifies S10: at the end there is no unused group; and S12: a requested token is
// in use.
func (w cloudOracle) checkCloudAtRest() {
	if fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name); !ok || fc.DeletionTimestamp != nil {
		return
	}
	for _, g := range w.api.now(replicationGroups) {
		if !w.used(g) {
			w.violation("S10 single spend: the unused ReplicationGroup %s remains", g.GetName())
		}
	}
	if _, token := w.stableToken(); token != "" && w.outdated(token) {
		w.violation("S12 connection: the stable revision %s uses a token from before a new one was requested", w.canaryOracle().stable())
	}
}

// used reports whether the pods of a revision use a group.
func (w cloudOracle) used(g client.Object) bool {
	return slices.ContainsFunc(w.api.now(deployments), func(o client.Object) bool {
		return o.(*appsv1.Deployment).Spec.Template.Annotations[v1alpha1.AnnotationCache] == g.GetLabels()[v1alpha1.LabelCache]
	})
}

// outdated reports whether a token was generated before the user requested a new one.
func (w cloudOracle) outdated(token string) bool {
	first, err := strconv.Atoi(strings.TrimPrefix(generatedPattern.FindString(token), secretMarker))
	return err == nil && first <= w.generatedAtRotation
}

// cloudState returns the part of the state that depends on the times in an object.
func (w cloudOracle) cloudState(o client.Object) string {
	switch o := o.(type) {
	case *v1alpha1.FlagCache:
		return fmt.Sprint(w.statusMatchesGroup(o), w.digest().statusMatchesRecords(o))
	case *corev1.Secret:
		return fmt.Sprint(w.failureState(o), w.outdated(string(o.Data["token"])+string(o.Data["password"])))
	case *ack.ReplicationGroup:
		var last struct {
			At, Looked time.Time
			Quiet      bool
			Attempt    int
		}
		_ = json.Unmarshal([]byte(o.Annotations[v1alpha1.AnnotationChange]), &last)
		synced := !ack.ConditionsOf(o).LastSyncTime().Time.Equal(last.Looked)
		since := max(last.At.Sub(w.time), -time.Hour)
		if synced && !ack.ConditionsOf(o).Is(ack.ConditionTerminal) {
			since = 0
		}
		return fmt.Sprint(w.cloud.Fingerprint(o, w.time), synced, last.Quiet, last.Attempt, since.Round(time.Second))
	default:
		if ack.Is(o) {
			return w.cloud.Fingerprint(o, w.time)
		}
		return ""
	}
}

// statusMatchesGroup reports whether the status is about an existing group, and not one that was
// recreated since.
func (w cloudOracle) statusMatchesGroup(fc *v1alpha1.FlagCache) bool {
	return fc.Status.Cache != nil && slices.ContainsFunc(w.api.now(replicationGroups), func(o client.Object) bool {
		return fc.Status.Cache.CreatedAt.Equal(o.(*ack.ReplicationGroup).Status.ReplicationGroupCreateTime)
	})
}

// failureState returns the recorded failure and its age.
func (w cloudOracle) failureState(secret *corev1.Secret) string {
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

// withoutTimes removes the times that ACK and the operator wrote to an object; cloudState covers
// them.
func withoutTimes(o client.Object) {
	withoutNumber(o)
	annotations := o.GetAnnotations()
	delete(annotations, v1alpha1.AnnotationChange)
	delete(annotations, v1alpha1.AnnotationKeyStep)
	for _, key := range []string{v1alpha1.AnnotationToken, v1alpha1.AnnotationFailures} {
		var value struct {
			Request string
			Count   int
		}
		if text, ok := annotations[key]; ok && json.Unmarshal([]byte(text), &value) == nil {
			annotations[key] = fmt.Sprintf("%s %d", value.Request, value.Count)
		}
	}
	if g, ok := o.(*ack.ReplicationGroup); ok {
		g.Status.ReplicationGroupCreateTime, g.Status.AuthTokenLastModifiedDate = nil, nil
		if ack.GroupState(g) != ack.GroupCreateFailed {
			g.Status.Events = nil // only the reason of a failed creation matters
		}
		for _, event := range g.Status.Events {
			event.Date = nil
		}
	}
	if s, ok := o.(*ack.Snapshot); ok {
		s.Status.CacheClusterCreateTime, s.Status.NodeSnapshots = nil, nil
	}
	for _, condition := range ack.ConditionsOf(o) {
		condition.LastTransitionTime = nil
	}
}

// createByOldRelease creates a FlagCache and the first object of its cache as a release did
// that gave caches short IDs. Its record makes the present one give such an ID to the cache.
func createByOldRelease(fc *v1alpha1.FlagCache) step {
	return step{"create the FlagCache of an old release", func(w *World) {
		createInCloud(fc.DeepCopy()).do(w)
		created := find(w.api.now(flagCaches), name).(*v1alpha1.FlagCache)
		meta := observed.ChildMeta(created, name+"-cache-"+elasticache.Identity(created), v1alpha1.ComponentCache)
		meta.Labels[v1alpha1.LabelCache] = elasticache.Identity(created)
		meta.Annotations = map[string]string{v1alpha1.AnnotationAWSID: oldID(created)}
		w.user().mustCreate(&corev1.Secret{ObjectMeta: meta, Type: corev1.SecretTypeOpaque, Data: map[string][]byte{elasticache.TokenKey: []byte(secretMarker + "-old")}})
	}}
}

// oldID is the ID that the old release gave a cache.
func oldID(fc *v1alpha1.FlagCache) string {
	return "fc-" + namespace + "-" + name + "-" + elasticache.Identity(fc)
}

// downgradeObjects makes the objects of the cache, and the tags in AWS, those of a release
// that gave caches short IDs.
func downgradeObjects(w *World) {
	for k := range kinds {
		for _, o := range w.api.now(k) {
			if o.GetAnnotations()[v1alpha1.AnnotationAWSID] != "" {
				w.api.update(k, o.GetName(), withoutIdentity)
			}
		}
	}
	for id, g := range w.cloud.Groups {
		g.Spec.Tags, g.Pending.Tags = withoutOwnTags(g.Spec.Tags), withoutOwnTags(g.Pending.Tags)
		w.cloud.Groups[id] = g
	}
}

// withoutIdentity removes the record of the ID and the tags that identify the FlagCache.
func withoutIdentity(o client.Object) {
	annotations := o.GetAnnotations()
	delete(annotations, v1alpha1.AnnotationAWSID)
	o.SetAnnotations(annotations)
	if !ack.Is(o) {
		return
	}
	tags := reflect.ValueOf(o).Elem().FieldByName("Spec").FieldByName("Tags")
	kept := reflect.MakeSlice(tags.Type(), 0, tags.Len())
	for i := range tags.Len() {
		if !strings.Contains(observed.ToJSON(tags.Index(i).Interface()), ownTags) {
			kept = reflect.Append(kept, tags.Index(i))
		}
	}
	tags.Set(kept)
}

// ownTags is the prefix of the tags that identify the FlagCache.
const ownTags = "flagcache.dev/"

func withoutOwnTags(tags []*ack.Tag) []*ack.Tag {
	return slices.DeleteFunc(slices.Clone(tags), func(t *ack.Tag) bool { return strings.HasPrefix(ptr.Deref(t.Key, ""), ownTags) })
}

// groupRequested reports whether a replication group exists in AWS that is not available.
func groupRequested(w *World) bool {
	for _, g := range w.cloud.Groups {
		if g.State == ack.GroupCreating {
			return true
		}
	}
	return false
}

var createRetained = createInCloud(withDeletionPolicy(withElastiCache(aFlagCache()), v1alpha1.DeletionRetain))

// adopt creates the FlagCache with the request to adopt the group that AWS has.
var adopt = step{"create a FlagCache that requests the adoption", func(w *World) {
	for id := range w.cloud.Groups {
		if find(w.api.now(flagCaches), name) == nil {
			fc := withElastiCache(aFlagCache())
			setAnnotation(fc, v1alpha1.AnnotationAdopt, id)
			w.user().mustCreate(fc)
		}
	}
}}

// giveToAnother has the tags of the groups in AWS name another FlagCache.
func giveToAnother(w *World) {
	for id, g := range w.cloud.Groups {
		g.Spec.Tags = ack.Map(g.Spec.Tags, func(t *ack.Tag) *ack.Tag {
			if ptr.Deref(t.Key, "") == ownTags+"name" {
				return &ack.Tag{Key: t.Key, Value: ptr.To("another")}
			}
			return t
		})
		g.Pending.Tags = g.Spec.Tags
		w.cloud.Groups[id] = g
	}
	w.ofAnother = ofAnother(w)
}

// ofAnother describes the groups in AWS.
func ofAnother(w *World) string {
	var groups []string
	for _, id := range slices.Sorted(maps.Keys(w.cloud.Groups)) {
		g := w.cloud.Groups[id]
		groups = append(groups, fmt.Sprint(id, g.State, g.Tokens, observed.ToJSON(g.Spec)))
	}
	return strings.Join(groups, "\n")
}

// checkOthers verifies S13: nothing that AWS has of another FlagCache is changed or deleted.
func (w cloudOracle) checkOthers() {
	if w.ofAnother != "" && ofAnother(w.World) != w.ofAnother {
		w.violation("S13 isolation: the group of another FlagCache was changed from\n%s to\n%s", w.ofAnother, ofAnother(w.World))
	}
}

// recordedToken is a token in a Secret of a cache.
func recordedToken(w *World) string {
	for _, o := range w.api.now(secrets) {
		if token := o.(*corev1.Secret).Data[elasticache.TokenKey]; token != nil {
			return string(token)
		}
	}
	return ""
}
