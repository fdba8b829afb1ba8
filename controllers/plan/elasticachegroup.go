// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// ACK sends one kind of change at a time and forgets others that came with it, so
// the group is changed by one class at a time, and the next one waits until AWS has
// carried out the last.

const (
	// refusedRetry is how long to wait before AWS is asked again for what a quota or
	// its capacity did not allow. ACK does not ask again by itself.
	refusedRetry = 8 * time.Minute
	// notResponding is how long ACK may take to look at an object.
	notResponding = 5 * time.Minute
	// apart is how long after a look of ACK's a change is made: ACK's times have a
	// resolution of a second, so the look that the change brings about shows.
	apart = 2 * time.Second
	// doubtful is how long a change may be in doubt, where clocks differ by more: a look
	// within the second of the one before does not show. ACK looks again every 30
	// seconds at what is not done.
	doubtful = 2 * time.Minute
	// inFlight is how long ACK may still be busy with the spec before: what it writes
	// then is about that one.
	inFlight = 5 * time.Second
)

// change is what is on record about the last change of a group.
type change struct {
	// At is when the operator made it.
	At time.Time `json:"at,omitzero"`
	// Looked is when ACK had looked at the group last by then, by ACK's clock.
	Looked time.Time `json:"looked,omitzero"`
	// Class of what was changed; a change that AWS refuses can be amended.
	Class string `json:"class,omitempty"`
	// Attempt counts how often AWS was asked anew for what it refused.
	Attempt int `json:"attempt,omitempty"`
}

func (c elastiCache) lastChange() change {
	var last change
	if c.group != nil {
		_ = json.Unmarshal([]byte(c.group.Annotations[v1alpha1.AnnotationChange]), &last)
	}
	return last
}

// settled says that AWS has carried out every change of the group.
func (c elastiCache) settled() bool {
	if c.group == nil || c.group.DeletionTimestamp != nil || c.group.Status.State != ack.GroupAvailable || !c.group.Status.Is(ack.ConditionReady) {
		return false
	}
	return c.looked()
}

// looked tells whether ACK has looked at the group since it was changed.
func (c elastiCache) looked() bool {
	at, last := c.group.Status.LastSyncTime(), c.lastChange()
	switch {
	case at.IsZero():
		return false
	case last.Looked.IsZero():
		return true
	case at.Time.Equal(last.Looked):
		// Only a look about the time of the change can hide behind the one before, and only
		// where AWS needs no time, in which ACK would have looked again.
		return instant(last.Class) && last.At.Sub(last.Looked).Abs() <= time.Minute && c.s.Now.Sub(last.At) >= doubtful
	default:
		return c.s.Since(last.At) >= inFlight
	}
}

// refused is why AWS refuses the group. What ACK said before the last change says
// nothing of the spec as it is.
func (c elastiCache) refused() refusal {
	if c.group == nil || !c.looked() {
		return refusal{}
	}
	return refusalOf(c.group.Status.Status)
}

// plannedGroup is the group as it should be now, nil while it is not to be
// touched. Other security groups alone are no difference for ACK, which sends them
// first with the next change there is, and forgets that: so a change follows that may
// be forgotten.
func (c elastiCache) plannedGroup(deps dependencies) *ack.ReplicationGroup {
	wanted := c.groupSpec(deps)
	if c.group == nil {
		return c.renderGroup(wanted, change{At: c.now()})
	}
	if c.group.DeletionTimestamp != nil {
		return nil
	}
	last, refused := c.lastChange(), c.refused()
	wanted.Description = c.description(last.Attempt)
	next := wanted
	if c.created() {
		next = nextChange(c.group.Spec, c.withoutEngine(wanted), amended(refused, last))
	}
	switch {
	case last.Class == securityClass.name && c.settled() && !c.justLooked():
		again := c.group.Spec
		again.Description = c.description(last.Attempt + 1)
		return c.changeGroup(again, last.Attempt+1, exchangeClass)
	case !c.inPlace(next) && c.mayChange(next, refused):
		return c.changeGroup(next, last.Attempt, classOf(c.group.Spec, next))
	case refused.retryable && c.s.Since(last.At) >= refusedRetry:
		again := c.group.Spec
		again.Description = c.description(last.Attempt + 1)
		return c.changeGroup(again, last.Attempt+1, last.Class)
	default:
		return c.renderGroup(c.group.Spec, last)
	}
}

// justLooked tells whether ACK's next look might not show.
func (c elastiCache) justLooked() bool {
	return c.group != nil && c.s.Now.Sub(c.group.Status.LastSyncTime().Time).Abs() < apart
}

