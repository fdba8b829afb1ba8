// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/elasticache"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

type checkName = canary.Check

// ackPoll is how often ACK syncs what is not done.
const ackPoll = 30 * time.Second

// syncAll lets AWS make progress, and ACK sync what changed or is not done.
func (c *cloud) syncAll() {
	for _, g := range c.groups {
		if g.until.IsZero() || c.now.Before(g.until) {
			continue
		}
		g.state, g.until = ack.GroupAvailable, time.Time{}
		if g.fails {
			g.state = ack.GroupCreateFailed
		}
	}
	if c.ackStopped {
		return
	}
	for _, child := range slices.Clone(c.children) {
		if ack.Is(child) {
			c.sync(child)
		}
	}
}

func (c *cloud) sync(o observed.Object) {
	if o.GetDeletionTimestamp() != nil {
		c.deleteInAWS(o)
		return
	}
	if g, ok := o.(*ack.ReplicationGroup); ok {
		c.syncGroup(g)
		return
	}
	kind := ack.KindOf(o).Kind
	key := keyInAWS(o)
	if len(ack.ConditionsOf(o)) > 0 && !c.due(key) && !c.usersDiffer(o) {
		return
	}
	switch {
	case c.refusals[kind] != nil:
		c.reportConditions(o, c.refusals[kind]...)
		return
	case c.resources[key] && len(o.GetFinalizers()) == 0 && o.GetAnnotations()[ack.AnnotationAdoptionPolicy] == "":
		c.reportConditions(o, alreadyExists()...)
		c.nextSync[key] = c.now.Add(10 * time.Hour) // it is terminal
		return
	}
	c.resources[key] = true
	o.SetFinalizers([]string{"finalizers.services.k8s.aws/" + kind})
	switch o := o.(type) {
	case *ack.SecurityGroup:
		o.Status.ID = ptr.To("sg-0" + *o.Spec.Name)
	case *ack.User:
		c.createUser(o)
	case *ack.UserGroup:
		c.members[*o.Spec.UserGroupID] = ack.Values(o.Spec.UserIDs)
	case *ack.Snapshot:
		if c.now.Sub(o.CreationTimestamp.Time) >= c.awsDelay {
			o.Status.SnapshotStatus = ptr.To(ack.SnapshotAvailable)
		}
	}
	c.reportConditions(o, synced(true)...)
	c.nextSync[key] = c.now.Add(ackPoll)
}

// keyInAWS identifies a resource of AWS other than a group. Each FlagCache has another
// name for its security group.
func keyInAWS(o observed.Object) string {
	if g, ok := o.(*ack.SecurityGroup); ok {
		return "SecurityGroup/" + *g.Spec.Name
	}
	return ack.KindOf(o).Kind + "/" + o.GetName()
}

// usersDiffer reports whether the spec of a user group has other users, which ACK syncs at
// once like every change of a spec.
func (c *cloud) usersDiffer(o observed.Object) bool {
	group, ok := o.(*ack.UserGroup)
	return ok && !slices.Equal(ack.Values(group.Spec.UserIDs), c.members[*group.Spec.UserGroupID])
}

// createUser creates a user. ACK sends a password with its creation and never again.
func (c *cloud) createUser(u *ack.User) {
	id := *u.Spec.UserID
	if _, there := c.users[id]; there {
		return
	}
	password := ""
	if mode := u.Spec.AuthenticationMode; mode != nil {
		for _, key := range mode.Passwords {
			password = c.index().SecretValue(key.Name, key.Key)
		}
	}
	c.users[id] = *u.Spec.UserName + " " + password
}

// deleteUser deletes a user, which must not be a member of a user group.
func (c *cloud) deleteUser(id string) {
	delete(c.users, id)
	for group, members := range c.members {
		if slices.Contains(members, id) {
			c.t.Errorf("user %s is deleted while user group %s contains it", id, group)
		}
	}
}

func (c *cloud) due(key string) bool {
	return c.nextSync[key].IsZero() || !c.now.Before(c.nextSync[key])
}

// deleteInAWS does what ACK does with an object that is being deleted.
func (c *cloud) deleteInAWS(o observed.Object) {
	kind := ack.KindOf(o).Kind
	retained := o.GetAnnotations()[ack.AnnotationDeletionPolicy] == ack.DeletionRetain
	g, isGroup := o.(*ack.ReplicationGroup)
	switch {
	case c.refusals["delete "+kind] != nil:
		c.reportConditions(o, c.refusals["delete "+kind]...)
		return
	case isGroup && !retained:
		id := *g.Spec.ReplicationGroupID
		aws := c.groups[id]
		if aws != nil && aws.state != ack.GroupDeleting {
			aws.state, aws.until, g.Status.Status = ack.GroupDeleting, c.now.Add(1000*time.Hour), ptr.To(ack.GroupDeleting)
			c.nextSync[id] = c.now.Add(c.awsDelay)
			return
		}
		if aws != nil && !c.due(id) {
			return
		}
		delete(c.groups, id)
		delete(c.specs, id)
		delete(c.nextSync, id)
	case !retained:
		delete(c.resources, keyInAWS(o))
		switch o := o.(type) {
		case *ack.User:
			c.deleteUser(*o.Spec.UserID)
		case *ack.UserGroup:
			delete(c.members, *o.Spec.UserGroupID)
		}
		for id, aws := range c.groups {
			if ack.Value(aws.spec.CacheSubnetGroupName) == o.GetName() || ack.Value(aws.spec.CacheParameterGroupName) == parameterName(o) {
				c.t.Errorf("%s is deleted while group %s uses it", o.GetName(), c.groupNumber(id))
			}
		}
	}
	if retained {
		kind += " (retained)"
	}
	c.deletedKinds = append(c.deletedKinds, kind)
	c.children = without(c.children, o)
}

