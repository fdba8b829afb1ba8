// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/ackcrds"
	"github.com/flagcache/flagcache/test/ackplayer"
)

func TestPlayer(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(time.Minute)
	SetDefaultEventuallyPollingInterval(20 * time.Millisecond)
	RunSpecs(t, "ACK player against a real API server with real Redis servers")
}

var (
	config     *rest.Config
	k8s        client.WithWatch
	namespaces atomic.Int32
)

var _ = BeforeSuite(func(ctx context.Context) {
	ctrl.SetLogger(zap.New(zap.WriteTo(GinkgoWriter), zap.UseDevMode(true)))
	Expect(os.Getenv("KUBEBUILDER_ASSETS")).NotTo(BeEmpty(),
		"KUBEBUILDER_ASSETS is not set to a directory with etcd and kube-apiserver: run `make test`, or `make envtest` and set it to bin/envtest")
	server := &envtest.Environment{}
	var err error
	config, err = server.Start()
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(server.Stop()).To(Succeed()) })
	scheme := runtime.NewScheme()
	Expect(clientgoscheme.AddToScheme(scheme)).To(Succeed())
	Expect(ack.AddToScheme(scheme)).To(Succeed())
	k8s, err = client.NewWithWatch(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	Expect(ackcrds.Install(ctx, k8s)).To(Succeed())
	Expect(ackcrds.Install(ctx, k8s)).To(Succeed(), "with the CRDs already installed")
	DeferCleanup(func(ctx context.Context) { Expect(ackcrds.Remove(ctx, k8s)).To(Succeed()) })
})

// fixture is a player with a namespace of its own.
type fixture struct {
	*ackplayer.Player
	namespace string
}

// poll is the players' poll interval.
const poll = 200 * time.Millisecond

// start starts a player, which ends with the test after all objects were deleted.
func start(o ackplayer.Options) *fixture {
	GinkgoHelper()
	o.Config, o.Log, o.Poll = config, ctrl.Log, poll
	player, err := ackplayer.New(o)
	Expect(err).NotTo(HaveOccurred())
	s := &fixture{Player: player, namespace: fmt.Sprintf("stage-%d", namespaces.Add(1))}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- player.Start(ctx) }()
	DeferCleanup(func() {
		cancel()
		Expect(<-ended).To(Succeed())
	})
	Expect(k8s.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}})).To(Succeed())
	DeferCleanup(s.deleteAll)
	return s
}

// deleteAll deletes all objects, groups before the resources they use.
func (s *fixture) deleteAll(ctx context.Context) {
	s.Resume()
	for _, k := range ack.Kinds() {
		Expect(k8s.DeleteAllOf(ctx, k.New(), client.InNamespace(s.namespace))).To(Succeed())
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(k.GroupVersion().WithKind(k.Kind + "List"))
		Eventually(func(g Gomega) {
			g.Expect(k8s.List(ctx, list, client.InNamespace(s.namespace))).To(Succeed())
			g.Expect(list.Items).To(BeEmpty())
		}).Should(Succeed(), "every "+k.Kind+" is deleted")
	}
}

const token = "a-token-of-16-or-more"

// createSecret creates a Secret with a token or a password.
func (s *fixture) createSecret(ctx context.Context, name, token string) {
	GinkgoHelper()
	Expect(k8s.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.namespace}, StringData: map[string]string{"token": token},
	})).To(Succeed())
}

// fullSpec is a spec that ACK does not need to complete.
func fullSpec(id string) ack.ReplicationGroupSpec {
	return ack.ReplicationGroupSpec{
		ReplicationGroupID: &id, Description: ptr.To("preview cache"), Engine: ptr.To("redis"), EngineVersion: ptr.To("7.1"),
		CacheNodeType: ptr.To("cache.t3.micro"), NumNodeGroups: ptr.To[int64](1), ReplicasPerNodeGroup: ptr.To[int64](1),
		AutomaticFailoverEnabled: ptr.To(true), MultiAZEnabled: ptr.To(false), TransitEncryptionEnabled: ptr.To(true), AtRestEncryptionEnabled: ptr.To(true),
		AuthToken: secretKey("auth"), CacheSubnetGroupName: ptr.To("default"), CacheParameterGroupName: ptr.To("default.redis7"),
		SnapshotRetentionLimit: ptr.To[int64](0), SnapshotWindow: ptr.To("03:00-04:00"),
		IPDiscovery: ptr.To("ipv4"), NetworkType: ptr.To("ipv4"), Durability: ptr.To("default"),
	}
}

// secretKey refers to the token of a Secret.
func secretKey(name string) *ack.SecretKey {
	return &ack.SecretKey{SecretReference: corev1.SecretReference{Name: name}, Key: "token"}
}

