// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package acklives

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
)

// Values of Secrets.
const (
	firstToken  = "first-token-0123456789"
	secondToken = "second-token-0123456789"
)

// fullGroup returns a group with all fields that ACK would set otherwise.
func fullGroup(name string) *ack.ReplicationGroup {
	g := sparseGroup(name)
	g.Spec.CacheParameterGroupName, g.Spec.SnapshotRetentionLimit, g.Spec.SnapshotWindow = ptr.To("default.redis7"), ptr.To[int64](0), ptr.To("03:00-04:00")
	g.Spec.IPDiscovery, g.Spec.NetworkType, g.Spec.Durability = ptr.To("ipv4"), ptr.To("ipv4"), ptr.To("default")
	g.Spec.MultiAZEnabled = ptr.To(true)
	return g
}

// sparseGroup returns a group with the fields that a user would set.
func sparseGroup(name string) *ack.ReplicationGroup {
	return &ack.ReplicationGroup{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: ack.ReplicationGroupSpec{
			ReplicationGroupID: &name, Description: ptr.To("a cache"), Engine: ptr.To("redis"), EngineVersion: ptr.To("7.1"), CacheNodeType: ptr.To("cache.t3.micro"),
			NumNodeGroups: ptr.To[int64](1), ReplicasPerNodeGroup: ptr.To[int64](1), AutomaticFailoverEnabled: ptr.To(true),
			TransitEncryptionEnabled: ptr.To(true), AtRestEncryptionEnabled: ptr.To(true), CacheSubnetGroupName: ptr.To("default"),
		},
	}
}

// withToken lets a group use the token in the Secret "token".
func withToken(g *ack.ReplicationGroup) *ack.ReplicationGroup {
	g.Spec.AuthToken = secretKey("token")
	return g
}

func secretKey(name string) *ack.SecretKey {
	key := &ack.SecretKey{Key: secretEntry}
	key.Name = name
	return key
}

// secretEntry is the key of all Secrets.
const secretEntry = "value"

func createStep(o client.Object, until ...*state) step {
	return step{"create " + ack.KindOf(o).Kind + " " + o.GetName(), func(s stage) { s.create(o.DeepCopyObject().(client.Object)) }, until}
}

func removeStep(o client.Object, until ...*state) step {
	return step{"delete " + ack.KindOf(o).Kind + " " + o.GetName(), func(s stage) { s.remove(o) }, until}
}

// change is a step that edits the spec of a group.
func change(name string, g *ack.ReplicationGroup, edit func(*ack.ReplicationGroupSpec), until ...*state) step {
	return step{name, func(s stage) {
		s.edit(g, func(o client.Object) { edit(&o.(*ack.ReplicationGroup).Spec) })
	}, until}
}

// describe is a step that changes the description, which wakes ACK.
func describe(g *ack.ReplicationGroup, description string, until ...*state) step {
	return change("change the description", g, func(s *ack.ReplicationGroupSpec) { s.Description = &description }, until...)
}

func secretStep(name, value string, until ...*state) step {
	what := "write Secret "
	if value == "" {
		what = "delete Secret "
	}
	return step{what + name, func(s stage) { s.secret(name, value) }, until}
}

func awsStep(name string, do func(stage)) step { return step{name, do, nil} }

// modified is ready after a modification that AWS makes at once.
func modified(g *ack.ReplicationGroup) *state { return readyAfter(g, "ModifyReplicationGroup") }

// lives are all lives.
func lives() []life {
	return []life{
		createdFully(), createdSparsely(), nodeType(), engineVersion(), replicas(), tokenRotation(), quota(), denied(), failedCreation(), users(),
		retained(), inspected(), deletedWhileCreating(), deletedWhileModifying(), lost(), missingSecret(), rolledBack(), network(), editedByHand(), withoutRole(), snapshotted(),
	}
}

func createdFully() life {
	g := fullGroup("full")
	return life{g.Name, []step{
		createStep(g, ready(g)),
		describe(g, "another cache", modified(g)),
		change("add a tag", g, func(s *ack.ReplicationGroupSpec) { s.Tags = []*ack.Tag{{Key: ptr.To("team"), Value: ptr.To("shop")}} },
			append([]*state{during(has(g, ack.ConditionRecoverable, "tags Update is in progress"))}, changed(g)...)...),
		removeStep(g, gone(g)),
	}}
}

