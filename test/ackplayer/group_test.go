// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/ackplayer"
)

// owned are the fields of an object's spec that a manager owns.
func owned(o client.Object, manager string) []string {
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

// sparse creates a group with only what it takes.
func (s *stage) sparse(ctx context.Context, id string) *ack.ReplicationGroup {
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

// connect logs in to an endpoint as whom it says.
func (s *stage) connect(endpoint *ack.Endpoint, user, password string) *redis.Client {
	GinkgoHelper()
	Expect(endpoint).NotTo(BeNil())
	roots := x509.NewCertPool()
	Expect(roots.AppendCertsFromPEM(s.CA())).To(BeTrue())
	c := redis.NewClient(&redis.Options{
		Addr: net.JoinHostPort(endpoint.Address, fmt.Sprint(endpoint.Port)), Username: user, Password: password,
		TLSConfig: &tls.Config{RootCAs: roots, ServerName: endpoint.Address, MinVersion: tls.VersionTLS12}, MaxRetries: -1,
	})
	DeferCleanup(c.Close)
	return c
}

var _ = Describe("Creating a group", func() {
	It("with a full spec writes nothing into it, and is ready one poll late", func(ctx SpecContext) {
		s := play(ackplayer.Options{})
		s.secret(ctx, "auth", token)
		f := s.film(ctx, "demo")
		g := s.group(ctx, full("demo"))
		Expect(f.until(ctx, "Ready=True")).To(Equal([]string{
			"gen=1",
			"gen=1 managed",
			"gen=1 managed creating ResourceSynced=False LateInitialized=True Ready=False",
			"gen=1 managed available endpoint ResourceSynced=False LateInitialized=True Ready=False",
			"gen=1 managed available endpoint ResourceSynced=True LateInitialized=True Ready=True",
		}))
		eventually(ctx, g, "it is ready", available)
		Expect(owned(g, ackplayer.FieldManager)).To(BeEmpty())
		Expect(g.Annotations).To(HaveKeyWithValue("elasticache.services.k8s.aws/last-requested-cache-node-type", "cache.t3.micro"))
		Expect(s.connect(g.PrimaryEndpoint(), "", token).Set(ctx, "key", "value", 0).Err()).To(Succeed())
		Expect(s.connect(g.PrimaryEndpoint(), "", "a-token-that-is-wrong").Ping(ctx).Err()).To(MatchError(ContainSubstring("WRONGPASS")))
		Expect(s.count(ackplayer.Create, "demo")).To(Equal(1))
	}, SpecTimeout(time.Minute))

	It("with a sparse spec fills it in, and is ready at once when the last field woke ACK", func(ctx SpecContext) {
		s := play(ackplayer.Options{})
		f := s.film(ctx, "sparse")
		g := s.sparse(ctx, "sparse")
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
		eventually(ctx, g, "it is ready", available)
		Expect(owned(g, ackplayer.FieldManager)).To(Equal([]string{
			"cacheParameterGroupName", "durability", "ipDiscovery", "networkType", "snapshotRetentionLimit", "snapshotWindow",
		}))
		err := k8s.Patch(ctx, g, client.RawPatch(types.MergePatchType, []byte(`{"spec": {"networkType": "dual_stack"}}`)))
		Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
	}, SpecTimeout(time.Minute))

	It("is terminal when AWS refuses the call without changes that a sparse spec makes", func(ctx SpecContext) {
		s := play(ackplayer.Options{RejectEmptyModify: true})
		g := s.sparse(ctx, "empty")
		eventually(ctx, g, "AWS refuses", func(g *ack.ReplicationGroup) bool { return g.Status.Is(ack.ConditionTerminal) })
		Expect(message(g, ack.ConditionTerminal)).To(ContainSubstring("No modifications were requested"))
		Expect(g.Status.State).To(Equal(ack.GroupAvailable))
	}, SpecTimeout(time.Minute))

	It("that fails is Ready all the same", func(ctx SpecContext) {
		s := play(ackplayer.Options{})
		s.Refuse(ackplayer.Create, "doomed", ackplayer.CreateFailed, 1)
		f := s.film(ctx, "doomed")
		g := s.group(ctx, small("doomed"))
		Expect(f.until(ctx, "Ready=True")).To(Equal([]string{
			"gen=1",
			"gen=1 managed",
			"gen=1 managed creating ResourceSynced=False LateInitialized=True Ready=False",
			"gen=1 managed create-failed ResourceSynced=False LateInitialized=True Ready=False",
			"gen=1 managed create-failed ResourceSynced=True Terminal=False LateInitialized=True Ready=True",
		}))
		eventually(ctx, g, "it failed", func(g *ack.ReplicationGroup) bool { return len(g.Status.Events) > 0 })
		Expect(g.Status.Events[0].Message).To(ContainSubstring("failed to create"))
	}, SpecTimeout(time.Minute))

	It("writes an ID back in lower case", func(ctx SpecContext) {
		s := play(ackplayer.Options{})
		g := s.group(ctx, small("Demo"))
		eventually(ctx, g, "it is ready", available)
		Expect(g.Spec.ReplicationGroupID).To(Equal("demo"))
		Expect(owned(g, ackplayer.FieldManager)).To(Equal([]string{"replicationGroupID"}))
	}, SpecTimeout(time.Minute))

	It("is terminal where the ID is somebody else's, without a finalizer, and adopts on request", func(ctx SpecContext) {
		s := play(ackplayer.Options{})
		first := s.group(ctx, small("taken"), ack.AnnotationDeletionPolicy, ack.DeletionRetain)
		eventually(ctx, first, "it is ready", available)
		Expect(k8s.Delete(ctx, first)).To(Succeed())
		gone(ctx, first)
		Expect(s.Groups()).To(Equal([]string{"taken"}))

		f := s.film(ctx, "taken")
		second := s.group(ctx, small("taken"))
		Expect(f.until(ctx, "Ready=False")).To(Equal([]string{"gen=1", "gen=1 Terminal=True ResourceSynced=True Ready=False"}))
		Expect(k8s.Delete(ctx, second)).To(Succeed())
		gone(ctx, second)

		changed := small("taken")
		changed.Description = "adopted"
		third := s.group(ctx, changed, ack.AnnotationAdoptionPolicy, ack.AdoptOrCreate)
		eventually(ctx, third, "it is adopted", available)
		Expect(third.Annotations).To(HaveKeyWithValue("services.k8s.aws/adopted", "true"))
		Eventually(func() int { return s.count(ackplayer.Modify, "taken") }).Should(Equal(1), "the update follows")
		Expect(s.count(ackplayer.Create, "taken")).To(Equal(1))
	}, SpecTimeout(time.Minute))
})

var _ = Describe("Refusals", func() {
	terminal := []string{
		"ClusterQuotaForCustomerExceeded", "NodeQuotaForClusterExceeded", "NodeQuotaForCustomerExceeded", "InsufficientCacheClusterCapacity",
		"InvalidParameterValue", "InvalidParameterCombination", "InvalidParameter", "InvalidVPCNetworkStateFault",
		"TagQuotaPerResourceExceeded", "InvalidKMSKeyFault", "NodeGroupsPerReplicationGroupQuotaExceeded",
	}

	It("that are terminal are tried again when the spec changes, and not before", func(ctx SpecContext) {
		s := play(ackplayer.Options{})
		for i, code := range terminal {
			id := fmt.Sprintf("terminal-%d", i)
			s.Refuse(ackplayer.Create, id, code, 1)
			g := s.group(ctx, small(id))
			eventually(ctx, g, code, func(g *ack.ReplicationGroup) bool { return g.Status.Is(ack.ConditionTerminal) })
			Expect(frame("", g)).To(Equal("gen=1 managed Terminal=True ResourceSynced=False Ready=False"), code)
			Expect(message(g, ack.ConditionReady)).To(HavePrefix(code + ": "))
		}
		g := &ack.ReplicationGroup{}
		Expect(k8s.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: "terminal-0"}, g)).To(Succeed())
		metav1.SetMetaDataAnnotation(&g.ObjectMeta, "poke", "me")
		Expect(k8s.Update(ctx, g)).To(Succeed())
		Consistently(func() int { return s.count(ackplayer.Create, "terminal-0") }, 3*poll).Should(Equal(1))
		patch(ctx, g, `{"description": "try again"}`)
		eventually(ctx, g, "it is ready", available)
		Expect(s.count(ackplayer.Create, "terminal-0")).To(Equal(2))
	}, SpecTimeout(time.Minute))

	It("that are not are tried again with back-off, the finalizer coming and going", func(ctx SpecContext) {
		s := play(ackplayer.Options{})
		s.Refuse(ackplayer.Create, "busy", "Throttling", 2)
		f := s.film(ctx, "busy")
		g := s.group(ctx, small("busy"))
		Expect(f.until(ctx, "Recoverable=True")).To(Equal([]string{
			"gen=1", "gen=1 managed", "gen=1", "gen=1 Recoverable=True ResourceSynced=Unknown Ready=False",
		}))
		f.until(ctx, "managed creating")
		eventually(ctx, g, "it is ready", available)
		Expect(s.count(ackplayer.Create, "busy")).To(Equal(3))
	}, SpecTimeout(time.Minute))

	It("of data tiering are about the family of the nodes", func(ctx SpecContext) {
		s := play(ackplayer.Options{})
		spec := small("tiered")
		spec.CacheNodeType = "cache.r6gd.xlarge"
		g := s.group(ctx, spec)
		eventually(ctx, g, "AWS refuses", func(g *ack.ReplicationGroup) bool { return g.Status.Is(ack.ConditionTerminal) })
		Expect(message(g, ack.ConditionTerminal)).To(ContainSubstring("data tiering"))
		patch(ctx, g, `{"dataTieringEnabled": true}`)
		eventually(ctx, g, "it is ready", available)
		patch(ctx, g, `{"cacheNodeType": "cache.r6g.xlarge"}`)
		eventually(ctx, g, "AWS refuses", func(g *ack.ReplicationGroup) bool { return g.Status.Is(ack.ConditionTerminal) })
	}, SpecTimeout(time.Minute))

	It("of daily snapshots are about groups that began without", func(ctx SpecContext) {
		s := play(ackplayer.Options{})
		g := s.group(ctx, small("backups"))
		eventually(ctx, g, "it is ready", available)
		patch(ctx, g, `{"snapshotRetentionLimit": 5}`)
		eventually(ctx, g, "AWS refuses", func(g *ack.ReplicationGroup) bool { return g.Status.Is(ack.ConditionTerminal) })
		Expect(message(g, ack.ConditionTerminal)).To(ContainSubstring("SnapshottingClusterId"))
	}, SpecTimeout(time.Minute))

	It("of a Secret heal by themselves", func(ctx SpecContext) {
		s := play(ackplayer.Options{})
		g := s.group(ctx, full("secret"))
		eventually(ctx, g, "there is no Secret", func(g *ack.ReplicationGroup) bool { return g.Status.Is(ack.ConditionRecoverable) })
		Expect(message(g, ack.ConditionRecoverable)).To(Equal("kubernetes secret not found"))
		s.secret(ctx, "auth", token)
		eventually(ctx, g, "it is ready", available)
	}, SpecTimeout(time.Minute))

	It("of a change leave it in sync and not ready, until the change is taken back", func(ctx SpecContext) {
		s := play(ackplayer.Options{})
		g := s.group(ctx, small("back"))
		eventually(ctx, g, "it is ready", available)
		patch(ctx, g, `{"engineVersion": "6.2"}`)
		eventually(ctx, g, "AWS refuses", func(g *ack.ReplicationGroup) bool { return g.Status.Is(ack.ConditionTerminal) })
		Expect(frame("", g)).To(Equal("gen=2 managed available endpoint Terminal=True ResourceSynced=True Ready=False"))
		patch(ctx, g, `{"engineVersion": "7.1.0"}`)
		eventually(ctx, g, "it is ready", available)
		Expect(g.Status.Is(ack.ConditionTerminal)).To(BeFalse())
	}, SpecTimeout(time.Minute))
})