// smallSpec is a full spec with one node and without a token.
func smallSpec(id string) ack.ReplicationGroupSpec {
	spec := fullSpec(id)
	spec.ReplicasPerNodeGroup, spec.AutomaticFailoverEnabled, spec.AuthToken = ptr.To[int64](0), ptr.To(false), nil
	return spec
}

// operator is the field manager of the objects.
const operator = client.FieldOwner("our-operator")

// createGroup creates a replication group named after its ID.
func (s *fixture) createGroup(ctx context.Context, spec ack.ReplicationGroupSpec, annotations ...string) *ack.ReplicationGroup {
	GinkgoHelper()
	o := &ack.ReplicationGroup{Spec: spec}
	o.Name, o.Namespace = strings.ToLower(*spec.ReplicationGroupID), s.namespace
	for i := 0; i+1 < len(annotations); i += 2 {
		metav1.SetMetaDataAnnotation(&o.ObjectMeta, annotations[i], annotations[i+1])
	}
	Expect(k8s.Create(ctx, o, operator)).To(Succeed())
	return o
}

// patch applies a merge patch to a spec as the operator.
func patch(ctx context.Context, o client.Object, spec string) {
	GinkgoHelper()
	Expect(k8s.Patch(ctx, o, client.RawPatch(types.MergePatchType, []byte(`{"spec": `+spec+`}`)), operator)).To(Succeed())
}

// expectEventually waits until an object satisfies a condition.
func expectEventually[T client.Object](ctx context.Context, o T, why string, holds func(T) bool) {
	GinkgoHelper()
	Eventually(func(g Gomega) {
		g.Expect(k8s.Get(ctx, client.ObjectKeyFromObject(o), o)).To(Succeed())
		g.Expect(holds(o)).To(BeTrue(), "%+v", o)
	}).Should(Succeed(), why)
}

func isReady[T client.Object](o T) bool { return ack.ConditionsOf(o).Is(ack.ConditionReady) }

func available(g *ack.ReplicationGroup) bool {
	return isReady(g) && ack.GroupState(g) == ack.GroupAvailable
}

func conditionMessage(o client.Object, kind ack.ConditionType) string {
	c := ack.ConditionsOf(o).Get(kind)
	if c == nil {
		return ""
	}
	return ack.Value(c.Message)
}

// expectDeleted waits until an object is deleted.
func expectDeleted(ctx context.Context, o client.Object) {
	GinkgoHelper()
	Eventually(func() error { return k8s.Get(ctx, client.ObjectKeyFromObject(o), o) }).ShouldNot(Succeed(), o.GetName()+" is deleted")
}

// callCount is the number of calls of an operation on an ID.
func (s *fixture) callCount(op ackplayer.Operation, id string) int {
	n := 0
	for _, call := range s.Calls() {
		if call.Operation == op && call.ID == id {
			n++
		}
	}
	return n
}

// recorder records the states that a replication group goes through, as one summary
// for each change.
type recorder struct {
	events chan string
	last   string
}

func (s *fixture) record(ctx context.Context, name string) *recorder {
	GinkgoHelper()
	ctx, cancel := context.WithCancel(ctx)
	watch, err := k8s.Watch(ctx, &ack.ReplicationGroupList{}, client.InNamespace(s.namespace))
	Expect(err).NotTo(HaveOccurred())
	f := &recorder{events: make(chan string, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range watch.ResultChan() {
			if g, ok := e.Object.(*ack.ReplicationGroup); ok && g.Name == name {
				f.events <- summary(string(e.Type), g)
			}
		}
	}()
	DeferCleanup(func() {
		watch.Stop()
		cancel()
		<-done
	})
	return f
}

// until returns the summaries up to the next one that contains text.
func (f *recorder) until(ctx context.Context, text string) []string {
	GinkgoHelper()
	var summaries []string
	for {
		select {
		case line := <-f.events:
			if line == f.last {
				continue
			}
			f.last, summaries = line, append(summaries, line)
			if strings.Contains(line, text) {
				return summaries
			}
		case <-ctx.Done():
			Fail(fmt.Sprintf("no state contains %q; recorded:\n%s", text, strings.Join(summaries, "\n")))
		}
	}
}

func summary(event string, g *ack.ReplicationGroup) string {
	if event == "DELETED" {
		return "deleted"
	}
	parts := []string{fmt.Sprintf("gen=%d", g.Generation)}
	if slices.Contains(g.Finalizers, "finalizers.elasticache.services.k8s.aws/ReplicationGroup") {
		parts = append(parts, "managed")
	}
	if ack.GroupState(g) != "" {
		parts = append(parts, ack.GroupState(g))
	}
	if ack.PrimaryEndpoint(g) != nil {
		parts = append(parts, "endpoint")
	}
	for _, c := range g.Status.Conditions {
		parts = append(parts, strings.TrimPrefix(string(c.Type), "ACK.")+"="+string(c.Status))
	}
	return strings.Join(parts, " ")
}
