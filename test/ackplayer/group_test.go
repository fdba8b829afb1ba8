// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/redis/go-redis/v9"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/ackplayer"
)

// ownedFields returns the fields of an object's spec that a field manager owns.
func ownedFields(o client.Object, manager string) []string {
	var names []string
	for _, entry := range o.GetManagedFields() {
		var fields struct {
			Spec map[string]any `json:"f:spec"`
		}
		if entry.Manager != manager || json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) != nil {
			continue
		}
		for name := range fields.Spec {
			names = append(names, name[len("f:"):])
		}
	}
	slices.Sort(names)
	return names
}

// createSparseGroup creates a group with the required fields only.
func (s *fixture) createSparseGroup(ctx context.Context, id string) *ack.ReplicationGroup {
	GinkgoHelper()
	u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"replicationGroupID": id, "description": "sparse", "engine": "redis", "engineVersion": "7.1", "cacheNodeType": "cache.t3.micro",
		"transitEncryptionEnabled": true, "atRestEncryptionEnabled": true,
	}}}
	u.SetGroupVersionKind(ack.ElastiCache.WithKind("ReplicationGroup"))
	u.SetNamespace(s.namespace)
	u.SetName(id)
	Expect(k8s.Create(ctx, u, operator)).To(Succeed())
	o := &ack.ReplicationGroup{}
	o.Name, o.Namespace = id, s.namespace
	return o
}

// connect connects to an endpoint as a user.
func (s *fixture) connect(endpoint *ack.Endpoint, user, password string) *redis.Client {
	GinkgoHelper()
	Expect(endpoint).NotTo(BeNil())
	roots := x509.NewCertPool()
	Expect(roots.AppendCertsFromPEM(s.CA())).To(BeTrue())
	c := redis.NewClient(&redis.Options{
		Addr: ack.Address(endpoint), Username: user, Password: password,
		TLSConfig: &tls.Config{RootCAs: roots, ServerName: *endpoint.Address, MinVersion: tls.VersionTLS12}, MaxRetries: -1,
	})
	DeferCleanup(c.Close)
	return c
}