// mayChange tells whether the group may be given another spec now: when AWS has
// carried out the last change, or refuses it and it is amended, and ACK's answer will
// be told from the one before.
func (c elastiCache) mayChange(next ack.ReplicationGroupSpec, refused refusal) bool {
	switch {
	case !c.created():
		return true
	case c.justLooked():
		return false
	case c.settled():
		return true
	}
	last, amendment := c.lastChange().Class, classOf(c.group.Spec, next)
	amends := last == "" || last == amendment || last == exchangeClass && amendment == securityClass.name
	return refused.reason != "" && c.group.Status.State == ack.GroupAvailable && amends
}

// amended is the class of the change that AWS refuses: it is amended before any
// other is begun.
func amended(refused refusal, last change) string {
	if refused.reason == "" {
		return ""
	}
	return last.Class
}

// withoutEngine keeps the engine as it is until AWS has the parameter group that
// goes with the new one.
func (c elastiCache) withoutEngine(wanted ack.ReplicationGroupSpec) ack.ReplicationGroupSpec {
	if len(c.spec.Parameters) > 0 && !c.isThere(c.parameterGroup()) {
		wanted.EngineVersion, wanted.CacheParameterGroupName = c.group.Spec.EngineVersion, c.group.Spec.CacheParameterGroupName
	}
	return wanted
}

// changing tells whether a change of the spec is still on its way.
func (c elastiCache) changing(planned *ack.ReplicationGroup, deps dependencies) bool {
	if c.group == nil {
		return false
	}
	wanted := c.groupSpec(deps)
	wanted.Description = planned.Spec.Description
	return !c.inPlace(nextChange(c.group.Spec, wanted, "")) || !c.looked()
}

// created tells whether AWS has ever had the group; until then its spec may change
// as a whole.
func (c elastiCache) created() bool { return c.group.Status.State != "" }

// inPlace tells whether the group has a spec.
func (c elastiCache) inPlace(spec ack.ReplicationGroupSpec) bool {
	return reflect.DeepEqual(normal(spec), normal(c.group.Spec))
}

// normal makes empty lists equal, whichever way they are empty.
func normal(spec ack.ReplicationGroupSpec) ack.ReplicationGroupSpec {
	if len(spec.Tags) == 0 {
		spec.Tags = nil
	}
	if len(spec.SecurityGroupIDs) == 0 {
		spec.SecurityGroupIDs = nil
	}
	if len(spec.UserGroupIDs) == 0 {
		spec.UserGroupIDs = nil
	}
	return spec
}

func (c elastiCache) changeGroup(spec ack.ReplicationGroupSpec, attempt int, class string) *ack.ReplicationGroup {
	return c.renderGroup(spec, change{At: c.now(), Looked: c.group.Status.LastSyncTime().UTC(), Attempt: attempt, Class: class})
}

func (c elastiCache) now() time.Time { return c.s.Now.UTC().Truncate(time.Second) }

func (c elastiCache) renderGroup(spec ack.ReplicationGroupSpec, last change) *ack.ReplicationGroup {
	group := &ack.ReplicationGroup{
		TypeMeta:   metav1.TypeMeta{APIVersion: ack.ElastiCache.String(), Kind: "ReplicationGroup"},
		ObjectMeta: c.lastingMeta(c.name()),
		Spec:       spec,
	}
	group.Annotations[v1alpha1.AnnotationChange] = observed.ToJSON(last)
	return group
}

// groupSpec is the whole spec. Every field that ACK would fill in by itself is
// set, so ACK writes nothing into it.
func (c elastiCache) groupSpec(deps dependencies) ack.ReplicationGroupSpec {
	e := c.spec
	spec := ack.ReplicationGroupSpec{
		ReplicationGroupID:         c.awsID(),
		Description:                c.description(0),
		Engine:                     strings.ToLower(string(e.Engine)),
		EngineVersion:              e.EngineVersion,
		CacheNodeType:              e.NodeType,
		DataTieringEnabled:         tiered(e.NodeType),
		NumNodeGroups:              1,
		ReplicasPerNodeGroup:       int64(e.Replicas),
		AutomaticFailoverEnabled:   e.Replicas > 0,
		MultiAZEnabled:             e.MultiAZ == v1alpha1.Enabled,
		TransitEncryptionEnabled:   e.TransitEncryption == v1alpha1.TransitEncryptionRequired,
		AtRestEncryptionEnabled:    true,
		CacheSubnetGroupName:       c.subnetGroupName(),
		CacheParameterGroupName:    c.parameterGroupName(),
		SecurityGroupIDs:           deps.securityGroupIDs,
		SnapshotWindow:             defaultSnapshotWindow,
		PreferredMaintenanceWindow: e.MaintenanceWindow,
		IPDiscovery:                "ipv4",
		NetworkType:                "ipv4",
		Durability:                 "default",
		Tags:                       c.tags(),
	}
	if e.AtRestEncryption != nil {
		spec.KMSKeyID = e.AtRestEncryption.KMSKeyID
	}
	if e.Snapshots != nil {
		spec.SnapshotRetentionLimit = int64(e.Snapshots.RetentionDays)
		if e.Snapshots.Window != "" {
			spec.SnapshotWindow = e.Snapshots.Window
		}
	}
	switch {
	case c.usesToken():
		spec.AuthToken = &ack.SecretKey{Name: c.secretName(), Key: tokenKey}
	case c.usesIAM():
		spec.UserGroupIDs = []string{c.userGroupID()}
	}
	return spec
}

