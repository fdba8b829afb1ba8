// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/elasticache"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

type checkName = canary.Check

// ackPoll is how often ACK looks at what is not done.
const ackPoll = 30 * time.Second

// ackLooks lets AWS move on and ACK look at what changed or is not done.
func (c *cloud) ackLooks() {
	for _, g := range c.groups {
		if g.until.IsZero() || c.now.Before(g.until) {
			continue
		}
		g.state, g.until = ack.GroupAvailable, time.Time{}
		if g.fails {
			g.state = ack.GroupCreateFailed
		}
	}
	if c.stopped {
		return
	}
	for _, child := range slices.Clone(c.children) {
		if o, ok := child.(ack.Object); ok {
			c.lookAt(o)
		}
	}
}

func (c *cloud) lookAt(o ack.Object) {
	if o.GetDeletionTimestamp() != nil {
		c.deletes(o)
		return
	}
	if g, ok := o.(*ack.ReplicationGroup); ok {
		c.lookAtGroup(g)
		return
	}
	kind := ack.KindOf(o.(observed.Object)).Kind
	key := inAWS(o)
	if len(o.ACKStatus().Conditions) > 0 && !c.due(key) && !c.othersIn(o) {
		return
	}
	switch {
	case c.refuse[kind] != nil:
		c.conditions(o, c.refuse[kind]...)
		return
	case c.parts[key] && len(o.GetFinalizers()) == 0 && o.GetAnnotations()[ack.AnnotationAdoptionPolicy] == "":
		c.conditions(o, existsAlready()...)
		c.polls[key] = c.now.Add(10 * time.Hour) // it is terminal
		return
	}
	c.parts[key] = true
	o.SetFinalizers([]string{"finalizers.services.k8s.aws/" + kind})
	switch o := o.(type) {
	case *ack.SecurityGroup:
		o.Status.ID = "sg-0" + o.Spec.Name
	case *ack.User:
		c.makes(o)
	case *ack.UserGroup:
		c.members[o.Spec.UserGroupID] = slices.Clone(o.Spec.UserIDs)
	case *ack.Snapshot:
		if c.now.Sub(o.CreationTimestamp.Time) >= c.slow {
			o.Status.SnapshotStatus = ack.SnapshotAvailable
		}
	}
	c.conditions(o, synced(true)...)
	c.polls[key] = c.now.Add(ackPoll)
}

// inAWS tells what AWS has besides groups apart. A security group's name there is
// another one for each FlagCache.
func inAWS(o ack.Object) string {
	if g, ok := o.(*ack.SecurityGroup); ok {
		return "SecurityGroup/" + g.Spec.Name
	}
	return ack.KindOf(o.(observed.Object)).Kind + "/" + o.GetName()
}

// othersIn tells whether a user group is to have other users, at which ACK looks at
// once as at every change of a spec.
func (c *cloud) othersIn(o ack.Object) bool {
	group, ok := o.(*ack.UserGroup)
	return ok && !slices.Equal(group.Spec.UserIDs, c.members[group.Spec.UserGroupID])
}

// makes a user. ACK sends a password with its creation and never again.
func (c *cloud) makes(u *ack.User) {
	if _, there := c.users[u.Spec.UserID]; there {
		return
	}
	password := ""
	if mode := u.Spec.AuthenticationMode; mode != nil {
		for _, key := range mode.Passwords {
			password = c.index().SecretValue(key.Name, key.Key)
		}
	}
	c.users[u.Spec.UserID] = u.Spec.UserName + " " + password
}

// losesUser takes a user from AWS, and complains while somebody counts on it.
func (c *cloud) losesUser(id string) {
	delete(c.users, id)
	for group, members := range c.members {
		if slices.Contains(members, id) {
			c.t.Errorf("user %s is deleted while user group %s has it", id, group)
		}
	}
}

func (c *cloud) due(key string) bool { return c.polls[key].IsZero() || !c.now.Before(c.polls[key]) }

