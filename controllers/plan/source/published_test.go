// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/flags"
	service "github.com/flagcache/flagcache/service/source"
)

// publish returns what is published of a document.
func publish(t *testing.T, document string) *corev1.ConfigMap {
	t.Helper()
	fc := &v1alpha1.FlagCache{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "demo", UID: "uid"}}
	fc.Spec.Flags.ConfigMap = &v1alpha1.ConfigMapKey{Name: "flags", Key: "flags.json"}
	p := checkFile(observed.NewIndex(observed.Snapshot{
		FlagCache: fc, Now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC),
		Flags: observed.Flags{State: observed.FlagsLoaded, Digest: digest([]byte(document))},
	})).Publish
	if p == nil {
		t.Fatal("nothing is published")
	}
	return p.ConfigMap([]byte(document))
}

// The flag service reads what the operator publishes.
func TestFlagServiceReadsPublishedFlags(t *testing.T) {
	for name, document := range map[string]string{
		"a small document": `{"flags": {}}`,
		"the largest one":  strings.Repeat("x", flags.MaxSize),
	} {
		t.Run(name, func(t *testing.T) {
			configMap, dir := publish(t, document), t.TempDir()
			for key, value := range configMap.Data {
				write(t, filepath.Join(dir, key), []byte(value))
			}
			for key, value := range configMap.BinaryData {
				write(t, filepath.Join(dir, key), value)
			}
			got, err := service.NewPublished(filepath.Join(dir, config.FlagsManifestKey), "flagcache:shop/demo", flags.MaxSize, time.Hour, slog.Default()).Load(t.Context())
			if err != nil || string(got.Data) != document || got.Store != "flagcache:shop/demo" || got.Version.Number != 1780315200 {
				t.Errorf("got %d bytes of %+v, error %v", len(got.Data), got.State, err)
			}
			data, current, err := ReadPublished(configMap, "flagcache:shop/demo")
			if err != nil || string(data) != document || current.Number != got.Version.Number || current.Digest != got.Digest || !current.PublishedAt.Time.Equal(got.Modified) {
				t.Errorf("the operator reads %+v, error %v", current, err)
			}
		})
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPublishedFlagsThatSomebodyEdited(t *testing.T) {
	for name, edit := range map[string]func(*corev1.ConfigMap){
		"no manifest":       func(c *corev1.ConfigMap) { c.Data = nil },
		"another version":   func(c *corev1.ConfigMap) { replace(c, `"version":1`, `"version":2`) },
		"another store":     func(c *corev1.ConfigMap) { replace(c, "shop/demo", "shop/other") },
		"a negative number": func(c *corev1.ConfigMap) { replace(c, `"number":`, `"number":-`) },
		"no time":           func(c *corev1.ConfigMap) { replace(c, `"2026-06-01T12:00:00Z"`, `null`) },
		"the first time":    func(c *corev1.ConfigMap) { replace(c, "2026-06-01T12:00:00Z", "0001-01-01T00:00:00Z") },
		"a longer manifest": func(c *corev1.ConfigMap) { replace(c, `"current"`, strings.Repeat(" ", 1<<17)+`"current"`) },
		"another field":     func(c *corev1.ConfigMap) { replace(c, `"version"`, `"candidate":{},"version"`) },
		"no document":       func(c *corev1.ConfigMap) { c.BinaryData = nil },
		"another document": func(c *corev1.ConfigMap) {
			c.BinaryData[config.FlagsDocumentKey] = observed.Compress([]byte("other"))
		},
		"a document that expands": func(c *corev1.ConfigMap) {
			c.BinaryData[config.FlagsDocumentKey] = observed.Compress(make([]byte, maxDocument+1))
		},
		"a damaged document": func(c *corev1.ConfigMap) {
			c.BinaryData[config.FlagsDocumentKey] = c.BinaryData[config.FlagsDocumentKey][:12]
		},
	} {
		t.Run(name, func(t *testing.T) {
			configMap := publish(t, "flags")
			edit(configMap)
			if data, _, err := ReadPublished(configMap, "flagcache:shop/demo"); err == nil {
				t.Errorf("it is read as %q", data)
			}
		})
	}
}

func replace(c *corev1.ConfigMap, from, to string) {
	c.Data[config.FlagsManifestKey] = strings.Replace(c.Data[config.FlagsManifestKey], from, to, 1)
}
