// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package bodies_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/flagcache/flagcache/controllers/bodies"
)

// cluster is an API server, and an informer cache that follows it on request.
type cluster struct {
	*bodies.Client
	server, cache client.WithWatch
	// reads are those of the API server, by name.
	reads []string
}

func newCluster(t *testing.T, objects ...client.Object) *cluster {
	t.Helper()
	c := &cluster{server: fake.NewClientBuilder().WithObjects(objects...).Build()}
	live := interceptor.NewClient(c.server, interceptor.Funcs{
		Get: func(ctx context.Context, server client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			c.reads = append(c.reads, key.Name)
			return server.Get(ctx, key, o, options...)
		},
	})
	cached := interceptor.NewClient(c.server, interceptor.Funcs{
		Get: func(ctx context.Context, _ client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			return c.cache.Get(ctx, key, o.(*metav1.PartialObjectMetadata), options...)
		},
		List: func(ctx context.Context, _ client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			return c.cache.List(ctx, list.(*metav1.PartialObjectMetadataList), options...)
		},
	})
	c.Client = bodies.New(cached, live)
	c.catchUp(t)
	return c
}

// catchUp copies the state of the server to the cache.
func (c *cluster) catchUp(t *testing.T) {
	t.Helper()
	list := &corev1.SecretList{}
	if err := c.server.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	c.cache = fake.NewClientBuilder().WithLists(list).Build()
}

func aSecret(name, password string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "uid-1", Labels: map[string]string{"of": "demo"}},
		Data:       map[string][]byte{"password": []byte(password)},
	}
}

// password reads the Secret demo, "" if there is none.
func (c *cluster) password(t *testing.T) string {
	t.Helper()
	secret := &corev1.Secret{}
	switch err := c.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "demo"}, secret); {
	case apierrors.IsNotFound(err):
		return ""
	case err != nil:
		t.Fatal(err)
	}
	return string(secret.Data["password"])
}

// passwords lists the passwords of the Secrets of demo.
func (c *cluster) passwords(t *testing.T) string {
	t.Helper()
	return c.passwordsOf(t, "demo")
}

func (c *cluster) passwordsOf(t *testing.T, name string) string {
	t.Helper()
	list := &corev1.SecretList{}
	if err := c.List(t.Context(), list, client.InNamespace("shop"), client.MatchingLabels{"of": name}); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range list.Items {
		all = append(all, s.Name+"="+string(s.Data["password"]))
	}
	return strings.Join(all, " ")
}

func TestBodyIsReadOncePerVersion(t *testing.T) {
	c := newCluster(t, aSecret("demo", "one"))
	for range 3 {
		if got := c.passwords(t); got != "demo=one" || c.password(t) != "one" {
			t.Fatalf("read %q", got)
		}
	}
	if len(c.reads) != 1 {
		t.Errorf("one version was read %d times", len(c.reads))
	}
	changed := aSecret("demo", "two")
	if err := c.server.Update(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	c.catchUp(t)
	if got := c.passwords(t); got != "demo=two" || len(c.reads) != 2 {
		t.Errorf("read %q by %v after a change", got, c.reads)
	}
}

func TestWhatIsReadIsACopy(t *testing.T) {
	c := newCluster(t, aSecret("demo", "one"))
	secret := &corev1.Secret{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "demo"}, secret); err != nil {
		t.Fatal(err)
	}
	copy(secret.Data["password"], "xxx")
	if got := c.password(t); got != "one" {
		t.Errorf("a reader changed what others read to %q", got)
	}
}

func TestWritesAreReadBeforeTheCacheHasThem(t *testing.T) {
	c := newCluster(t)
	if err := c.Create(t.Context(), aSecret("demo", "one")); err != nil {
		t.Fatal(err)
	}
	if got := c.passwords(t); got != "demo=one" || c.password(t) != "one" {
		t.Fatalf("read %q after a creation", got)
	}
	c.catchUp(t)
	if got := c.passwords(t); got != "demo=one" {
		t.Fatalf("read %q when the cache has the creation", got)
	}

	patched := aSecret("demo", "two")
	if err := c.Patch(t.Context(), patched, client.MergeFrom(aSecret("demo", "one"))); err != nil {
		t.Fatal(err)
	}
	if got := c.passwords(t); got != "demo=two" || c.password(t) != "two" {
		t.Fatalf("read %q after a patch", got)
	}
	c.catchUp(t)
	reads := len(c.reads)
	if got := c.passwords(t); got != "demo=two" || len(c.reads) != reads {
		t.Errorf("read %q, by %v, though the operator wrote it itself", got, c.reads[reads:])
	}

	if err := c.Delete(t.Context(), patched); err != nil {
		t.Fatal(err)
	}
	if got := c.passwords(t); got != "" || c.password(t) != "" {
		t.Errorf("read %q after a deletion", got)
	}
	c.catchUp(t)
	if got := c.passwords(t); got != "" {
		t.Errorf("read %q when the cache has the deletion", got)
	}
}