// deletes does what ACK does with an object that is to go.
func (c *cloud) deletes(o ack.Object) {
	kind := ack.KindOf(o.(observed.Object)).Kind
	retained := o.GetAnnotations()[ack.AnnotationDeletionPolicy] == ack.DeletionRetain
	g, isGroup := o.(*ack.ReplicationGroup)
	switch {
	case c.refuse["delete "+kind] != nil:
		c.conditions(o, c.refuse["delete "+kind]...)
		return
	case isGroup && !retained:
		id := g.Spec.ReplicationGroupID
		aws := c.groups[id]
		if aws != nil && aws.state != ack.GroupDeleting {
			aws.state, aws.until, g.Status.State = ack.GroupDeleting, c.now.Add(1000*time.Hour), ack.GroupDeleting
			c.polls[id] = c.now.Add(c.slow)
			return
		}
		if aws != nil && !c.due(id) {
			return
		}
		delete(c.groups, id)
		delete(c.specs, id)
		delete(c.polls, id)
	case !retained:
		delete(c.parts, inAWS(o))
		switch o := o.(type) {
		case *ack.User:
			c.losesUser(o.Spec.UserID)
		case *ack.UserGroup:
			delete(c.members, o.Spec.UserGroupID)
		}
		for id, aws := range c.groups {
			if aws.spec.CacheSubnetGroupName == o.GetName() || aws.spec.CacheParameterGroupName == parameterName(o) {
				c.t.Errorf("%s is deleted while group %s uses it", o.GetName(), c.number(id))
			}
		}
	}
	if retained {
		kind += " (retained)"
	}
	c.gone = append(c.gone, kind)
	c.children = without(c.children, o.(observed.Object))
}

func parameterName(o ack.Object) string {
	if p, ok := o.(*ack.CacheParameterGroup); ok {
		return p.Spec.CacheParameterGroupName
	}
	return "-"
}

// lookAtGroup is a look of ACK at a group that is to be.
func (c *cloud) lookAtGroup(g *ack.ReplicationGroup) {
	id := g.Spec.ReplicationGroupID
	seen, known := c.specs[id]
	changed := !known || !reflect.DeepEqual(elasticache.Normalize(seen), elasticache.Normalize(g.Spec))
	terminal := g.Status.Is(ack.ConditionTerminal)
	if !changed && (terminal || !c.due(id)) {
		return
	}
	aws := c.groups[id]
	if changed && known && aws != nil {
		c.applied(seen, g.Spec, aws)
	}
	c.specs[id] = g.Spec
	switch {
	case aws == nil && c.refuse["ReplicationGroup"] != nil:
		c.conditions(g, c.refuse["ReplicationGroup"]...)
		c.polls[id] = c.now.Add(ackPoll)
	case aws == nil:
		c.creates(g)
	case len(g.Finalizers) == 0 && g.Annotations[ack.AnnotationAdoptionPolicy] == "":
		c.conditions(g, existsAlready()...)
	default:
		g.Finalizers = []string{"finalizers.elasticache.services.k8s.aws/ReplicationGroup"}
		c.compares(g, aws)
	}
}

// applied checks that a change is one of one class, and that the last one was over.
func (c *cloud) applied(before, now ack.ReplicationGroupSpec, aws *awsGroup) {
	c.t.Helper()
	differ := elasticache.Differences(before, now)
	if len(differ) > 1 || aws.state == ack.GroupModifying {
		c.t.Errorf("a change of %v is asked for at once, while the group is %s", differ, aws.state)
	}
	c.applies = append(c.applies, differ...)
}

func (c *cloud) creates(g *ack.ReplicationGroup) {
	aws := &awsGroup{
		spec: g.Spec, state: ack.GroupCreating, until: c.now.Add(c.slow), host: "primary." + g.Spec.ReplicationGroupID + ".example",
		made: metav1.NewTime(c.now), fails: c.failing > 0,
	}
	c.failing = max(c.failing-1, 0)
	c.takesToken(aws, g)
	c.groups[g.Spec.ReplicationGroupID] = aws
	c.number(g.Spec.ReplicationGroupID)
	g.Finalizers = []string{"finalizers.elasticache.services.k8s.aws/ReplicationGroup"}
	c.shows(g, aws, false)
}