func createdSparsely() life {
	g := sparseGroup("sparse")
	return life{g.Name, []step{
		createStep(g, ready(g)),
		removeStep(g, gone(g)),
	}}
}

func nodeType() life {
	g := fullGroup("node-type")
	return life{g.Name, []step{
		createStep(g, ready(g)),
		change("request larger nodes", g, func(s *ack.ReplicationGroupSpec) { s.CacheNodeType = ptr.To("cache.t3.small") }, changed(g)...),
		change("request smaller nodes and one more replica", g, func(s *ack.ReplicationGroupSpec) {
			s.CacheNodeType, s.ReplicasPerNodeGroup = ptr.To("cache.t3.micro"), ptr.To[int64](2)
		}, changed(g)...),
	}}
}

func engineVersion() life {
	g := fullGroup("engine-version")
	g.Spec.EngineVersion = ptr.To("7.0")
	set := func(name, version string, until ...*state) step {
		return change(name, g, func(s *ack.ReplicationGroupSpec) { s.EngineVersion = &version }, until...)
	}
	return life{g.Name, []step{
		createStep(g, ready(g)),
		set("request a newer version", "7.1", changed(g)...),
		set("request an older version", "6.2", has(g, ack.ConditionTerminal)),
		set("take that back", "7.1", ready(g)),
	}}
}

func replicas() life {
	g := fullGroup("replicas")
	set := func(name string, n int64) step {
		return change(name, g, func(s *ack.ReplicationGroupSpec) { s.ReplicasPerNodeGroup = &n }, changed(g)...)
	}
	return life{g.Name, []step{
		createStep(g, ready(g)),
		set("request one more replica", 2),
		set("request one replica less", 1),
	}}
}

func tokenRotation() life {
	g := withToken(fullGroup("token"))
	return life{g.Name, []step{
		secretStep("token", firstToken),
		createStep(g, ready(g)),
		secretStep("token", secondToken),
		describe(g, "rotated", changed(g)...),
	}}
}

func quota() life {
	g := fullGroup("quota")
	const message = "The request cannot be processed because it would exceed the allowed number of cache nodes per customer."
	return life{g.Name, []step{
		awsStep("exceed the quota", func(s stage) { s.refuse("CreateReplicationGroup", g.Name, "NodeQuotaForCustomerExceeded", message, 1) }),
		createStep(g, has(g, ack.ConditionTerminal)),
		describe(g, "attempt 2", ready(g)),
		awsStep("exhaust the capacity", func(s stage) {
			s.refuse("ModifyReplicationGroup", g.Name, "InsufficientCacheClusterCapacity", "The requested cache node type is not available in the specified Availability Zone.", 1)
		}),
		change("request larger nodes", g, func(s *ack.ReplicationGroupSpec) { s.CacheNodeType = ptr.To("cache.r6g.large") }, has(g, ack.ConditionTerminal)),
		change("take that back", g, func(s *ack.ReplicationGroupSpec) { s.CacheNodeType = ptr.To("cache.t3.micro") }, ready(g)),
	}}
}

func denied() life {
	g := fullGroup("denied")
	const message = "User: arn:aws:iam::123456789012:user/ack is not authorized to perform this action"
	return life{g.Name, []step{
		awsStep("deny creations", func(s stage) { s.refuse("CreateReplicationGroup", g.Name, "AccessDenied", message, 6) }),
		createStep(g, ready(g)),
		awsStep("deny modifications", func(s stage) { s.refuse("ModifyReplicationGroup", g.Name, "AccessDenied", message, 8) }),
		describe(g, "denied", has(g, ack.ConditionRecoverable), modified(g)),
		awsStep("deny reads", func(s stage) { s.refuse("DescribeReplicationGroups", g.Name, "AccessDenied", message, 8) }),
		describe(g, "unread", has(g, ack.ConditionRecoverable), modified(g)),
		awsStep("throttle modifications", func(s stage) { s.refuse("ModifyReplicationGroup", g.Name, "Throttling", "Rate exceeded", 1) }),
		describe(g, "throttled", has(g, ack.ConditionRecoverable), modified(g)),
	}}
}

func failedCreation() life {
	g := fullGroup("create-failed")
	return life{g.Name, []step{
		awsStep("fail the creation", func(s stage) { s.failCreation(g.Name) }),
		createStep(g, inAWS(g, ack.GroupCreateFailed), has(g, ack.ConditionReady)),
		describe(g, "attempt 2", has(g, ack.ConditionRecoverable)),
		removeStep(g, gone(g)),
	}}
}