// TestListsReadNoWritesOfOthers: a FlagCache would otherwise pay for the writes of all others
// in its namespace.
func TestListsReadNoWritesOfOthers(t *testing.T) {
	c := newCluster(t, aSecret("demo", "one"))
	c.passwords(t)
	other := aSecret("other", "two")
	other.UID, other.Labels = "uid-2", map[string]string{"of": "other"}
	if err := c.Create(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	reads := len(c.reads)
	for _, when := range []string{"before", "after"} {
		if got := c.passwords(t); got != "demo=one" || len(c.reads) != reads {
			t.Errorf("read %q by %v, %s the cache has what was written for another", got, c.reads[reads:], when)
		}
		if got := c.passwordsOf(t, "other"); got != "other=two" {
			t.Errorf("read %q %s the cache has it", got, when)
		}
		c.catchUp(t)
		reads = len(c.reads)
	}

	if err := c.Delete(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if got := c.passwords(t); got != "demo=one" {
		t.Errorf("read %q", got)
	}
	if got := c.passwordsOf(t, "other"); got != "" {
		t.Errorf("read %q after its deletion, because another list lacks it", got)
	}
}

// TestLabelledByOthers: an object that was written without the label of a list is a part of it
// once the cache has the label.
func TestLabelledByOthers(t *testing.T) {
	c := newCluster(t)
	created := aSecret("demo", "one")
	created.Labels = nil
	if err := c.Create(t.Context(), created); err != nil {
		t.Fatal(err)
	}
	if got := c.passwords(t); got != "" {
		t.Errorf("read %q, which has not the label", got)
	}
	created.Labels = map[string]string{"of": "demo"}
	if err := c.server.Update(t.Context(), created); err != nil {
		t.Fatal(err)
	}
	c.catchUp(t)
	if got := c.passwords(t); got != "demo=one" {
		t.Errorf("read %q", got)
	}
}

// TestDeletionByOthersIsNotHidden: the cache may never see an object that was deleted at
// once.
func TestDeletionByOthersIsNotHidden(t *testing.T) {
	c := newCluster(t)
	created := aSecret("demo", "one")
	if err := c.Create(t.Context(), created); err != nil {
		t.Fatal(err)
	}
	if err := c.server.Delete(t.Context(), created); err != nil {
		t.Fatal(err)
	}
	if got := c.passwords(t); got != "" {
		t.Errorf("read %q", got)
	}
	reads := len(c.reads)
	if got := c.passwords(t); got != "" || len(c.reads) != reads {
		t.Errorf("read %q by %v", got, c.reads[reads:])
	}
}

func TestSuccessorIsReadInsteadOfADeletedObject(t *testing.T) {
	c := newCluster(t, aSecret("demo", "one"))
	if err := c.Delete(t.Context(), aSecret("demo", "one")); err != nil {
		t.Fatal(err)
	}
	successor := aSecret("demo", "theirs")
	successor.UID = "uid-2"
	if err := c.server.Create(t.Context(), successor); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"before", "after"} {
		if got := c.passwords(t); got != "demo=theirs" {
			t.Errorf("read %q %s the cache has it", got, when)
		}
		c.catchUp(t)
	}
}

func TestObjectsOfOthersAreNotRead(t *testing.T) {
	theirs := aSecret("theirs", "theirs")
	theirs.OwnerReferences = []metav1.OwnerReference{{Kind: "Foreign", Controller: ptr.To(true)}}
	c := newCluster(t, theirs)
	if got := c.passwords(t); got != "theirs=" || len(c.reads) > 0 {
		t.Errorf("read %q by %v", got, c.reads)
	}
}

func TestLargeObjectsAreRefused(t *testing.T) {
	large := strings.Repeat("x", bodies.MaxSize)
	c := newCluster(t, aSecret("demo", large))
	for range 2 {
		err := c.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "demo"}, &corev1.Secret{})
		if !errors.As(err, new(bodies.TooLargeError)) || strings.Contains(err.Error(), "xxx") {
			t.Errorf("reading %d bytes: %v", len(large), err)
		}
	}
	if err := c.List(t.Context(), &corev1.SecretList{}, client.InNamespace("shop")); !errors.As(err, new(bodies.TooLargeError)) {
		t.Errorf("listing %d bytes: %v", len(large), err)
	}
}

// The flags that the operator publishes are in a ConfigMap.
func TestLargeConfigMapsAreRead(t *testing.T) {
	large := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "flags", UID: "uid-1"},
		BinaryData: map[string][]byte{"flags.json.gz": make([]byte, 1<<20)},
	}
	server := fake.NewClientBuilder().WithObjects(large).Build()
	metadata := interceptor.NewClient(server, interceptor.Funcs{
		Get: func(_ context.Context, _ client.WithWatch, _ client.ObjectKey, o client.Object, _ ...client.GetOption) error {
			o.(*metav1.PartialObjectMetadata).ObjectMeta = large.ObjectMeta
			return nil
		},
	})
	got := &corev1.ConfigMap{}
	if err := bodies.New(metadata, server).Get(t.Context(), client.ObjectKeyFromObject(large), got); err != nil || len(got.BinaryData["flags.json.gz"]) != 1<<20 {
		t.Errorf("read %d bytes, error %v", len(got.BinaryData["flags.json.gz"]), err)
	}
}

func TestLargeListsAreRefused(t *testing.T) {
	var many []client.Object
	for i := range 2 * bodies.MaxListSize / bodies.MaxSize {
		s := aSecret(fmt.Sprintf("many-%d", i), strings.Repeat("x", bodies.MaxSize*3/4))
		s.UID = types.UID(s.Name)
		many = append(many, s)
	}
	c := newCluster(t, many...)
	err := c.List(t.Context(), &corev1.SecretList{}, client.InNamespace("shop"))
	if !errors.As(err, new(bodies.TooLargeError)) {
		t.Errorf("listing %d Secrets: %v", len(many), err)
	}
	if limit := bodies.MaxListSize/(bodies.MaxSize*3/4) + 1; len(c.reads) > limit {
		t.Errorf("%d Secrets were read, more than %d", len(c.reads), limit)
	}
}