var _ = Describe("A new group", func() {
	It("with a full spec is not changed and becomes ready one poll late", func(ctx SpecContext) {
		s := start(ackplayer.Options{})
		s.createSecret(ctx, "auth", token)
		f := s.record(ctx, "demo")
		g := s.createGroup(ctx, fullSpec("demo"))
		Expect(f.until(ctx, "Ready=True")).To(Equal([]string{
			"gen=1",
			"gen=1 managed",
			"gen=1 managed creating ResourceSynced=False LateInitialized=True Ready=False",
			"gen=1 managed available endpoint ResourceSynced=False LateInitialized=True Ready=False",
			"gen=1 managed available endpoint ResourceSynced=True LateInitialized=True Ready=True",
		}))
		expectEventually(ctx, g, "it is ready", available)
		Expect(ownedFields(g, ackplayer.FieldManager)).To(BeEmpty())
		Expect(g.Annotations).To(HaveKeyWithValue("elasticache.services.k8s.aws/last-requested-cache-node-type", "cache.t3.micro"))
		Expect(s.connect(ack.PrimaryEndpoint(g), "", token).Set(ctx, "key", "value", 0).Err()).To(Succeed())
		Expect(s.connect(ack.PrimaryEndpoint(g), "", "a-token-that-is-wrong").Ping(ctx).Err()).To(MatchError(ContainSubstring("WRONGPASS")))
		Expect(s.callCount(ackplayer.Create, "demo")).To(Equal(1))
	}, SpecTimeout(time.Minute))

	It("with a sparse spec is completed and becomes ready at once when the last field triggers a reconcile", func(ctx SpecContext) {
		s := start(ackplayer.Options{})
		f := s.record(ctx, "sparse")
		g := s.createSparseGroup(ctx, "sparse")
		Expect(f.until(ctx, "Ready=True")).To(Equal([]string{
			"gen=1",
			"gen=1 managed",
			"gen=2 managed",
			"gen=3 managed",
			"gen=3 managed creating ResourceSynced=False LateInitialized=True Ready=False",
			"gen=4 managed creating ResourceSynced=False LateInitialized=True Ready=False",
			"gen=4 managed available endpoint ResourceSynced=False LateInitialized=True Ready=False",
			"gen=4 managed available endpoint ResourceSynced=True LateInitialized=True Ready=True",
		}))
		expectEventually(ctx, g, "it is ready", available)
		Expect(ownedFields(g, ackplayer.FieldManager)).To(Equal([]string{
			"cacheParameterGroupName", "durability", "ipDiscovery", "networkType", "snapshotRetentionLimit", "snapshotWindow",
		}))
		err := k8s.Patch(ctx, g, client.RawPatch(types.MergePatchType, []byte(`{"spec": {"networkType": "dual_stack"}}`)))
		Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
	}, SpecTimeout(time.Minute))

	It("is terminal when AWS refuses the empty Modify call of a sparse spec", func(ctx SpecContext) {
		s := start(ackplayer.Options{RejectEmptyModify: true})
		g := s.createSparseGroup(ctx, "empty")
		expectEventually(ctx, g, "AWS refuses the call", func(g *ack.ReplicationGroup) bool { return ack.ConditionsOf(g).Is(ack.ConditionTerminal) })
		Expect(conditionMessage(g, ack.ConditionTerminal)).To(ContainSubstring("No modifications were requested"))
		Expect(ack.GroupState(g)).To(Equal(ack.GroupAvailable))
	}, SpecTimeout(time.Minute))

	It("is Ready although its creation failed", func(ctx SpecContext) {
		s := start(ackplayer.Options{})
		s.Refuse(ackplayer.Create, "doomed", ackplayer.CreateFailed, 1)
		f := s.record(ctx, "doomed")
		g := s.createGroup(ctx, smallSpec("doomed"))
		Expect(f.until(ctx, "Ready=True")).To(Equal([]string{
			"gen=1",
			"gen=1 managed",
			"gen=1 managed creating ResourceSynced=False LateInitialized=True Ready=False",
			"gen=1 managed create-failed ResourceSynced=False LateInitialized=True Ready=False",
			"gen=1 managed create-failed ResourceSynced=True Terminal=False LateInitialized=True Ready=True",
		}))
		expectEventually(ctx, g, "it failed", func(g *ack.ReplicationGroup) bool { return len(g.Status.Events) > 0 })
		Expect(*g.Status.Events[0].Message).To(ContainSubstring("failed to create"))
	}, SpecTimeout(time.Minute))

	It("gets its ID rewritten in lower case", func(ctx SpecContext) {
		s := start(ackplayer.Options{})
		g := s.createGroup(ctx, smallSpec("Demo"))
		expectEventually(ctx, g, "it is ready", available)
		Expect(g.Spec.ReplicationGroupID).To(HaveValue(Equal("demo")))
		Expect(ownedFields(g, ackplayer.FieldManager)).To(Equal([]string{"replicationGroupID"}))
	}, SpecTimeout(time.Minute))

	It("is terminal when its ID is taken, and adopted on request", func(ctx SpecContext) {
		s := start(ackplayer.Options{})
		first := s.createGroup(ctx, smallSpec("taken"), ack.AnnotationDeletionPolicy, ack.DeletionRetain)
		expectEventually(ctx, first, "it is ready", available)
		Expect(k8s.Delete(ctx, first)).To(Succeed())
		expectDeleted(ctx, first)
		Expect(s.Groups()).To(Equal([]string{"taken"}))

		f := s.record(ctx, "taken")
		second := s.createGroup(ctx, smallSpec("taken"))
		Expect(f.until(ctx, "Ready=False")).To(Equal([]string{"gen=1", "gen=1 Terminal=True ResourceSynced=True Ready=False"}))
		Expect(k8s.Delete(ctx, second)).To(Succeed())
		expectDeleted(ctx, second)

		changed := smallSpec("taken")
		changed.Description = ptr.To("adopted")
		third := s.createGroup(ctx, changed, ack.AnnotationAdoptionPolicy, ack.AdoptOrCreate)
		expectEventually(ctx, third, "it is adopted", available)
		Expect(third.Annotations).To(HaveKeyWithValue("services.k8s.aws/adopted", "true"))
		Eventually(func() int { return s.callCount(ackplayer.Modify, "taken") }).Should(Equal(1), "the adopted group is updated")
		Expect(s.callCount(ackplayer.Create, "taken")).To(Equal(1))
	}, SpecTimeout(time.Minute))
})

