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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/ackplayer"
)

// meta names an object in the stage.
func (s *stage) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: s.namespace}
}

// has creates an object and waits until it is ready.
func has[T ack.Object](ctx context.Context, o T) T {
	GinkgoHelper()
	Expect(k8s.Create(ctx, any(o).(client.Object), operator)).To(Succeed())
	eventually(ctx, o, "it is ready", isReady[T])
	return o
}

var _ = Describe("What is around a group", func() {
	var s *stage
	BeforeEach(func() { s = play(ackplayer.Options{}) })

	It("is there before the group, and goes after it", func(ctx SpecContext) {
		spec := small("demo")
		spec.CacheSubnetGroupName = "subnets"
		g := s.group(ctx, spec)
		eventually(ctx, g, "AWS knows no such subnet group", func(g *ack.ReplicationGroup) bool { return g.Status.Is(ack.ConditionRecoverable) })
		Expect(message(g, ack.ConditionRecoverable)).To(ContainSubstring("CacheSubnetGroupNotFoundFault"))

		subnets := has(ctx, &ack.CacheSubnetGroup{ObjectMeta: s.meta("subnets"), Spec: ack.CacheSubnetGroupSpec{
			CacheSubnetGroupName: "subnets", CacheSubnetGroupDescription: "two zones", SubnetIDs: []string{"subnet-1", "subnet-2"},
		}})
		eventually(ctx, g, "it is ready", available)
		Expect(k8s.Delete(ctx, subnets)).To(Succeed())
		eventually(ctx, subnets, "it is in use", func(o *ack.CacheSubnetGroup) bool { return o.Status.Is(ack.ConditionRecoverable) })
		Expect(message(subnets, ack.ConditionRecoverable)).To(ContainSubstring("CacheSubnetGroupInUse"))
		Expect(k8s.Delete(ctx, g)).To(Succeed())
		gone(ctx, subnets)
	}, SpecTimeout(time.Minute))

	It("gives a security group its ID after a poll", func(ctx SpecContext) {
		o := has(ctx, &ack.SecurityGroup{ObjectMeta: s.meta("demo"), Spec: ack.SecurityGroupSpec{Name: "demo", Description: "Redis", VPCID: "vpc-1"}})
		Expect(o.Status.ID).To(HavePrefix("sg-"))
	}, SpecTimeout(time.Minute))

	It("makes parameter groups and alarms at once", func(ctx SpecContext) {
		has(ctx, &ack.CacheParameterGroup{ObjectMeta: s.meta("demo"), Spec: ack.CacheParameterGroupSpec{
			CacheParameterGroupName: "demo", CacheParameterGroupFamily: "redis7", Description: "ours",
			ParameterNameValues: []ack.Parameter{{ParameterName: "maxmemory-policy", ParameterValue: "allkeys-lru"}},
		}})
		alarm := has(ctx, &ack.MetricAlarm{ObjectMeta: s.meta("demo"), Spec: ack.MetricAlarmSpec{
			Name: "demo", Namespace: "AWS/ElastiCache", MetricName: "CPUUtilization", ComparisonOperator: "GreaterThanThreshold", Threshold: 75, EvaluationPeriods: 2,
		}})
		patch(ctx, alarm, `{"threshold": 80}`)
		Eventually(func() int { return s.count(ackplayer.Modify, "demo") }).Should(Equal(1))
	}, SpecTimeout(time.Minute))

	It("takes a snapshot of a node of a group that is available", func(ctx SpecContext) {
		g := s.group(ctx, small("demo"))
		eventually(ctx, g, "it is ready", available)
		o := &ack.Snapshot{ObjectMeta: s.meta("last"), Spec: ack.SnapshotSpec{SnapshotName: "last", CacheClusterID: g.Status.MemberClusters[0]}}
		Expect(has(ctx, o).Status.SnapshotStatus).To(Equal(ack.SnapshotAvailable))
	}, SpecTimeout(time.Minute))

	It("takes none of a whole group, as AWS with cluster mode disabled", func(ctx SpecContext) {
		g := s.group(ctx, small("demo"))
		eventually(ctx, g, "it is ready", available)
		o := &ack.Snapshot{ObjectMeta: s.meta("last"), Spec: ack.SnapshotSpec{SnapshotName: "last"}}
		Expect(k8s.Create(ctx, o, operator)).To(Succeed())
		eventually(ctx, o, "it is refused", func(o *ack.Snapshot) bool { return o.Status.Is(ack.ConditionTerminal) })
	}, SpecTimeout(time.Minute))

	It("lets the users of a user group in, with their rights", func(ctx SpecContext) {
		s.secret(ctx, "app", "an-apps-password-1")
		user := has(ctx, &ack.User{ObjectMeta: s.meta("app"), Spec: ack.UserSpec{
			UserID: "app", UserName: "app", Engine: "valkey", AccessString: "on ~app:* +@read +@write +ping",
			AuthenticationMode: &ack.AuthenticationMode{Type: "password", Passwords: []ack.SecretKey{{Name: "app", Key: "token"}}},
		}})
		has(ctx, &ack.User{ObjectMeta: s.meta("role"), Spec: ack.UserSpec{
			UserID: "role", UserName: "role", Engine: "valkey", AccessString: "on ~* +@all", AuthenticationMode: &ack.AuthenticationMode{Type: "iam"},
		}})
		group := has(ctx, &ack.UserGroup{ObjectMeta: s.meta("users"), Spec: ack.UserGroupSpec{UserGroupID: "users", Engine: "valkey", UserIDs: []string{"app", "role"}}})
		spec := small("demo")
		spec.Engine, spec.EngineVersion, spec.CacheParameterGroupName, spec.UserGroupIDs = "valkey", "8.0", "default.valkey8", []string{"users"}
		g := s.group(ctx, spec)
		eventually(ctx, g, "it is ready", available)

		app := s.connect(g.PrimaryEndpoint(), "app", "an-apps-password-1")
		Expect(app.Set(ctx, "app:1", "value", 0).Err()).To(Succeed())
		Expect(app.Set(ctx, "other:1", "value", 0).Err()).To(MatchError(ContainSubstring("NOPERM")))
		Expect(s.connect(g.PrimaryEndpoint(), "role", "a-signature-that-nobody-can-check").Ping(ctx).Err()).To(Succeed())
		Expect(s.connect(g.PrimaryEndpoint(), "", "").Ping(ctx).Err()).To(MatchError(ContainSubstring("NOAUTH")))

		Expect(k8s.Patch(ctx, &corev1.Secret{ObjectMeta: s.meta("app")},
			client.RawPatch(types.MergePatchType, []byte(`{"stringData": {"token": "another-password-2"}}`)))).To(Succeed())
		patch(ctx, user, `{"accessString": "on ~* +@all"}`)
		Eventually(func() error { return app.Set(ctx, "other:1", "value", 0).Err() }).Should(Succeed(), "the rights are new")
		Expect(s.connect(g.PrimaryEndpoint(), "app", "an-apps-password-1").Ping(ctx).Err()).To(Succeed(), "the password is not")
		patch(ctx, group, `{"userIDs": ["role"]}`)
		Eventually(func() error { return app.Ping(ctx).Err() }).ShouldNot(Succeed(), "the user is not in the group")
	}, SpecTimeout(time.Minute))

	It("writes over what type a user without a password is", func(ctx SpecContext) {
		open := has(ctx, &ack.User{ObjectMeta: s.meta("open"), Spec: ack.UserSpec{
			UserID: "open", UserName: "open", Engine: "redis", AccessString: "off -@all", NoPasswordRequired: true,
		}})
		Expect(open.Generation).To(BeEquivalentTo(1))
		typed := has(ctx, &ack.User{ObjectMeta: s.meta("typed"), Spec: ack.UserSpec{
			UserID: "typed", UserName: "typed", Engine: "redis", AccessString: "off -@all", AuthenticationMode: &ack.AuthenticationMode{Type: "no-password-required"},
		}})
		Expect(typed.Spec.AuthenticationMode.Type).To(Equal("no-password"))
		patch(ctx, typed, `{"authenticationMode": {"type": "no-password-required"}}`)
		eventually(ctx, typed, "ACK wrote over it again", func(u *ack.User) bool { return u.Spec.AuthenticationMode.Type == "no-password" })
		Expect(s.count(ackplayer.Modify, "typed")).To(Equal(1))
	}, SpecTimeout(time.Minute))

	It("calls a user gone that AWS has still, and then somebody else's", func(ctx SpecContext) {
		s := play(ackplayer.Options{DeleteTime: 3 * time.Second})
		user := func(name string) *ack.User {
			return &ack.User{ObjectMeta: s.meta(name), Spec: ack.UserSpec{
				UserID: "app", UserName: "app", Engine: "valkey", AccessString: "on ~* +@all", AuthenticationMode: &ack.AuthenticationMode{Type: "iam"},
			}}
		}
		first := has(ctx, user("first"))
		Expect(k8s.Delete(ctx, first)).To(Succeed())
		gone(ctx, first)
		second := user("second")
		Expect(k8s.Create(ctx, second, operator)).To(Succeed())
		eventually(ctx, second, "it is AWS' still", func(u *ack.User) bool { return u.Status.Is(ack.ConditionTerminal) })
		Expect(message(second, ack.ConditionTerminal)).To(Equal("Resource already exists"))
		Eventually(func(g Gomega) {
			g.Expect(client.IgnoreNotFound(k8s.Delete(ctx, second))).To(Succeed())
			second = user("second")
			g.Expect(k8s.Create(ctx, second, operator)).To(Succeed())
			eventually(ctx, second, "ACK looked", func(u *ack.User) bool { return len(u.Status.Conditions) > 0 })
			g.Expect(isReady(second)).To(BeTrue())
		}).WithTimeout(20 * time.Second).WithPolling(poll).Should(Succeed())
	}, SpecTimeout(time.Minute))

	It("needs a default user in a group of users for Redis", func(ctx SpecContext) {
		o := &ack.UserGroup{ObjectMeta: s.meta("users"), Spec: ack.UserGroupSpec{UserGroupID: "users", Engine: "redis"}}
		Expect(k8s.Create(ctx, o, operator)).To(Succeed())
		eventually(ctx, o, "AWS refuses", func(o *ack.UserGroup) bool { return o.Status.Is(ack.ConditionRecoverable) })
		Expect(message(o, ack.ConditionRecoverable)).To(ContainSubstring("DefaultUserRequired"))
		patch(ctx, o, `{"userIDs": ["default"]}`)
		eventually(ctx, o, "it is active", isReady[*ack.UserGroup])
	}, SpecTimeout(time.Minute))

	It("takes orders by HTTP", func(ctx SpecContext) {
		server := httptest.NewServer(s.Handler())
		defer server.Close()
		post := func(path string) int {
			response, err := server.Client().Post(server.URL+path, "", nil)
			Expect(err).NotTo(HaveOccurred())
			Expect(response.Body.Close()).To(Succeed())
			return response.StatusCode
		}
		Expect(post("/refuse?on=Create&id=demo&code=ClusterQuotaForCustomerExceeded")).To(Equal(200))
		g := s.group(ctx, small("demo"))
		eventually(ctx, g, "AWS refuses", func(g *ack.ReplicationGroup) bool { return g.Status.Is(ack.ConditionTerminal) })
		Expect(post("/resync")).To(Equal(200))
		eventually(ctx, g, "ACK looks again", available)
		for path, code := range map[string]int{
			"/cut?id=demo": 200, "/slow?by=1ms": 200, "/pause": 200, "/resume": 200,
			"/failover?id=nobody": 400, "/refuse?on=Sometimes&id=demo&code=x": 400, "/slow?by=much": 400,
		} {
			Expect(post(path)).To(Equal(code), path)
		}
		Expect(post("/resume")).To(Equal(200))
		Expect(post("/snapshotting?id=demo&for=1ms")).To(Equal(200))
		Expect(post("/lose?id=demo")).To(Equal(200))
		Expect(s.Groups()).To(BeEmpty())
	}, SpecTimeout(time.Minute))
})
