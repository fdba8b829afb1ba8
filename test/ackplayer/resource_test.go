// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer_test

import (
	"context"
	"net/http/httptest"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/ackplayer"
)

// objectMeta names an object in the fixture's namespace.
func (s *fixture) objectMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: s.namespace}
}

// createReady creates an object and waits until it is ready.
func createReady[T client.Object](ctx context.Context, o T) T {
	GinkgoHelper()
	Expect(k8s.Create(ctx, o, operator)).To(Succeed())
	expectEventually(ctx, o, "it is ready", isReady[T])
	return o
}

var _ = Describe("Resources beside a group", func() {
	var s *fixture
	BeforeEach(func() { s = start(ackplayer.Options{}) })

	It("must exist before the group and can only be deleted after it", func(ctx SpecContext) {
		spec := smallSpec("demo")
		spec.CacheSubnetGroupName = ptr.To("subnets")
		g := s.createGroup(ctx, spec)
		expectEventually(ctx, g, "the subnet group does not exist", func(g *ack.ReplicationGroup) bool { return ack.ConditionsOf(g).Is(ack.ConditionRecoverable) })
		Expect(conditionMessage(g, ack.ConditionRecoverable)).To(ContainSubstring("CacheSubnetGroupNotFoundFault"))

		subnets := createReady(ctx, &ack.CacheSubnetGroup{ObjectMeta: s.objectMeta("subnets"), Spec: ack.CacheSubnetGroupSpec{
			CacheSubnetGroupName: ptr.To("subnets"), CacheSubnetGroupDescription: ptr.To("two zones"), SubnetIDs: ack.Pointers("subnet-1", "subnet-2"),
		}})
		expectEventually(ctx, g, "it is ready", available)
		Expect(k8s.Delete(ctx, subnets)).To(Succeed())
		expectEventually(ctx, subnets, "it is in use", func(o *ack.CacheSubnetGroup) bool { return ack.ConditionsOf(o).Is(ack.ConditionRecoverable) })
		Expect(conditionMessage(subnets, ack.ConditionRecoverable)).To(ContainSubstring("CacheSubnetGroupInUse"))
		Expect(k8s.Delete(ctx, g)).To(Succeed())
		expectDeleted(ctx, subnets)
	}, SpecTimeout(time.Minute))

	It("include a security group, which gets its ID after a poll", func(ctx SpecContext) {
		o := createReady(ctx, &ack.SecurityGroup{ObjectMeta: s.objectMeta("demo"), Spec: ack.SecurityGroupSpec{Name: ptr.To("demo"), Description: ptr.To("Redis"), VPCID: ptr.To("vpc-1")}})
		Expect(o.Status.ID).To(HaveValue(HavePrefix("sg-")))
	}, SpecTimeout(time.Minute))

	It("include parameter groups and alarms, which are created at once", func(ctx SpecContext) {
		createReady(ctx, &ack.CacheParameterGroup{ObjectMeta: s.objectMeta("demo"), Spec: ack.CacheParameterGroupSpec{
			CacheParameterGroupName: ptr.To("demo"), CacheParameterGroupFamily: ptr.To("redis7"), Description: ptr.To("ours"),
			ParameterNameValues: []*ack.ParameterNameValue{{ParameterName: ptr.To("maxmemory-policy"), ParameterValue: ptr.To("allkeys-lru")}},
		}})
		alarm := createReady(ctx, &ack.MetricAlarm{ObjectMeta: s.objectMeta("demo"), Spec: ack.MetricAlarmSpec{
			Name: "demo", Namespace: "AWS/ElastiCache", MetricName: "CPUUtilization", ComparisonOperator: "GreaterThanThreshold", Threshold: 75, EvaluationPeriods: 2,
		}})
		patch(ctx, alarm, `{"threshold": 80}`)
		Eventually(func() int { return s.callCount(ackplayer.Modify, "demo") }).Should(Equal(1))
	}, SpecTimeout(time.Minute))

	It("include a snapshot of a node of an available group", func(ctx SpecContext) {
		g := s.createGroup(ctx, smallSpec("demo"))
		expectEventually(ctx, g, "it is ready", available)
		o := &ack.Snapshot{ObjectMeta: s.objectMeta("last"), Spec: ack.SnapshotSpec{SnapshotName: ptr.To("last"), CacheClusterID: g.Status.MemberClusters[0]}}
		Expect(createReady(ctx, o).Status.SnapshotStatus).To(HaveValue(Equal(ack.SnapshotAvailable)))
	}, SpecTimeout(time.Minute))

	It("exclude a snapshot of a whole group, as in AWS with cluster mode disabled", func(ctx SpecContext) {
		g := s.createGroup(ctx, smallSpec("demo"))
		expectEventually(ctx, g, "it is ready", available)
		o := &ack.Snapshot{ObjectMeta: s.objectMeta("last"), Spec: ack.SnapshotSpec{SnapshotName: ptr.To("last")}}
		Expect(k8s.Create(ctx, o, operator)).To(Succeed())
		expectEventually(ctx, o, "it is refused", func(o *ack.Snapshot) bool { return ack.ConditionsOf(o).Is(ack.ConditionTerminal) })
	}, SpecTimeout(time.Minute))

	It("include users, who get access with their permissions", func(ctx SpecContext) {
		s.createSecret(ctx, "app", "an-apps-password-1")
		user := createReady(ctx, &ack.User{ObjectMeta: s.objectMeta("app"), Spec: ack.UserSpec{
			UserID: ptr.To("app"), UserName: ptr.To("app"), Engine: ptr.To("valkey"), AccessString: ptr.To("on ~app:* +@read +@write +ping"),
			AuthenticationMode: &ack.AuthenticationMode{Type: ptr.To("password"), Passwords: []*ack.SecretKey{secretKey("app")}},
		}})
		createReady(ctx, &ack.User{ObjectMeta: s.objectMeta("role"), Spec: ack.UserSpec{
			UserID: ptr.To("role"), UserName: ptr.To("role"), Engine: ptr.To("valkey"), AccessString: ptr.To("on ~* +@all"), AuthenticationMode: &ack.AuthenticationMode{Type: ptr.To("iam")},
		}})
		group := createReady(ctx, &ack.UserGroup{ObjectMeta: s.objectMeta("users"), Spec: ack.UserGroupSpec{UserGroupID: ptr.To("users"), Engine: ptr.To("valkey"), UserIDs: ack.Pointers("app", "role")}})
		spec := smallSpec("demo")
		spec.Engine, spec.EngineVersion, spec.CacheParameterGroupName, spec.UserGroupIDs = ptr.To("valkey"), ptr.To("8.0"), ptr.To("default.valkey8"), ack.Pointers("users")
		g := s.createGroup(ctx, spec)
		expectEventually(ctx, g, "it is ready", available)

		app := s.connect(ack.PrimaryEndpoint(g), "app", "an-apps-password-1")
		Expect(app.Set(ctx, "app:1", "value", 0).Err()).To(Succeed())
		Expect(app.Set(ctx, "other:1", "value", 0).Err()).To(MatchError(ContainSubstring("NOPERM")))
		Expect(s.connect(ack.PrimaryEndpoint(g), "role", "a-signature-that-is-not-verified").Ping(ctx).Err()).To(Succeed())
		Expect(s.connect(ack.PrimaryEndpoint(g), "", "").Ping(ctx).Err()).To(MatchError(ContainSubstring("NOAUTH")))

		Expect(k8s.Patch(ctx, &corev1.Secret{ObjectMeta: s.objectMeta("app")},
			client.RawPatch(types.MergePatchType, []byte(`{"stringData": {"token": "another-password-2"}}`)))).To(Succeed())
		patch(ctx, user, `{"accessString": "on ~* +@all"}`)
		Eventually(func() error { return app.Set(ctx, "other:1", "value", 0).Err() }).Should(Succeed(), "the permissions were updated")
		Expect(s.connect(ack.PrimaryEndpoint(g), "app", "an-apps-password-1").Ping(ctx).Err()).To(Succeed(), "the password is unchanged")
		patch(ctx, group, `{"userIDs": ["role"]}`)
		Eventually(func() error { return app.Ping(ctx).Err() }).ShouldNot(Succeed(), "the user was removed from the group")
	}, SpecTimeout(time.Minute))

	It("include users without a password, whose type ACK overwrites", func(ctx SpecContext) {
		open := createReady(ctx, &ack.User{ObjectMeta: s.objectMeta("open"), Spec: ack.UserSpec{
			UserID: ptr.To("open"), UserName: ptr.To("open"), Engine: ptr.To("redis"), AccessString: ptr.To("off -@all"), NoPasswordRequired: ptr.To(true),
		}})
		Expect(open.Generation).To(BeEquivalentTo(1))
		typed := createReady(ctx, &ack.User{ObjectMeta: s.objectMeta("typed"), Spec: ack.UserSpec{
			UserID: ptr.To("typed"), UserName: ptr.To("typed"), Engine: ptr.To("redis"), AccessString: ptr.To("off -@all"), AuthenticationMode: &ack.AuthenticationMode{Type: ptr.To("no-password-required")},
		}})
		Expect(typed.Spec.AuthenticationMode.Type).To(HaveValue(Equal("no-password")))
		patch(ctx, typed, `{"authenticationMode": {"type": "no-password-required"}}`)
		expectEventually(ctx, typed, "ACK overwrote it again", func(u *ack.User) bool { return *u.Spec.AuthenticationMode.Type == "no-password" })
		Expect(s.callCount(ackplayer.Modify, "typed")).To(Equal(1))
	}, SpecTimeout(time.Minute))

	It("include users, which ACK considers deleted before AWS does", func(ctx SpecContext) {
		s := start(ackplayer.Options{DeleteTime: 10 * time.Second})
		user := func(name string) *ack.User {
			return &ack.User{ObjectMeta: s.objectMeta(name), Spec: ack.UserSpec{
				UserID: ptr.To("app"), UserName: ptr.To("app"), Engine: ptr.To("valkey"), AccessString: ptr.To("on ~* +@all"), AuthenticationMode: &ack.AuthenticationMode{Type: ptr.To("iam")},
			}}
		}
		first := createReady(ctx, user("first"))
		Expect(k8s.Delete(ctx, first)).To(Succeed())
		expectDeleted(ctx, first)
		second := user("second")
		Expect(k8s.Create(ctx, second, operator)).To(Succeed())
		expectEventually(ctx, second, "it still exists in AWS", func(u *ack.User) bool { return ack.ConditionsOf(u).Is(ack.ConditionTerminal) })
		Expect(conditionMessage(second, ack.ConditionTerminal)).To(Equal("Resource already exists"))
		Eventually(func(g Gomega) {
			g.Expect(client.IgnoreNotFound(k8s.Delete(ctx, second))).To(Succeed())
			second = user("second")
			g.Expect(k8s.Create(ctx, second, operator)).To(Succeed())
			expectEventually(ctx, second, "ACK reconciled it", func(u *ack.User) bool { return len(u.Status.Conditions) > 0 })
			g.Expect(isReady(second)).To(BeTrue())
		}).WithTimeout(40 * time.Second).WithPolling(poll).Should(Succeed())
	}, SpecTimeout(time.Minute))

	It("include user groups, which require a default user for Redis", func(ctx SpecContext) {
		o := &ack.UserGroup{ObjectMeta: s.objectMeta("users"), Spec: ack.UserGroupSpec{UserGroupID: ptr.To("users"), Engine: ptr.To("redis")}}
		Expect(k8s.Create(ctx, o, operator)).To(Succeed())
		expectEventually(ctx, o, "AWS refuses the call", func(o *ack.UserGroup) bool { return ack.ConditionsOf(o).Is(ack.ConditionRecoverable) })
		Expect(conditionMessage(o, ack.ConditionRecoverable)).To(ContainSubstring("DefaultUserRequired"))
		patch(ctx, o, `{"userIDs": ["default"]}`)
		expectEventually(ctx, o, "it is active", isReady[*ack.UserGroup])
	}, SpecTimeout(time.Minute))

	It("are controlled over HTTP", func(ctx SpecContext) {
		server := httptest.NewServer(s.Handler())
		defer server.Close()
		post := func(path string) int {
			response, err := server.Client().Post(server.URL+path, "", nil)
			Expect(err).NotTo(HaveOccurred())
			Expect(response.Body.Close()).To(Succeed())
			return response.StatusCode
		}
		Expect(post("/refuse?on=Create&id=demo&code=ClusterQuotaForCustomerExceeded")).To(Equal(200))
		g := s.createGroup(ctx, smallSpec("demo"))
		expectEventually(ctx, g, "AWS refuses the call", func(g *ack.ReplicationGroup) bool { return ack.ConditionsOf(g).Is(ack.ConditionTerminal) })
		Expect(post("/resync")).To(Equal(200))
		expectEventually(ctx, g, "ACK reconciles it again", available)
		for path, code := range map[string]int{
			"/cut?id=demo": 200, "/slow?by=1ms": 200, "/pause": 200, "/resume": 200,
			"/failover?id=nobody": 400, "/refuse?on=Sometimes&id=demo&code=x": 400, "/slow?by=much": 400,
		} {
			Expect(post(path)).To(Equal(code), path)
		}
		Expect(post("/resume")).To(Equal(200))
		Expect(post("/snapshotting?id=demo&for=1ms")).To(Equal(200))
		Expect(post("/delete?id=demo")).To(Equal(200))
		Expect(s.Groups()).To(BeEmpty())
	}, SpecTimeout(time.Minute))
})