var _ = Describe("Refusals", func() {
	terminal := []string{
		"ClusterQuotaForCustomerExceeded", "NodeQuotaForClusterExceeded", "NodeQuotaForCustomerExceeded", "InsufficientCacheClusterCapacity",
		"InvalidParameterValue", "InvalidParameterCombination", "InvalidParameter", "InvalidVPCNetworkStateFault",
		"TagQuotaPerResourceExceeded", "InvalidKMSKeyFault", "NodeGroupsPerReplicationGroupQuotaExceeded",
	}

	It("are retried only when the spec changes, if they are terminal", func(ctx SpecContext) {
		s := start(ackplayer.Options{})
		for i, code := range terminal {
			id := fmt.Sprintf("terminal-%d", i)
			s.Refuse(ackplayer.Create, id, code, 1)
			g := s.createGroup(ctx, smallSpec(id))
			expectEventually(ctx, g, code, func(g *ack.ReplicationGroup) bool { return ack.ConditionsOf(g).Is(ack.ConditionTerminal) })
			Expect(summary("", g)).To(Equal("gen=1 managed Terminal=True ResourceSynced=False Ready=False"), code)
			Expect(conditionMessage(g, ack.ConditionReady)).To(HavePrefix(code + ": "))
		}
		g := &ack.ReplicationGroup{}
		Expect(k8s.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: "terminal-0"}, g)).To(Succeed())
		metav1.SetMetaDataAnnotation(&g.ObjectMeta, "poke", "me")
		Expect(k8s.Update(ctx, g)).To(Succeed())
		Consistently(func() int { return s.callCount(ackplayer.Create, "terminal-0") }, 3*poll).Should(Equal(1))
		patch(ctx, g, `{"description": "try again"}`)
		expectEventually(ctx, g, "it is ready", available)
		Expect(s.callCount(ackplayer.Create, "terminal-0")).To(Equal(2))
	}, SpecTimeout(time.Minute))

	It("are retried with back-off if they are not, and the finalizer is removed in between", func(ctx SpecContext) {
		s := start(ackplayer.Options{})
		s.Refuse(ackplayer.Create, "busy", "Throttling", 2)
		f := s.record(ctx, "busy")
		g := s.createGroup(ctx, smallSpec("busy"))
		Expect(f.until(ctx, "Recoverable=True")).To(Equal([]string{
			"gen=1", "gen=1 managed", "gen=1", "gen=1 Recoverable=True ResourceSynced=Unknown Ready=False",
		}))
		f.until(ctx, "managed creating")
		expectEventually(ctx, g, "it is ready", available)
		Expect(s.callCount(ackplayer.Create, "busy")).To(Equal(3))
	}, SpecTimeout(time.Minute))

	It("depend on the node family for data tiering", func(ctx SpecContext) {
		s := start(ackplayer.Options{})
		spec := smallSpec("tiered")
		spec.CacheNodeType = ptr.To("cache.r6gd.xlarge")
		g := s.createGroup(ctx, spec)
		expectEventually(ctx, g, "AWS refuses the call", func(g *ack.ReplicationGroup) bool { return ack.ConditionsOf(g).Is(ack.ConditionTerminal) })
		Expect(conditionMessage(g, ack.ConditionTerminal)).To(ContainSubstring("Data tiering"))
		patch(ctx, g, `{"dataTieringEnabled": true}`)
		expectEventually(ctx, g, "it is ready", available)
		patch(ctx, g, `{"cacheNodeType": "cache.r6g.xlarge"}`)
		expectEventually(ctx, g, "AWS refuses the call", func(g *ack.ReplicationGroup) bool { return ack.ConditionsOf(g).Is(ack.ConditionTerminal) })
	}, SpecTimeout(time.Minute))

	It("affect daily snapshots of groups that were created without them", func(ctx SpecContext) {
		s := start(ackplayer.Options{})
		g := s.createGroup(ctx, smallSpec("backups"))
		expectEventually(ctx, g, "it is ready", available)
		patch(ctx, g, `{"snapshotRetentionLimit": 5}`)
		expectEventually(ctx, g, "AWS refuses the call", func(g *ack.ReplicationGroup) bool { return ack.ConditionsOf(g).Is(ack.ConditionTerminal) })
		Expect(conditionMessage(g, ack.ConditionTerminal)).To(ContainSubstring("SnapshottingClusterId"))
	}, SpecTimeout(time.Minute))

	It("because of a Secret resolve by themselves", func(ctx SpecContext) {
		s := start(ackplayer.Options{})
		g := s.createGroup(ctx, fullSpec("secret"))
		expectEventually(ctx, g, "the Secret does not exist", func(g *ack.ReplicationGroup) bool { return ack.ConditionsOf(g).Is(ack.ConditionRecoverable) })
		Expect(conditionMessage(g, ack.ConditionRecoverable)).To(Equal("kubernetes secret not found"))
		s.createSecret(ctx, "auth", token)
		expectEventually(ctx, g, "it is ready", available)
	}, SpecTimeout(time.Minute))

	It("of a change leave the group synced and not ready until the change is reverted", func(ctx SpecContext) {
		s := start(ackplayer.Options{})
		g := s.createGroup(ctx, smallSpec("back"))
		expectEventually(ctx, g, "it is ready", available)
		patch(ctx, g, `{"engineVersion": "6.2"}`)
		expectEventually(ctx, g, "AWS refuses the call", func(g *ack.ReplicationGroup) bool { return ack.ConditionsOf(g).Is(ack.ConditionTerminal) })
		Expect(summary("", g)).To(Equal("gen=2 managed available endpoint Terminal=True ResourceSynced=True Ready=False"))
		patch(ctx, g, `{"engineVersion": "7.1.0"}`)
		expectEventually(ctx, g, "it is ready", available)
		Expect(ack.ConditionsOf(g).Is(ack.ConditionTerminal)).To(BeFalse())
	}, SpecTimeout(time.Minute))
})

