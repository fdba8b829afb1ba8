// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// limit bounds the time until something is recorded.
const limit = 30 * time.Second

// TestRecordingFindsLeaks leaks the value of a Secret in each way that objects can.
func TestRecordingFindsLeaks(t *testing.T) {
	server := &envtest.Environment{}
	config, err := server.Start()
	if err != nil {
		t.Fatalf("starting an API server (KUBEBUILDER_ASSETS says from where; make test sets it): %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stopping the API server: %v", err)
		}
	})
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	recording, err := Record(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(recording.Stop)

	const password, token = "marked-password-1", "marked-token-2"
	var template bytes.Buffer
	w := gzip.NewWriter(&template)
	if _, err := w.Write([]byte(`{"args": ["--password=` + password + `"]}`)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "default", Name: name} }
	annotated := meta("annotated")
	annotated.Annotations = map[string]string{"token": "Bearer " + token}
	compressed := meta("compressed")
	compressed.Annotations = map[string]string{"template": base64.StdEncoding.EncodeToString(template.Bytes())}
	create := func(objects ...client.Object) {
		t.Helper()
		for _, o := range objects {
			if err := c.Create(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
	}
	create(
		&corev1.Secret{ObjectMeta: annotated, StringData: map[string]string{
			"password": password, "host": "cache.example.com", "uri": "redis://cache.example.com:6379",
		}},
		&corev1.Secret{ObjectMeta: meta("token"), StringData: map[string]string{"token": token}},
		&corev1.ConfigMap{ObjectMeta: compressed},
		&corev1.ConfigMap{ObjectMeta: meta("address"), Data: map[string]string{"where": "redis://cache.example.com:6379"}},
		&eventsv1.Event{
			ObjectMeta: meta("event"), EventTime: metav1.NowMicro(), ReportingController: "test", ReportingInstance: "test",
			Action: "Test", Reason: "Test", Type: "Normal", Note: "the token is " + token,
		},
		aDefinition())
	thing := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Thing", "metadata": map[string]any{"namespace": "default", "name": "thing"},
		"text": "p: " + password,
	}}
	err = wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, limit, true, func(ctx context.Context) (bool, error) {
		return c.Create(ctx, thing.DeepCopy()) == nil, nil
	})
	if err != nil {
		t.Fatalf("creating an object of a new kind: %v", err)
	}

	want := []string{"Secret default/annotated", "configmaps default/compressed", "events default/event", "things default/thing", "a log"}
	var found []Finding
	err = wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, limit, true, func(context.Context) (bool, error) {
		var err error
		found, err = recording.Search(map[string]string{"a log": "level=info password=" + password, "another log": "nothing"})
		return len(places(found, want)) == len(want), err
	})
	if err != nil {
		t.Errorf("found %v, want something in each of %q: %v", found, want, err)
	}
	for _, f := range found {
		if len(places([]Finding{f}, want)) == 0 {
			t.Errorf("found in another place: %s", f)
		}
	}
}

func TestShortSecretsFailTheSearch(t *testing.T) {
	r := &Recording{values: map[string]string{"short": "password of Secret a/b"}}
	if _, err := r.Search(nil); err == nil || !strings.Contains(err.Error(), "password of Secret a/b") {
		t.Errorf("Search returned %v", err)
	}
}

// places are those in which something was found.
func places(found []Finding, places []string) map[string]bool {
	in := map[string]bool{}
	for _, f := range found {
		for _, place := range places {
			if strings.Contains(f.Where, place) {
				in[place] = true
			}
		}
	}
	return in
}

// aDefinition defines the kind Thing.
func aDefinition() *apiextensionsv1.CustomResourceDefinition {
	preserve := true
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "things.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "example.com", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "things", Kind: "Thing"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type: "object", XPreserveUnknownFields: &preserve,
				}},
			}},
		},
	}
}