var _ = Describe("Changing a group", func() {
	var s *stage
	var g *ack.ReplicationGroup
	BeforeEach(func(ctx SpecContext) {
		s = play(ackplayer.Options{})
		s.secret(ctx, "auth", token)
		g = s.group(ctx, full("demo"))
		eventually(ctx, g, "it is ready", available)
	}, NodeTimeout(time.Minute))

	It("by its description leaves it ready throughout", func(ctx SpecContext) {
		f := s.film(ctx, "demo")
		patch(ctx, g, `{"description": "another"}`)
		Eventually(func() int { return s.count(ackplayer.Modify, "demo") }).Should(Equal(1))
		patch(ctx, g, `{"description": "a third"}`)
		Eventually(func() int { return s.count(ackplayer.Modify, "demo") }).Should(Equal(2))
		for _, line := range f.until(ctx, "gen=3") {
			Expect(line).To(ContainSubstring("available endpoint ResourceSynced=True LateInitialized=True Ready=True"))
		}
	}, SpecTimeout(time.Minute))

	It("by its node type takes two polls", func(ctx SpecContext) {
		f := s.film(ctx, "demo")
		patch(ctx, g, `{"cacheNodeType": "cache.t3.small"}`)
		f.until(ctx, "gen=2 managed available endpoint ResourceSynced=True")
		Expect(f.until(ctx, "Ready=True")).To(Equal([]string{
			"gen=2 managed modifying endpoint ResourceSynced=False LateInitialized=True Ready=False",
			"gen=2 managed available endpoint ResourceSynced=False LateInitialized=True Ready=False",
			"gen=2 managed available endpoint ResourceSynced=True LateInitialized=True Ready=True",
		}))
	}, SpecTimeout(time.Minute))

	It("by its replicas loses what else was changed", func(ctx SpecContext) {
		patch(ctx, g, `{"replicasPerNodeGroup": 2, "cacheNodeType": "cache.t3.small"}`)
		eventually(ctx, g, "there are three nodes", func(g *ack.ReplicationGroup) bool {
			return available(g) && len(g.Status.MemberClusters) == 3
		})
		Expect(g.Spec.CacheNodeType).To(Equal("cache.t3.micro"))
		Expect(owned(g, ackplayer.FieldManager)).To(Equal([]string{"cacheNodeType"}))
		Expect(g.Generation).To(Equal(int64(3)))
	}, SpecTimeout(time.Minute))

	It("by security groups waits for another change, which is lost", func(ctx SpecContext) {
		patch(ctx, g, `{"securityGroupIDs": ["sg-1"]}`)
		Consistently(func() int { return s.count(ackplayer.Modify, "demo") }, 3*poll).Should(BeZero())
		patch(ctx, g, `{"description": "another"}`)
		eventually(ctx, g, "the security groups are being changed", func(g *ack.ReplicationGroup) bool { return g.Status.State == ack.GroupModifying })
		eventually(ctx, g, "it is ready", available)
		Expect(s.count(ackplayer.Modify, "demo")).To(Equal(1))
		Expect(g.Spec.Description).NotTo(Equal("another"))
		patch(ctx, g, `{"description": "another"}`)
		Eventually(func() int { return s.count(ackplayer.Modify, "demo") }).Should(Equal(2))
	}, SpecTimeout(time.Minute))

	It("by its tags says so for a poll", func(ctx SpecContext) {
		patch(ctx, g, `{"tags": [{"key": "team", "value": "shop"}]}`)
		eventually(ctx, g, "the tags are new", func(g *ack.ReplicationGroup) bool { return g.Status.Is(ack.ConditionRecoverable) })
		Expect(message(g, ack.ConditionReady)).To(Equal("tags Update is in progress"))
		eventually(ctx, g, "it is ready", available)
	}, SpecTimeout(time.Minute))

	It("by encryption at rest is taken back in the spec", func(ctx SpecContext) {
		patch(ctx, g, `{"atRestEncryptionEnabled": false}`)
		eventually(ctx, g, "the field is back", func(g *ack.ReplicationGroup) bool { return g.Spec.AtRestEncryptionEnabled })
		Expect(owned(g, ackplayer.FieldManager)).To(Equal([]string{"atRestEncryptionEnabled"}))
		Expect(s.count(ackplayer.Modify, "demo")).To(Equal(1))
	}, SpecTimeout(time.Minute))

	It("by what ACK ignores changes nothing", func(ctx SpecContext) {
		patch(ctx, g, `{"port": 6380, "cacheSubnetGroupName": "another", "authToken": {"name": "other", "key": "token"}}`)
		Consistently(func() int { return s.count(ackplayer.Modify, "demo") }, 3*poll).Should(BeZero())
		eventually(ctx, g, "it stays ready", available)
	}, SpecTimeout(time.Minute))

	It("rotates the token only as a passenger, and keeps the one before", func(ctx SpecContext) {
		next := "a-token-that-comes-next"
		s.setSecret(ctx, next)
		Expect(s.Resync(ctx)).To(Succeed())
		Consistently(func() int { return s.count(ackplayer.Modify, "demo") }, 3*poll).Should(BeZero())
		Expect(s.connect(g.PrimaryEndpoint(), "", next).Ping(ctx).Err()).NotTo(Succeed())

		patch(ctx, g, `{"description": "rotated"}`)
		eventually(ctx, g, "the token is changed", func(g *ack.ReplicationGroup) bool {
			return available(g) && g.Status.AuthTokenLastModifiedDate != nil
		})
		Expect(s.connect(g.PrimaryEndpoint(), "", token).Ping(ctx).Err()).To(Succeed())
		Expect(s.connect(g.PrimaryEndpoint(), "", next).Ping(ctx).Err()).To(Succeed())

		s.setSecret(ctx, "a-token-of-the-future")
		patch(ctx, g, `{"description": "rotated again"}`)
		Eventually(func() error { return s.connect(g.PrimaryEndpoint(), "", token).Ping(ctx).Err() }).
			ShouldNot(Succeed(), "the token before the last goes")
		Expect(s.connect(g.PrimaryEndpoint(), "", next).Ping(ctx).Err()).To(Succeed())
	}, SpecTimeout(time.Minute))

	It("without its Secret is stuck", func(ctx SpecContext) {
		Expect(k8s.Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "auth", Namespace: s.namespace}})).To(Succeed())
		patch(ctx, g, `{"description": "another"}`)
		eventually(ctx, g, "there is no Secret", func(g *ack.ReplicationGroup) bool { return g.Status.Is(ack.ConditionRecoverable) })
		Expect(s.count(ackplayer.Modify, "demo")).To(BeZero())
		Expect(k8s.Delete(ctx, g)).To(Succeed())
		gone(ctx, g)
	}, SpecTimeout(time.Minute))

	It("by its ID leaves the first group to nobody", func(ctx SpecContext) {
		patch(ctx, g, `{"replicationGroupID": "other"}`)
		eventually(ctx, g, "there is a second group", func(g *ack.ReplicationGroup) bool {
			return available(g) && slices.Contains(g.Status.MemberClusters, "other-001")
		})
		Expect(s.Groups()).To(Equal([]string{"demo", "other"}))
	}, SpecTimeout(time.Minute))

	It("by a failover that ACK does not see keeps the endpoint", func(ctx SpecContext) {
		endpoint := g.PrimaryEndpoint()
		Expect(s.connect(endpoint, "", token).Set(ctx, "key", "value", 0).Err()).To(Succeed())
		Expect(s.connect(endpoint, "", token).Wait(ctx, 1, time.Minute).Val()).To(Equal(int64(1)))
		Expect(s.Failover(ctx, "demo")).To(Succeed())
		Expect(s.connect(endpoint, "", token).Get(ctx, "key").Val()).To(Equal("value"))
		Expect(s.connect(endpoint, "", token).Set(ctx, "key", "other", 0).Err()).To(Succeed())
		roles := func() []string {
			Expect(k8s.Get(ctx, client.ObjectKeyFromObject(g), g)).To(Succeed())
			var roles []string
			for _, m := range g.Status.NodeGroups[0].NodeGroupMembers {
				roles = append(roles, m.CacheClusterID+" "+m.CurrentRole)
			}
			return roles
		}
		Expect(roles()).To(Equal([]string{"demo-001 primary", "demo-002 replica"}))
		Expect(s.Resync(ctx)).To(Succeed())
		Eventually(roles).Should(Equal([]string{"demo-002 primary", "demo-001 replica"}))
	}, SpecTimeout(time.Minute))

	It("behind ACK's back makes it anew, empty", func(ctx SpecContext) {
		created := g.Status.ReplicationGroupCreateTime
		Expect(s.connect(g.PrimaryEndpoint(), "", token).Set(ctx, "key", "value", 0).Err()).To(Succeed())
		Eventually(time.Now).Should(BeTemporally(">", created.Add(time.Second)), "the time of creation tells them apart")
		Expect(s.Lose("demo")).To(Succeed())
		Expect(s.Resync(ctx)).To(Succeed())
		eventually(ctx, g, "there is another one", func(g *ack.ReplicationGroup) bool {
			return available(g) && !g.Status.ReplicationGroupCreateTime.Equal(created)
		})
		Expect(s.connect(g.PrimaryEndpoint(), "", token).Get(ctx, "key").Err()).To(MatchError(redis.Nil))
		Expect(s.count(ackplayer.Create, "demo")).To(Equal(2))
	}, SpecTimeout(time.Minute))

	It("waits while AWS backs it up", func(ctx SpecContext) {
		Expect(s.Snapshotting("demo", 10*poll)).To(Succeed())
		patch(ctx, g, `{"description": "another"}`)
		eventually(ctx, g, "it is being backed up", func(g *ack.ReplicationGroup) bool {
			return g.Status.State == ack.GroupSnapshotting && g.Status.Is(ack.ConditionRecoverable)
		})
		eventually(ctx, g, "it is ready", available)
		Expect(s.count(ackplayer.Modify, "demo")).To(Equal(1))
	}, SpecTimeout(time.Minute))

	It("is not seen by an ACK that is stuck", func(ctx SpecContext) {
		s.Pause()
		patch(ctx, g, `{"description": "another"}`)
		Consistently(func() int { return s.count(ackplayer.Modify, "demo") }, 3*poll).Should(BeZero())
		s.Resume()
		Eventually(func() int { return s.count(ackplayer.Modify, "demo") }).Should(Equal(1))
	}, SpecTimeout(time.Minute))
})