func users() life {
	g := fullGroup("users")
	user := func(id, access string, mode *ack.AuthenticationMode) *ack.User {
		return &ack.User{ObjectMeta: metav1.ObjectMeta{Name: id}, Spec: ack.UserSpec{
			UserID: &id, UserName: &id, Engine: ptr.To("redis"), AccessString: &access, AuthenticationMode: mode,
		}}
	}
	probe := user("users-probe", "on ~* +ping", &ack.AuthenticationMode{Type: ptr.To("password"), Passwords: []*ack.SecretKey{secretKey("probe")}})
	app := user("users-app", "on ~app:* &* -@all +get +set", &ack.AuthenticationMode{Type: ptr.To("iam")})
	noName := user("users-default", "off -@all", nil)
	noName.Spec.UserName, noName.Spec.NoPasswordRequired = ptr.To("default"), ptr.To(true)
	group := &ack.UserGroup{ObjectMeta: metav1.ObjectMeta{Name: "users-group"}, Spec: ack.UserGroupSpec{
		UserGroupID: ptr.To("users-group"), Engine: ptr.To("redis"), UserIDs: ack.Pointers("users-default", "users-probe", "users-app"),
	}}
	g.Spec.UserGroupIDs = ack.Pointers("users-group")
	return life{g.Name, []step{
		createStep(probe, has(probe, ack.ConditionRecoverable)),
		secretStep("probe", firstToken, ready(probe)),
		createStep(app, ready(app)),
		createStep(group, has(group, ack.ConditionRecoverable)),
		createStep(noName, ready(noName), ready(group)),
		createStep(g, ready(g)),
		{"change what the user may do", func(s stage) {
			s.edit(app, func(o client.Object) { o.(*ack.User).Spec.AccessString = ptr.To("on ~app:* &* -@all +get") })
		}, []*state{
			{object: app, name: "modifying", holds: func(o client.Object) bool { return ack.Value(o.(*ack.User).Status.Status) != ack.UserActive }},
			ready(app),
		}},
		removeStep(group, has(group, ack.ConditionRecoverable)),
		removeStep(g, gone(g), gone(group)),
		removeStep(app, gone(app)),
	}}
}

func retained() life {
	g := fullGroup("retained")
	g.Annotations = map[string]string{ack.AnnotationDeletionPolicy: ack.DeletionRetain}
	again := fullGroup("retained")
	adopting := fullGroup("retained")
	adopting.Annotations = map[string]string{ack.AnnotationAdoptionPolicy: ack.AdoptOrCreate, ack.AnnotationAdoptionFields: `{"replicationGroupID":"retained"}`}
	adopting.Spec.Description = ptr.To("adopted")
	return life{g.Name, []step{
		createStep(g, ready(g)),
		removeStep(g, gone(g)),
		createStep(again, has(again, ack.ConditionTerminal)),
		removeStep(again, gone(again)),
		createStep(adopting, modified(adopting)),
		awsStep("delete it in AWS", func(s stage) { s.deleteInAWS(g.Name) }),
		describe(adopting, "lost", &state{object: adopting, name: "described", holds: func(o client.Object) bool {
			return ack.Value(o.(*ack.ReplicationGroup).Spec.Description) == "lost"
		}}),
	}}
}

// inspected is the life of a group that is read before it is adopted: a spec with neither
// tags nor settings gets those of AWS, and nothing is changed before the object is not
// read-only any more.
func inspected() life {
	g := fullGroup("inspected")
	g.Spec.Tags = []*ack.Tag{{Key: ptr.To("owner"), Value: ptr.To("first")}}
	g.Annotations = map[string]string{ack.AnnotationDeletionPolicy: ack.DeletionRetain}
	taken := fullGroup("inspected")
	left := inspection("inspected")
	inspecting := inspection("inspected")
	wasRead := func(o *ack.ReplicationGroup) *state {
		return &state{object: o, name: "read", holds: func(o client.Object) bool {
			g := o.(*ack.ReplicationGroup)
			return g.Annotations[ack.AnnotationAdopted] == "true" && len(g.Spec.Tags) == 1 && ack.ConditionsOf(g).Is(ack.ConditionReady)
		}}
	}
	return life{g.Name, []step{
		createStep(g, ready(g)),
		removeStep(g, gone(g)),
		createStep(left, wasRead(left)),
		removeStep(left, gone(left)),
		createStep(taken, has(taken, ack.ConditionTerminal)),
		{"inspect what AWS has", func(s stage) {
			s.edit(taken, func(o client.Object) {
				o.SetAnnotations(inspecting.Annotations)
				o.(*ack.ReplicationGroup).Spec = inspecting.Spec
			})
		}, []*state{wasRead(taken)}},
		{"take it over", func(s stage) {
			s.edit(taken, func(o client.Object) {
				annotations := o.GetAnnotations()
				delete(annotations, ack.AnnotationReadOnly)
				delete(annotations, ack.AnnotationAdoptionPolicy)
				delete(annotations, ack.AnnotationAdoptionFields)
				o.SetAnnotations(annotations)
				o.(*ack.ReplicationGroup).Spec.Description = ptr.To("taken over")
			})
		}, []*state{modified(taken)}},
	}}
}

