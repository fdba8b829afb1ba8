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
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/ackplayer"
)

func TestPlayer(t *testing.T) {
	RegisterFailHandler(Fail)
	SetDefaultEventuallyTimeout(time.Minute)
	SetDefaultEventuallyPollingInterval(20 * time.Millisecond)
	RunSpecs(t, "ACK, played against a real API server with real Redis servers")
}

var (
	config     *rest.Config
	k8s        client.WithWatch
	namespaces atomic.Int32
)

var _ = BeforeSuite(func(ctx context.Context) {
	ctrl.SetLogger(zap.New(zap.WriteTo(GinkgoWriter), zap.UseDevMode(true)))
	Expect(os.Getenv("KUBEBUILDER_ASSETS")).NotTo(BeEmpty(),
		"KUBEBUILDER_ASSETS names no folder with etcd and kube-apiserver: run `make test`, or `make envtest` and set it to bin/envtest")
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
	Expect(ackplayer.InstallCRDs(ctx, k8s)).To(Succeed())
	Expect(ackplayer.InstallCRDs(ctx, k8s)).To(Succeed(), "when they are installed already")
	DeferCleanup(func(ctx context.Context) { Expect(ackplayer.RemoveCRDs(ctx, k8s)).To(Succeed()) })
})

// stage is a namespace in which a player plays.
type stage struct {
	*ackplayer.Player
	namespace string
}

// poll is how long the players of the tests wait.
const poll = 200 * time.Millisecond

// play starts a player, which ends with the test after all objects have gone.
func play(o ackplayer.Options) *stage {
	GinkgoHelper()
	o.Config, o.Log, o.Poll = config, ctrl.Log, poll
	player, err := ackplayer.New(o)
	Expect(err).NotTo(HaveOccurred())
	s := &stage{Player: player, namespace: fmt.Sprintf("stage-%d", namespaces.Add(1))}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- player.Start(ctx) }()
	DeferCleanup(func() {
		cancel()
		Expect(<-ended).To(Succeed())
	})
	Expect(k8s.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}})).To(Succeed())
	DeferCleanup(s.clear)
	return s
}

// clear deletes all objects, groups before what they use.
func (s *stage) clear(ctx context.Context) {
	s.Resume()
	for _, k := range ack.Kinds() {
		Expect(k8s.DeleteAllOf(ctx, k.New(), client.InNamespace(s.namespace))).To(Succeed())
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(k.GroupVersion().WithKind(k.Kind + "List"))
		Eventually(func(g Gomega) {
			g.Expect(k8s.List(ctx, list, client.InNamespace(s.namespace))).To(Succeed())
			g.Expect(list.Items).To(BeEmpty())
		}).Should(Succeed(), "every "+k.Kind+" goes")
	}
}

const token = "a-token-of-16-or-more"

// secret makes a Secret with a token or a password.
func (s *stage) secret(ctx context.Context, name, token string) {
	GinkgoHelper()
	Expect(k8s.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.namespace}, StringData: map[string]string{"token": token},
	})).To(Succeed())
}

// full is the spec that ACK leaves alone.
func full(id string) ack.ReplicationGroupSpec {
	return ack.ReplicationGroupSpec{
		ReplicationGroupID: id, Description: "preview cache", Engine: "redis", EngineVersion: "7.1", CacheNodeType: "cache.t3.micro",
		NumNodeGroups: 1, ReplicasPerNodeGroup: 1, AutomaticFailoverEnabled: true, TransitEncryptionEnabled: true, AtRestEncryptionEnabled: true,
		AuthToken: &ack.SecretKey{Name: "auth", Key: "token"}, CacheSubnetGroupName: "default", CacheParameterGroupName: "default.redis7",
		SnapshotWindow: "03:00-04:00", IPDiscovery: "ipv4", NetworkType: "ipv4", Durability: "default",
	}
}

// small is the same with one node and without a token.
func small(id string) ack.ReplicationGroupSpec {
	spec := full(id)
	spec.ReplicasPerNodeGroup, spec.AutomaticFailoverEnabled, spec.AuthToken = 0, false, nil
	return spec
}

// operator is who applies the objects.
const operator = client.FieldOwner("our-operator")