// defaultSnapshotWindow is when a snapshot is taken where the spec does not say.
const defaultSnapshotWindow = "03:00-04:00"

// description is for people, and the one field whose change costs nothing and has
// ACK ask AWS again: a new token and another attempt are told by it.
func (c elastiCache) description(attempt int) string {
	text := "FlagCache " + c.fc.Namespace + "/" + c.fc.Name
	if c.usesToken() {
		text += tokenWords + c.tokenMark()
	}
	if attempt > 0 {
		text += fmt.Sprintf(", attempt %d", attempt)
	}
	return text
}

// class is what ACK sends to AWS in one call.
type class struct {
	name string
	// differ tells whether two specs differ in it, take copies it.
	differ func(a, b ack.ReplicationGroupSpec) bool
	take   func(to *ack.ReplicationGroupSpec, from ack.ReplicationGroupSpec)
}

// field is a class of one comparable field or of several in a struct.
func field[T any](name string, of func(*ack.ReplicationGroupSpec) T, set func(*ack.ReplicationGroupSpec, T)) class {
	return class{
		name:   name,
		differ: func(a, b ack.ReplicationGroupSpec) bool { return !reflect.DeepEqual(of(&a), of(&b)) },
		take:   func(to *ack.ReplicationGroupSpec, from ack.ReplicationGroupSpec) { set(to, of(&from)) },
	}
}

// Fields that change together.
type (
	// quietFields change at once, and no phase shows it.
	quietFields struct {
		description, snapshotWindow, maintenanceWindow string
		retention                                      int64
	}
	engineFields       struct{ version, parameterGroup string }
	availabilityFields struct{ failover, multiAZ bool }
)

var (
	quietClass = field("quiet", func(s *ack.ReplicationGroupSpec) quietFields {
		return quietFields{s.Description, s.SnapshotWindow, s.PreferredMaintenanceWindow, s.SnapshotRetentionLimit}
	}, func(s *ack.ReplicationGroupSpec, f quietFields) {
		s.Description, s.SnapshotWindow, s.PreferredMaintenanceWindow, s.SnapshotRetentionLimit = f.description, f.snapshotWindow, f.maintenanceWindow, f.retention
	})
	tagsClass = field("tags", func(s *ack.ReplicationGroupSpec) []ack.Tag { return normal(*s).Tags },
		func(s *ack.ReplicationGroupSpec, tags []ack.Tag) { s.Tags = tags })
	securityClass = field("security", func(s *ack.ReplicationGroupSpec) []string { return normal(*s).SecurityGroupIDs },
		func(s *ack.ReplicationGroupSpec, ids []string) { s.SecurityGroupIDs = ids })
	engineClass = field("engine", func(s *ack.ReplicationGroupSpec) engineFields {
		return engineFields{s.EngineVersion, s.CacheParameterGroupName}
	},
		func(s *ack.ReplicationGroupSpec, f engineFields) {
			s.EngineVersion, s.CacheParameterGroupName = f.version, f.parameterGroup
		})
	nodeClass = field("node", func(s *ack.ReplicationGroupSpec) string { return s.CacheNodeType },
		func(s *ack.ReplicationGroupSpec, nodeType string) { s.CacheNodeType = nodeType })
	replicasClass = field("replicas", func(s *ack.ReplicationGroupSpec) int64 { return s.ReplicasPerNodeGroup },
		func(s *ack.ReplicationGroupSpec, replicas int64) { s.ReplicasPerNodeGroup = replicas })
	availabilityClass = field("availability", func(s *ack.ReplicationGroupSpec) availabilityFields {
		return availabilityFields{s.AutomaticFailoverEnabled, s.MultiAZEnabled}
	}, func(s *ack.ReplicationGroupSpec, f availabilityFields) {
		s.AutomaticFailoverEnabled, s.MultiAZEnabled = f.failover, f.multiAZ
	})
)