func parameterName(o observed.Object) string {
	if p, ok := o.(*ack.CacheParameterGroup); ok {
		return *p.Spec.CacheParameterGroupName
	}
	return "-"
}

// syncGroup is what ACK does with a group that is not being deleted.
func (c *cloud) syncGroup(g *ack.ReplicationGroup) {
	id := *g.Spec.ReplicationGroupID
	seen, known := c.specs[id]
	changed := !known || !reflect.DeepEqual(elasticache.Normalize(seen), elasticache.Normalize(g.Spec))
	terminal := ack.ConditionsOf(g).Is(ack.ConditionTerminal)
	if !changed && (terminal || !c.due(id)) {
		return
	}
	aws := c.groups[id]
	if changed && known && aws != nil {
		c.recordChange(seen, g.Spec, aws)
	}
	c.specs[id] = g.Spec
	switch {
	case aws == nil && c.refusals["ReplicationGroup"] != nil:
		c.reportConditions(g, c.refusals["ReplicationGroup"]...)
		c.nextSync[id] = c.now.Add(ackPoll)
	case aws == nil:
		c.createGroup(g)
	case len(g.Finalizers) == 0 && g.Annotations[ack.AnnotationAdoptionPolicy] == "":
		c.reportConditions(g, alreadyExists()...)
	default:
		g.Finalizers = []string{"finalizers.elasticache.services.k8s.aws/ReplicationGroup"}
		c.updateGroup(g, aws)
	}
}

// recordChange checks that a change is of one class, and that the last one is complete.
func (c *cloud) recordChange(before, now ack.ReplicationGroupSpec, aws *awsGroup) {
	c.t.Helper()
	differ := elasticache.Differences(before, now)
	if len(differ) > 1 || aws.state == ack.GroupModifying {
		c.t.Errorf("a change of %v is made at once, while the group is %s", differ, aws.state)
	}
	c.changedClasses = append(c.changedClasses, differ...)
}

func (c *cloud) createGroup(g *ack.ReplicationGroup) {
	id := *g.Spec.ReplicationGroupID
	aws := &awsGroup{
		spec: g.Spec, state: ack.GroupCreating, until: c.now.Add(c.awsDelay), host: "primary." + id + ".example",
		made: metav1.NewTime(c.now), fails: c.failing > 0,
	}
	c.failing = max(c.failing-1, 0)
	c.sendToken(aws, g)
	c.groups[id] = aws
	c.groupNumber(id)
	g.Finalizers = []string{"finalizers.elasticache.services.k8s.aws/ReplicationGroup"}
	c.reportGroup(g, aws, false)
}

// sendToken has AWS rotate: it accepts the token of the Secret and the previous one.
func (c *cloud) sendToken(aws *awsGroup, g *ack.ReplicationGroup) {
	if g.Spec.AuthToken == nil {
		return
	}
	token := c.index().SecretValue(g.Spec.AuthToken.Name, g.Spec.AuthToken.Key)
	if len(aws.tokens) > 0 && aws.tokens[0] == token {
		return
	}
	aws.tokens = append([]string{token}, aws.tokens...)
	aws.tokens = aws.tokens[:min(2, len(aws.tokens))]
}

// updateGroup carries out what differs. Ready follows from the state of the previous
// sync.
func (c *cloud) updateGroup(g *ack.ReplicationGroup, aws *awsGroup) {
	differ := append(elasticache.Differences(aws.spec, g.Spec), "")
	class := differ[0]
	if class == "" || aws.state != ack.GroupAvailable {
		before := ack.GroupState(g)
		c.reportGroup(g, aws, aws.state == ack.GroupAvailable && (before == ack.GroupAvailable || before == "") || aws.state == ack.GroupCreateFailed)
		return
	}
	if *g.Spec.Description == *aws.spec.Description && class == "security" {
		c.reportGroup(g, aws, true) // that alone is no difference to ACK
		return
	}
	if refusal := c.refusals["update"]; refusal != nil {
		g.Status.Status = ptr.To(aws.state)
		c.reportConditions(g, refusal...)
		c.nextSync[*g.Spec.ReplicationGroupID] = c.now.Add(ackPoll)
		return
	}
	if slices.Contains(differ, "security") {
		c.replaceSecurityGroups(g, aws)
		return
	}
	aws.spec = g.Spec
	c.sendToken(aws, g)
	if class != "quiet" && class != "tags" {
		aws.state, aws.until = ack.GroupModifying, c.now.Add(c.awsDelay)
	}
	c.reportGroup(g, aws, class == "quiet")
}