// inspection reads a group.
func inspection(name string) *ack.ReplicationGroup {
	return &ack.ReplicationGroup{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{
			ack.AnnotationAdoptionPolicy: ack.Adopt, ack.AnnotationAdoptionFields: `{"replicationGroupID":"` + name + `"}`,
			ack.AnnotationReadOnly: "true", ack.AnnotationDeletionPolicy: ack.DeletionRetain,
		}},
		Spec: ack.ReplicationGroupSpec{ReplicationGroupID: &name, Description: ptr.To("inspected")},
	}
}

func deletedWhileCreating() life {
	g := fullGroup("delete-creating")
	const refused = "InvalidReplicationGroupState: Replication group delete-creating has status creating which is not valid for deletion."
	return life{g.Name, []step{
		createStep(g, during(inAWS(g, ack.GroupCreating))),
		removeStep(g, during(has(g, ack.ConditionRecoverable, refused)), gone(g)),
	}}
}

func deletedWhileModifying() life {
	g := fullGroup("delete-modifying")
	return life{g.Name, []step{
		createStep(g, ready(g)),
		change("request larger nodes", g, func(s *ack.ReplicationGroupSpec) { s.CacheNodeType = ptr.To("cache.t3.small") }, changing(g)...),
		removeStep(g, during(has(g, ack.ConditionRecoverable, "Modify is in progress.")), gone(g)),
	}}
}

func lost() life {
	g := fullGroup("lost")
	return life{g.Name, []step{
		createStep(g, ready(g)),
		awsStep("delete it in AWS", func(s stage) { s.deleteInAWS(g.Name) }),
		describe(g, "look again", inAWS(g, ack.GroupCreating), ready(g)),
		awsStep("delete it in AWS again", func(s stage) { s.deleteInAWS(g.Name) }),
		removeStep(g, gone(g)),
	}}
}

func missingSecret() life {
	g := withToken(fullGroup("secret"))
	return life{g.Name, []step{
		createStep(g, has(g, ack.ConditionRecoverable)),
		secretStep("token", firstToken, ready(g)),
		secretStep("token", ""),
		describe(g, "without a secret", has(g, ack.ConditionRecoverable)),
		secretStep("token", firstToken, modified(g)),
	}}
}

// cannotUpdate is what ACK says about a change that it requested already.
const cannotUpdate = "InvalidParameterCombination: Cannot update CacheNodeType, Please refer to Events for more details"

func rolledBack() life {
	g := fullGroup("rolled-back")
	set := func(name, value string, until ...*state) step {
		return change(name, g, func(s *ack.ReplicationGroupSpec) { s.CacheNodeType = &value }, until...)
	}
	return life{g.Name, []step{
		createStep(g, ready(g)),
		awsStep("roll the next modification back", func(s stage) { s.rollBack(g.Name) }),
		set("request larger nodes", "cache.t3.small", append(changing(g), has(g, ack.ConditionRecoverable, cannotUpdate))...),
		set("take that back", "cache.t3.micro", ready(g)),
		set("request larger nodes again", "cache.t3.small", has(g, ack.ConditionRecoverable, cannotUpdate)),
		set("request other nodes", "cache.t3.medium", changed(g)...),
	}}
}