// classes in the order in which they are changed. Failover needs a replica, so it
// is switched off before the last one goes and on after the first one came.
func classes(wanted ack.ReplicationGroupSpec) []class {
	order := []class{quietClass, tagsClass, securityClass, engineClass, nodeClass}
	if wanted.ReplicasPerNodeGroup == 0 {
		return append(order, availabilityClass, replicasClass)
	}
	return append(order, replicasClass, availabilityClass)
}

// exchangeClass is the change that has ACK send other security groups to AWS.
const exchangeClass = "exchange"

// instant tells whether ACK may be done with a class of changes at once.
func instant(class string) bool {
	return slices.Contains([]string{quietClass.name, tagsClass.name, securityClass.name, availabilityClass.name, exchangeClass}, class)
}

// nextChange is the spec that AWS has, with one class of changes towards the one that
// is wanted: the first that differs, or the named one if that does. Fields of no
// class cannot be changed: they make another cache.
func nextChange(current, wanted ack.ReplicationGroupSpec, first string) ack.ReplicationGroupSpec {
	order := classes(wanted)
	slices.SortStableFunc(order, func(a, b class) int { return cmp.Compare(named(b, first), named(a, first)) })
	for _, class := range order {
		if class.differ(current, wanted) {
			class.take(&current, wanted)
			return current
		}
	}
	return current
}

func named(c class, name string) int {
	if c.name == name {
		return 1
	}
	return 0
}

// classOf the change from one spec to the next, "" for none.
func classOf(current, next ack.ReplicationGroupSpec) string {
	for _, class := range classes(next) {
		if class.differ(current, next) {
			return class.name
		}
	}
	return ""
}

// failures counts the groups that AWS failed to create.
type failures struct {
	Count int `json:"count,omitempty"`
	// At is when the last one was seen, UID which one it was.
	At  time.Time `json:"at,omitzero"`
	UID string    `json:"uid,omitempty"`
	// For is what was asked for: another spec, or a word to reconcile, begins anew.
	For string `json:"for,omitempty"`
}

const (
	// mostFailures is how often a group that AWS fails to create is tried.
	mostFailures = 5
	// firstPause is how long to wait before the second try; each later one waits
	// twice as long as the one before.
	firstPause = time.Minute
)

func readFailures(secret *corev1.Secret) failures {
	var f failures
	if secret != nil {
		_ = json.Unmarshal([]byte(secret.Annotations[v1alpha1.AnnotationFailures]), &f)
	}
	return f
}

// failures that are on record about what the spec asks for now.
func (c elastiCache) failures() failures {
	f := readFailures(c.secret)
	if f.For != c.attempted() {
		return failures{}
	}
	return f
}

// attempted tells what is asked of AWS from what was asked before.
func (c elastiCache) attempted() string {
	return observed.Fingerprint(c.fc.UID, observed.ToJSON(c.spec), c.fc.Annotations[v1alpha1.AnnotationReconcileAt])
}

// nextFailures counts a group that failed, before it is deleted.
func (c elastiCache) nextFailures() failures {
	f := c.failures()
	if c.group == nil || c.group.Status.State != ack.GroupCreateFailed || f.UID == string(c.group.UID) {
		return f
	}
	return failures{Count: f.Count + 1, At: c.now(), UID: string(c.group.UID), For: c.attempted()}
}

// pause is how much longer to wait before the group is created again.
func (c elastiCache) pause() time.Duration {
	f := c.failures()
	if f.Count == 0 {
		return 0
	}
	return max(firstPause<<(f.Count-1)-c.s.Since(f.At), 0)
}

// abandoned: the group is not created again.
func (c elastiCache) abandoned() bool { return c.failures().Count >= mostFailures }

// discarded: the group that is there is to be deleted and made again, because AWS
// failed to create it, which is on record, or because it may be adopted now.
// ACK has put no finalizer on a group that is not its own, so AWS keeps that.
func (c elastiCache) discarded() bool {
	if c.group == nil || c.group.DeletionTimestamp != nil {
		return false
	}
	if c.group.Status.State == ack.GroupCreateFailed {
		return c.failures().UID == string(c.group.UID) && !c.abandoned()
	}
	return c.adoptable(c.group)
}

// adoptable: AWS has the object and may give it to us. ACK finds that out only for
// an object that is made anew.
func (c elastiCache) adoptable(o ack.Object) bool {
	adopted := o.GetAnnotations()[ack.AnnotationAdoptionPolicy] != ""
	return refusalOf(o.ACKStatus()).reason == v1alpha1.ReasonAlreadyExists && c.adopts() && !adopted && len(o.GetFinalizers()) == 0
}