// setSecret changes the token.
func (s *stage) setSecret(ctx context.Context, token string) {
	GinkgoHelper()
	secret := &corev1.Secret{}
	Expect(k8s.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: "auth"}, secret)).To(Succeed())
	secret.StringData = map[string]string{"token": token}
	Expect(k8s.Update(ctx, secret)).To(Succeed())
}

var _ = Describe("Deleting a group", func() {
	It("takes a poll, during which Ready keeps what it said", func(ctx SpecContext) {
		s := play(ackplayer.Options{})
		g := s.group(ctx, small("demo"))
		eventually(ctx, g, "it is ready", available)
		f := s.film(ctx, "demo")
		Expect(k8s.Delete(ctx, g)).To(Succeed())
		f.until(ctx, "gen=2")
		Expect(f.until(ctx, "gone")).To(Equal([]string{
			"gen=2 managed deleting endpoint Recoverable=True ResourceSynced=False Ready=True",
			"gone",
		}))
		Expect(s.Groups()).To(BeEmpty())
	}, SpecTimeout(time.Minute))

	It("is refused while it is being created", func(ctx SpecContext) {
		s := play(ackplayer.Options{CreateTime: 10 * poll})
		g := s.group(ctx, small("demo"))
		eventually(ctx, g, "it is being created", func(g *ack.ReplicationGroup) bool { return g.Status.State == ack.GroupCreating })
		Expect(k8s.Delete(ctx, g)).To(Succeed())
		eventually(ctx, g, "AWS refuses", func(g *ack.ReplicationGroup) bool { return g.Status.Is(ack.ConditionRecoverable) })
		Expect(message(g, ack.ConditionRecoverable)).To(And(ContainSubstring("InvalidReplicationGroupState"), ContainSubstring("RequestID: ")))
		gone(ctx, g)
		Expect(s.count(ackplayer.Delete, "demo")).To(BeNumerically(">", 2))
	}, SpecTimeout(time.Minute))

	It("waits while it is being changed", func(ctx SpecContext) {
		s := play(ackplayer.Options{ModifyTime: 10 * poll})
		g := s.group(ctx, small("demo"))
		eventually(ctx, g, "it is ready", available)
		patch(ctx, g, `{"cacheNodeType": "cache.t3.small"}`)
		eventually(ctx, g, "it is being changed", func(g *ack.ReplicationGroup) bool { return g.Status.State == ack.GroupModifying })
		Expect(k8s.Delete(ctx, g)).To(Succeed())
		eventually(ctx, g, "ACK waits", func(g *ack.ReplicationGroup) bool {
			return message(g, ack.ConditionRecoverable) == "Modify is in progress."
		})
		gone(ctx, g)
		Expect(s.count(ackplayer.Delete, "demo")).To(Equal(1))
	}, SpecTimeout(time.Minute))

	It("is refused as often as asked", func(ctx SpecContext) {
		s := play(ackplayer.Options{})
		g := s.group(ctx, small("demo"))
		eventually(ctx, g, "it is ready", available)
		s.Refuse(ackplayer.Delete, "demo", "InvalidReplicationGroupState", 3)
		Expect(k8s.Delete(ctx, g)).To(Succeed())
		gone(ctx, g)
		Expect(s.count(ackplayer.Delete, "demo")).To(Equal(4))
	}, SpecTimeout(time.Minute))
})