var _ = Describe("A changed group", func() {
	var s *fixture
	var g *ack.ReplicationGroup
	BeforeEach(func(ctx SpecContext) {
		s = start(ackplayer.Options{})
		s.createSecret(ctx, "auth", token)
		g = s.createGroup(ctx, fullSpec("demo"))
		expectEventually(ctx, g, "it is ready", available)
	}, NodeTimeout(time.Minute))

	It("stays ready while its description changes", func(ctx SpecContext) {
		f := s.record(ctx, "demo")
		patch(ctx, g, `{"description": "another"}`)
		Eventually(func() int { return s.callCount(ackplayer.Modify, "demo") }).Should(Equal(1))
		patch(ctx, g, `{"description": "a third"}`)
		Eventually(func() int { return s.callCount(ackplayer.Modify, "demo") }).Should(Equal(2))
		for _, line := range f.until(ctx, "gen=3") {
			Expect(line).To(ContainSubstring("available endpoint ResourceSynced=True LateInitialized=True Ready=True"))
		}
	}, SpecTimeout(time.Minute))

	It("becomes ready after two polls when its node type changes", func(ctx SpecContext) {
		f := s.record(ctx, "demo")
		patch(ctx, g, `{"cacheNodeType": "cache.t3.small"}`)
		f.until(ctx, "gen=2 managed available endpoint ResourceSynced=True")
		Expect(f.until(ctx, "Ready=True")).To(Equal([]string{
			"gen=2 managed modifying endpoint ResourceSynced=False LateInitialized=True Ready=False",
			"gen=2 managed available endpoint ResourceSynced=False LateInitialized=True Ready=False",
			"gen=2 managed available endpoint ResourceSynced=True LateInitialized=True Ready=True",
		}))
	}, SpecTimeout(time.Minute))

	It("loses other changes made together with its replicas", func(ctx SpecContext) {
		patch(ctx, g, `{"replicasPerNodeGroup": 2, "cacheNodeType": "cache.t3.small"}`)
		expectEventually(ctx, g, "it has three nodes", func(g *ack.ReplicationGroup) bool {
			return available(g) && len(g.Status.MemberClusters) == 3
		})
		Expect(g.Spec.CacheNodeType).To(HaveValue(Equal("cache.t3.micro")))
		Expect(ownedFields(g, ackplayer.FieldManager)).To(Equal([]string{"cacheNodeType"}))
		Expect(g.Generation).To(Equal(int64(3)))
	}, SpecTimeout(time.Minute))

	It("gets its security groups only with another change, which is lost", func(ctx SpecContext) {
		patch(ctx, g, `{"securityGroupIDs": ["sg-1"]}`)
		Consistently(func() int { return s.callCount(ackplayer.Modify, "demo") }, 3*poll).Should(BeZero())
		patch(ctx, g, `{"description": "another"}`)
		expectEventually(ctx, g, "the security groups are being modified", func(g *ack.ReplicationGroup) bool { return ack.GroupState(g) == ack.GroupModifying })
		expectEventually(ctx, g, "it is ready", available)
		Expect(s.callCount(ackplayer.Modify, "demo")).To(Equal(1))
		Expect(g.Spec.Description).NotTo(HaveValue(Equal("another")))
		patch(ctx, g, `{"description": "another"}`)
		Eventually(func() int { return s.callCount(ackplayer.Modify, "demo") }).Should(Equal(2))
	}, SpecTimeout(time.Minute))

	It("is not ready for a poll when its tags change", func(ctx SpecContext) {
		patch(ctx, g, `{"tags": [{"key": "team", "value": "shop"}]}`)
		expectEventually(ctx, g, "the tags were changed", func(g *ack.ReplicationGroup) bool { return ack.ConditionsOf(g).Is(ack.ConditionRecoverable) })
		Expect(conditionMessage(g, ack.ConditionReady)).To(Equal("tags Update is in progress"))
		expectEventually(ctx, g, "it is ready", available)
	}, SpecTimeout(time.Minute))

	It("has encryption at rest reverted in the spec", func(ctx SpecContext) {
		patch(ctx, g, `{"atRestEncryptionEnabled": false}`)
		expectEventually(ctx, g, "the field was reverted", func(g *ack.ReplicationGroup) bool { return *g.Spec.AtRestEncryptionEnabled })
		Expect(ownedFields(g, ackplayer.FieldManager)).To(Equal([]string{"atRestEncryptionEnabled"}))
		Expect(s.callCount(ackplayer.Modify, "demo")).To(Equal(1))
	}, SpecTimeout(time.Minute))

	It("is not updated for fields that ACK does not compare", func(ctx SpecContext) {
		patch(ctx, g, `{"port": 6380, "cacheSubnetGroupName": "another", "authToken": {"name": "other", "key": "token"}}`)
		Consistently(func() int { return s.callCount(ackplayer.Modify, "demo") }, 3*poll).Should(BeZero())
		expectEventually(ctx, g, "it stays ready", available)
	}, SpecTimeout(time.Minute))

	It("gets a new token only together with another change, and keeps the previous one", func(ctx SpecContext) {
		next := "a-token-that-comes-next"
		s.setToken(ctx, next)
		Expect(s.Resync(ctx)).To(Succeed())
		Consistently(func() int { return s.callCount(ackplayer.Modify, "demo") }, 3*poll).Should(BeZero())
		Expect(s.connect(ack.PrimaryEndpoint(g), "", next).Ping(ctx).Err()).NotTo(Succeed())

		patch(ctx, g, `{"description": "rotated"}`)
		expectEventually(ctx, g, "the token was rotated", func(g *ack.ReplicationGroup) bool {
			return available(g) && g.Status.AuthTokenLastModifiedDate != nil
		})
		Expect(s.connect(ack.PrimaryEndpoint(g), "", token).Ping(ctx).Err()).To(Succeed())
		Expect(s.connect(ack.PrimaryEndpoint(g), "", next).Ping(ctx).Err()).To(Succeed())

		s.setToken(ctx, "a-token-of-the-future")
		patch(ctx, g, `{"description": "rotated again"}`)
		Eventually(func() error { return s.connect(ack.PrimaryEndpoint(g), "", token).Ping(ctx).Err() }).
			ShouldNot(Succeed(), "the token before the previous one is removed")
		Expect(s.connect(ack.PrimaryEndpoint(g), "", next).Ping(ctx).Err()).To(Succeed())
	}, SpecTimeout(time.Minute))

	It("is stuck without its Secret", func(ctx SpecContext) {
		Expect(k8s.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "auth", Namespace: s.namespace}})).To(Succeed())
		patch(ctx, g, `{"description": "another"}`)
		expectEventually(ctx, g, "the Secret does not exist", func(g *ack.ReplicationGroup) bool { return ack.ConditionsOf(g).Is(ack.ConditionRecoverable) })
		Expect(s.callCount(ackplayer.Modify, "demo")).To(BeZero())
		Expect(k8s.Delete(ctx, g)).To(Succeed())
		expectDeleted(ctx, g)
	}, SpecTimeout(time.Minute))

	It("is abandoned when its ID changes", func(ctx SpecContext) {
		patch(ctx, g, `{"replicationGroupID": "other"}`)
		expectEventually(ctx, g, "a second group exists", func(g *ack.ReplicationGroup) bool {
			return available(g) && slices.Contains(ack.Values(g.Status.MemberClusters), "other-001")
		})
		Expect(s.Groups()).To(Equal([]string{"demo", "other"}))
	}, SpecTimeout(time.Minute))

	It("keeps its endpoint in a failover that ACK does not notice", func(ctx SpecContext) {
		endpoint := ack.PrimaryEndpoint(g)
		Expect(s.connect(endpoint, "", token).Set(ctx, "key", "value", 0).Err()).To(Succeed())
		Expect(s.connect(endpoint, "", token).Wait(ctx, 1, time.Minute).Val()).To(Equal(int64(1)))
		Expect(s.Failover(ctx, "demo")).To(Succeed())
		Expect(s.connect(endpoint, "", token).Get(ctx, "key").Val()).To(Equal("value"))
		Expect(s.connect(endpoint, "", token).Set(ctx, "key", "other", 0).Err()).To(Succeed())
		roles := func() []string {
			Expect(k8s.Get(ctx, client.ObjectKeyFromObject(g), g)).To(Succeed())
			var roles []string
			for _, m := range g.Status.NodeGroups[0].NodeGroupMembers {
				roles = append(roles, *m.CacheClusterID+" "+*m.CurrentRole)
			}
			return roles
		}
		Expect(roles()).To(Equal([]string{"demo-001 primary", "demo-002 replica"}))
		Expect(s.Resync(ctx)).To(Succeed())
		Eventually(roles).Should(Equal([]string{"demo-002 primary", "demo-001 replica"}))
	}, SpecTimeout(time.Minute))

	It("is recreated empty after an out-of-band deletion", func(ctx SpecContext) {
		created := g.Status.ReplicationGroupCreateTime
		Expect(s.connect(ack.PrimaryEndpoint(g), "", token).Set(ctx, "key", "value", 0).Err()).To(Succeed())
		Eventually(time.Now).Should(BeTemporally(">", created.Add(time.Second)), "the creation times differ")
		Expect(s.DeleteOutOfBand("demo")).To(Succeed())
		Expect(s.Resync(ctx)).To(Succeed())
		expectEventually(ctx, g, "it was recreated", func(g *ack.ReplicationGroup) bool {
			return available(g) && !g.Status.ReplicationGroupCreateTime.Equal(created)
		})
		Expect(s.connect(ack.PrimaryEndpoint(g), "", token).Get(ctx, "key").Err()).To(MatchError(redis.Nil))
		Expect(s.callCount(ackplayer.Create, "demo")).To(Equal(2))
	}, SpecTimeout(time.Minute))

	It("is updated after AWS has taken a snapshot", func(ctx SpecContext) {
		Expect(s.Snapshotting("demo", 10*poll)).To(Succeed())
		patch(ctx, g, `{"description": "another"}`)
		expectEventually(ctx, g, "a snapshot is being taken", func(g *ack.ReplicationGroup) bool {
			return ack.GroupState(g) == ack.GroupSnapshotting && ack.ConditionsOf(g).Is(ack.ConditionRecoverable)
		})
		expectEventually(ctx, g, "it is ready", available)
		Expect(s.callCount(ackplayer.Modify, "demo")).To(Equal(1))
	}, SpecTimeout(time.Minute))

	It("is not updated while ACK is paused", func(ctx SpecContext) {
		s.Pause()
		patch(ctx, g, `{"description": "another"}`)
		Consistently(func() int { return s.callCount(ackplayer.Modify, "demo") }, 3*poll).Should(BeZero())
		s.Resume()
		Eventually(func() int { return s.callCount(ackplayer.Modify, "demo") }).Should(Equal(1))
	}, SpecTimeout(time.Minute))
})