func network() life {
	subnets := &ack.CacheSubnetGroup{ObjectMeta: metav1.ObjectMeta{Name: "network"}, Spec: ack.CacheSubnetGroupSpec{
		CacheSubnetGroupName: ptr.To("network"), CacheSubnetGroupDescription: ptr.To("subnets"), SubnetIDs: ack.Pointers("subnet-1", "subnet-2"),
	}}
	parameters := &ack.CacheParameterGroup{ObjectMeta: metav1.ObjectMeta{Name: "network"}, Spec: ack.CacheParameterGroupSpec{
		CacheParameterGroupName: ptr.To("network"), CacheParameterGroupFamily: ptr.To("redis7"), Description: ptr.To("parameters"),
		ParameterNameValues: []*ack.ParameterNameValue{{ParameterName: ptr.To("maxmemory-policy"), ParameterValue: ptr.To("allkeys-lru")}},
	}}
	g := fullGroup("network")
	g.Spec.CacheSubnetGroupName, g.Spec.CacheParameterGroupName = ptr.To("network"), ptr.To("network")
	return life{g.Name, []step{
		createStep(parameters, ready(parameters)),
		createStep(g, has(g, ack.ConditionRecoverable)),
		createStep(subnets, ready(subnets), ready(g)),
		{"add a subnet", func(s stage) {
			s.edit(subnets, func(o client.Object) {
				o.(*ack.CacheSubnetGroup).Spec.SubnetIDs = ack.Pointers("subnet-1", "subnet-2", "subnet-3")
			})
		}, []*state{readyAfter(subnets, "ModifyCacheSubnetGroup")}},
		removeStep(subnets, has(subnets, ack.ConditionRecoverable)),
		removeStep(g, gone(g), gone(subnets)),
		removeStep(parameters, gone(parameters)),
	}}
}

func editedByHand() life {
	g := fullGroup("edited")
	g.Spec.SecurityGroupIDs = ack.Pointers("sg-1")
	return life{g.Name, []step{
		createStep(g, ready(g)),
		change("turn the encryption at rest off", g, func(s *ack.ReplicationGroupSpec) { s.AtRestEncryptionEnabled = ptr.To(false) },
			modified(g)),
		change("turn the encryption in transit off", g, func(s *ack.ReplicationGroupSpec) { s.TransitEncryptionEnabled = ptr.To(false) }, has(g, ack.ConditionTerminal)),
		change("turn it on again", g, func(s *ack.ReplicationGroupSpec) { s.TransitEncryptionEnabled = ptr.To(true) }, ready(g)),
		change("request a second shard", g, func(s *ack.ReplicationGroupSpec) { s.NumNodeGroups = ptr.To[int64](2) }, notReady(g)),
		change("take that back", g, func(s *ack.ReplicationGroupSpec) { s.NumNodeGroups = ptr.To[int64](1) }, ready(g)),
		change("change the security groups and the description", g, func(s *ack.ReplicationGroupSpec) {
			s.SecurityGroupIDs, s.Description = ack.Pointers("sg-1", "sg-2"), ptr.To("two groups")
		}, changed(g)...),
		change("turn Multi-AZ off", g, func(s *ack.ReplicationGroupSpec) { s.MultiAZEnabled = ptr.To(false) }, changed(g)...),
		change("request the engine valkey", g, func(s *ack.ReplicationGroupSpec) {
			s.Engine, s.EngineVersion, s.CacheParameterGroupName = ptr.To("valkey"), ptr.To("8.0"), ptr.To("default.valkey8")
		}, changed(g)...),
		change("change the port", g, func(s *ack.ReplicationGroupSpec) { s.Port = ptr.To[int64](6380) }, ready(g)),
	}}
}

func withoutRole() life {
	g := fullGroup("role")
	return life{g.Name, []step{
		awsStep("annotate the namespace with an account that ACK has no role in", func(s stage) { s.ownerAccount("210987654321") }),
		createStep(g, says(g, ack.ConditionSynced, "IAM Role is not available")),
		removeStep(g, gone(g)),
	}}
}

func snapshotted() life {
	g := fullGroup("snapshot")
	snapshot := &ack.Snapshot{ObjectMeta: metav1.ObjectMeta{Name: "snapshot-final"}, Spec: ack.SnapshotSpec{
		SnapshotName: ptr.To("snapshot-final"), CacheClusterID: ptr.To("snapshot-002"),
	}}
	return life{g.Name, []step{
		createStep(g, ready(g)),
		createStep(snapshot, ready(snapshot)),
		removeStep(snapshot, gone(snapshot)),
	}}
}