// group applies a replication group by the name of its ID.
func (s *stage) group(ctx context.Context, spec ack.ReplicationGroupSpec, annotations ...string) *ack.ReplicationGroup {
	GinkgoHelper()
	o := &ack.ReplicationGroup{Spec: spec}
	o.Name, o.Namespace = strings.ToLower(spec.ReplicationGroupID), s.namespace
	for i := 0; i+1 < len(annotations); i += 2 {
		metav1.SetMetaDataAnnotation(&o.ObjectMeta, annotations[i], annotations[i+1])
	}
	Expect(k8s.Create(ctx, o, operator)).To(Succeed())
	return o
}

// patch changes a spec by a merge patch, as the operator.
func patch(ctx context.Context, o client.Object, spec string) {
	GinkgoHelper()
	Expect(k8s.Patch(ctx, o, client.RawPatch(types.MergePatchType, []byte(`{"spec": `+spec+`}`)), operator)).To(Succeed())
}

// eventually waits until an object's ACK status is as a test of it says.
func eventually[T ack.Object](ctx context.Context, o T, why string, holds func(T) bool) {
	GinkgoHelper()
	object := any(o).(client.Object)
	Eventually(func(g Gomega) {
		g.Expect(k8s.Get(ctx, client.ObjectKeyFromObject(object), object)).To(Succeed())
		g.Expect(holds(o)).To(BeTrue(), "%+v", o)
	}).Should(Succeed(), why)
}

func isReady[T ack.Object](o T) bool { return o.ACKStatus().Is(ack.ConditionReady) }

func available(g *ack.ReplicationGroup) bool {
	return isReady(g) && g.Status.State == ack.GroupAvailable
}

func message(o ack.Object, kind string) string {
	c, _ := o.ACKStatus().Condition(kind)
	return c.Message
}

// gone waits until an object does not exist.
func gone(ctx context.Context, o client.Object) {
	GinkgoHelper()
	Eventually(func() error { return k8s.Get(ctx, client.ObjectKeyFromObject(o), o) }).ShouldNot(Succeed(), o.GetName()+" goes")
}

// count is how many calls there were of an operation on an ID.
func (s *stage) count(op ackplayer.Operation, id string) int {
	n := 0
	for _, call := range s.Calls() {
		if call.Operation == op && call.ID == id {
			n++
		}
	}
	return n
}

// film writes down how a replication group changes, a frame for each version that
// reads differently from the one before.
type film struct {
	events chan string
	last   string
}

func (s *stage) film(ctx context.Context, name string) *film {
	GinkgoHelper()
	ctx, cancel := context.WithCancel(ctx)
	watch, err := k8s.Watch(ctx, &ack.ReplicationGroupList{}, client.InNamespace(s.namespace))
	Expect(err).NotTo(HaveOccurred())
	f := &film{events: make(chan string, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range watch.ResultChan() {
			if g, ok := e.Object.(*ack.ReplicationGroup); ok && g.Name == name {
				f.events <- frame(string(e.Type), g)
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

// until are the frames up to the next one with a text.
func (f *film) until(ctx context.Context, text string) []string {
	GinkgoHelper()
	var frames []string
	for {
		select {
		case line := <-f.events:
			if line == f.last {
				continue
			}
			f.last, frames = line, append(frames, line)
			if strings.Contains(line, text) {
				return frames
			}
		case <-ctx.Done():
			Fail(fmt.Sprintf("no frame has %q; there were:\n%s", text, strings.Join(frames, "\n")))
		}
	}
}

func frame(event string, g *ack.ReplicationGroup) string {
	if event == "DELETED" {
		return "gone"
	}
	words := []string{fmt.Sprintf("gen=%d", g.Generation)}
	if slices.Contains(g.Finalizers, "finalizers.elasticache.services.k8s.aws/ReplicationGroup") {
		words = append(words, "managed")
	}
	if g.Status.State != "" {
		words = append(words, g.Status.State)
	}
	if g.PrimaryEndpoint() != nil {
		words = append(words, "endpoint")
	}
	for _, c := range g.Status.Conditions {
		words = append(words, strings.TrimPrefix(c.Type, "ACK.")+"="+string(c.Status))
	}
	return strings.Join(words, " ")
}