// replaceSecurityGroups is what ACK does before any other change, which it then
// overwrites with what AWS has.
func (c *cloud) replaceSecurityGroups(g *ack.ReplicationGroup, aws *awsGroup) {
	aws.spec.SecurityGroupIDs = g.Spec.SecurityGroupIDs
	g.Spec = aws.spec
	c.specs[*g.Spec.ReplicationGroupID] = g.Spec
	aws.state, aws.until = ack.GroupModifying, c.now.Add(c.awsDelay)
	c.reportGroup(g, aws, false)
}

// reportGroup writes the status, and schedules a sync of what is not done.
func (c *cloud) reportGroup(g *ack.ReplicationGroup, aws *awsGroup, ready bool) {
	g.Status.Status, g.Status.MemberClusters, g.Status.ReplicationGroupCreateTime = ptr.To(aws.state), nil, &aws.made
	g.Status.ACKResourceMetadata = &ack.ResourceMetadata{Region: ptr.To[ack.AWSRegion]("us-east-1")}
	g.Status.NodeGroups = []*ack.NodeGroup{{}}
	if aws.state != ack.GroupCreating && aws.state != ack.GroupCreateFailed {
		g.Status.NodeGroups[0].PrimaryEndpoint = &ack.Endpoint{Address: ptr.To(aws.host), Port: ptr.To[int64](connection.DefaultPort)}
		for i := range ack.Value(aws.spec.ReplicasPerNodeGroup) + 1 {
			g.Status.MemberClusters = append(g.Status.MemberClusters, ptr.To(*g.Spec.ReplicationGroupID+"-00"+string(rune('1'+i))))
		}
	}
	c.reportConditions(g, synced(ready)...)
	c.nextSync[*g.Spec.ReplicationGroupID] = c.now.Add(ackPoll)
	if ready {
		c.nextSync[*g.Spec.ReplicationGroupID] = c.now.Add(10 * time.Hour)
	}
}

// reportConditions writes all conditions with the time of the sync, as ACK does.
func (c *cloud) reportConditions(o observed.Object, conditions ...*ack.Condition) {
	at := metav1.NewTime(c.now)
	if c.sameSecond {
		at = ack.ConditionsOf(o).LastSyncTime()
	}
	reported := []*ack.Condition{}
	for _, condition := range conditions {
		condition = condition.DeepCopy()
		condition.LastTransitionTime = &at
		reported = append(reported, condition)
	}
	statusOf(o).FieldByName("Conditions").Set(reflect.ValueOf(reported))
}

func synced(ready bool) []*ack.Condition {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return []*ack.Condition{{Type: ack.ConditionSynced, Status: status}, {Type: ack.ConditionReady, Status: status}}
}

func terminal(message string) []*ack.Condition {
	return []*ack.Condition{
		{Type: ack.ConditionTerminal, Status: corev1.ConditionTrue, Message: &message},
		{Type: ack.ConditionSynced, Status: corev1.ConditionFalse, Reason: ptr.To("resource is in terminal condition"), Message: ptr.To("Resource not synced")},
		{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Reason: ptr.To("ACK.Terminal"), Message: &message},
	}
}

func recoverable(message string) []*ack.Condition {
	return []*ack.Condition{
		{Type: ack.ConditionRecoverable, Status: corev1.ConditionTrue, Message: &message},
		{Type: ack.ConditionSynced, Status: corev1.ConditionUnknown, Reason: &message, Message: ptr.To("Unable to determine if desired resource state matches latest observed state")},
		{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Reason: ptr.To("ACK.Recoverable"), Message: &message},
	}
}

// alreadyExists are the conditions for an ID that ACK does not manage: ResourceSynced is True.
func alreadyExists() []*ack.Condition {
	return []*ack.Condition{
		{Type: ack.ConditionTerminal, Status: corev1.ConditionTrue, Message: ptr.To("Resource already exists"), Reason: ptr.To("This resource already exists but is not managed by ACK. Adopt it.")},
		{Type: ack.ConditionSynced, Status: corev1.ConditionTrue},
		{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Reason: ptr.To("ACK.Terminal")},
	}
}

// annotateFlagCache sets an annotation, as a user does.
func (c *cloud) annotateFlagCache(key, value string) {
	if c.fc.Annotations == nil {
		c.fc.Annotations = map[string]string{}
	}
	c.fc.Annotations[key] = value
}

// retry requests the rejected revision again.
func (c *cloud) retry() {
	c.annotateFlagCache(v1alpha1.AnnotationRetry, c.fc.Status.Revisions.Rejected)
}