// takesToken has AWS rotate: the token of the Secret and the one before are taken.
func (c *cloud) takesToken(aws *awsGroup, g *ack.ReplicationGroup) {
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

// compares carries out what differs. Ready is judged with the state of the look
// before.
func (c *cloud) compares(g *ack.ReplicationGroup, aws *awsGroup) {
	differ := append(elasticache.Differences(aws.spec, g.Spec), "")
	class := differ[0]
	if class == "" || aws.state != ack.GroupAvailable {
		before := g.Status.State
		c.shows(g, aws, aws.state == ack.GroupAvailable && (before == ack.GroupAvailable || before == "") || aws.state == ack.GroupCreateFailed)
		return
	}
	if g.Spec.Description == aws.spec.Description && class == "security" {
		c.shows(g, aws, true) // that alone is no difference for ACK
		return
	}
	if refusal := c.refuse["update"]; refusal != nil {
		g.Status.State = aws.state
		c.conditions(g, refusal...)
		c.polls[g.Spec.ReplicationGroupID] = c.now.Add(ackPoll)
		return
	}
	if slices.Contains(differ, "security") {
		c.exchanges(g, aws)
		return
	}
	aws.spec = g.Spec
	c.takesToken(aws, g)
	if class != "quiet" && class != "tags" {
		aws.state, aws.until = ack.GroupModifying, c.now.Add(c.slow)
	}
	c.shows(g, aws, class == "quiet")
}

// exchanges the security groups, which ACK does before any other change, over which
// it writes what AWS has.
func (c *cloud) exchanges(g *ack.ReplicationGroup, aws *awsGroup) {
	aws.spec.SecurityGroupIDs = g.Spec.SecurityGroupIDs
	g.Spec = aws.spec
	c.specs[g.Spec.ReplicationGroupID] = g.Spec
	aws.state, aws.until = ack.GroupModifying, c.now.Add(c.slow)
	c.shows(g, aws, false)
}

// shows writes the status, and looks again soon at what is not done.
func (c *cloud) shows(g *ack.ReplicationGroup, aws *awsGroup, ready bool) {
	g.Status.State, g.Status.MemberClusters, g.Status.ReplicationGroupCreateTime = aws.state, nil, &aws.made
	g.Status.ACKResourceMetadata = &ack.ResourceMetadata{Region: "us-east-1"}
	g.Status.NodeGroups = []ack.NodeGroup{{}}
	if aws.state != ack.GroupCreating && aws.state != ack.GroupCreateFailed {
		g.Status.NodeGroups[0].PrimaryEndpoint = &ack.Endpoint{Address: aws.host, Port: connection.DefaultPort}
		for i := range aws.spec.ReplicasPerNodeGroup + 1 {
			g.Status.MemberClusters = append(g.Status.MemberClusters, g.Spec.ReplicationGroupID+"-00"+string(rune('1'+i)))
		}
	}
	c.conditions(g, synced(ready)...)
	c.polls[g.Spec.ReplicationGroupID] = c.now.Add(ackPoll)
	if ready {
		c.polls[g.Spec.ReplicationGroupID] = c.now.Add(10 * time.Hour)
	}
}

// conditions are rebuilt at each look, so all have its time.
func (c *cloud) conditions(o ack.Object, conditions ...ack.Condition) {
	at := metav1.NewTime(c.now)
	if c.behind {
		at = o.ACKStatus().LastSyncTime()
	}
	conditions = slices.Clone(conditions)
	for i := range conditions {
		conditions[i].LastTransitionTime = &at
	}
	statusOf(o).FieldByName("Conditions").Set(reflect.ValueOf(conditions))
}

func synced(ready bool) []ack.Condition {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	return []ack.Condition{{Type: ack.ConditionSynced, Status: status}, {Type: ack.ConditionReady, Status: status}}
}

func terminal(message string) []ack.Condition {
	return []ack.Condition{
		{Type: ack.ConditionTerminal, Status: corev1.ConditionTrue, Message: message},
		{Type: ack.ConditionSynced, Status: corev1.ConditionFalse, Reason: "resource is in terminal condition", Message: "Resource not synced"},
		{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Reason: "ACK.Terminal", Message: message},
	}
}

func recoverable(message string) []ack.Condition {
	return []ack.Condition{
		{Type: ack.ConditionRecoverable, Status: corev1.ConditionTrue, Message: message},
		{Type: ack.ConditionSynced, Status: corev1.ConditionUnknown, Reason: message, Message: "Unable to determine if desired resource state matches latest observed state"},
		{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Reason: "ACK.Recoverable", Message: message},
	}
}

// existsAlready is what ACK says of an ID that is not its own: ResourceSynced is True.
func existsAlready() []ack.Condition {
	return []ack.Condition{
		{Type: ack.ConditionTerminal, Status: corev1.ConditionTrue, Message: "Resource already exists", Reason: "This resource already exists but is not managed by ACK. Adopt it."},
		{Type: ack.ConditionSynced, Status: corev1.ConditionTrue},
		{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Reason: "ACK.Terminal"},
	}
}

// annotateFlagCache sets an annotation, as a person does.
func (c *cloud) annotateFlagCache(key, value string) {
	if c.fc.Annotations == nil {
		c.fc.Annotations = map[string]string{}
	}
	c.fc.Annotations[key] = value
}

// retries asks for the rejected revision once more.
func (c *cloud) retries() {
	c.annotateFlagCache(v1alpha1.AnnotationRetry, c.fc.Status.Revisions.Rejected)
}