// setToken changes the token in the Secret.
func (s *fixture) setToken(ctx context.Context, token string) {
	GinkgoHelper()
	secret := &corev1.Secret{}
	Expect(k8s.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: "auth"}, secret)).To(Succeed())
	secret.StringData = map[string]string{"token": token}
	Expect(k8s.Update(ctx, secret)).To(Succeed())
}

var _ = Describe("Deleting a group", func() {
	It("takes a poll, during which Ready keeps its value", func(ctx SpecContext) {
		s := start(ackplayer.Options{})
		g := s.createGroup(ctx, smallSpec("demo"))
		expectEventually(ctx, g, "it is ready", available)
		f := s.record(ctx, "demo")
		Expect(k8s.Delete(ctx, g)).To(Succeed())
		f.until(ctx, "gen=2")
		Expect(f.until(ctx, "deleted")).To(Equal([]string{
			"gen=2 managed deleting endpoint Recoverable=True ResourceSynced=False Ready=True",
			"deleted",
		}))
		Expect(s.Groups()).To(BeEmpty())
	}, SpecTimeout(time.Minute))

	It("is refused while the group is being created", func(ctx SpecContext) {
		s := start(ackplayer.Options{CreateTime: 10 * poll})
		g := s.createGroup(ctx, smallSpec("demo"))
		expectEventually(ctx, g, "it is being created", func(g *ack.ReplicationGroup) bool { return ack.GroupState(g) == ack.GroupCreating })
		Expect(k8s.Delete(ctx, g)).To(Succeed())
		expectEventually(ctx, g, "AWS refuses the call", func(g *ack.ReplicationGroup) bool { return ack.ConditionsOf(g).Is(ack.ConditionRecoverable) })
		Expect(conditionMessage(g, ack.ConditionRecoverable)).To(And(ContainSubstring("InvalidReplicationGroupState"), ContainSubstring("RequestID: ")))
		expectDeleted(ctx, g)
		Expect(s.callCount(ackplayer.Delete, "demo")).To(BeNumerically(">", 2))
	}, SpecTimeout(time.Minute))

	It("waits while the group is being modified", func(ctx SpecContext) {
		s := start(ackplayer.Options{ModifyTime: 10 * poll})
		g := s.createGroup(ctx, smallSpec("demo"))
		expectEventually(ctx, g, "it is ready", available)
		patch(ctx, g, `{"cacheNodeType": "cache.t3.small"}`)
		expectEventually(ctx, g, "it is being modified", func(g *ack.ReplicationGroup) bool { return ack.GroupState(g) == ack.GroupModifying })
		Expect(k8s.Delete(ctx, g)).To(Succeed())
		expectEventually(ctx, g, "ACK waits", func(g *ack.ReplicationGroup) bool {
			return conditionMessage(g, ack.ConditionRecoverable) == "Modify is in progress."
		})
		expectDeleted(ctx, g)
		Expect(s.callCount(ackplayer.Delete, "demo")).To(Equal(1))
	}, SpecTimeout(time.Minute))

	It("is refused as often as configured", func(ctx SpecContext) {
		s := start(ackplayer.Options{})
		g := s.createGroup(ctx, smallSpec("demo"))
		expectEventually(ctx, g, "it is ready", available)
		s.Refuse(ackplayer.Delete, "demo", "InvalidReplicationGroupState", 3)
		Expect(k8s.Delete(ctx, g)).To(Succeed())
		expectDeleted(ctx, g)
		Expect(s.callCount(ackplayer.Delete, "demo")).To(Equal(4))
	}, SpecTimeout(time.Minute))
})
