// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// recorded is a cache with the annotations of its group and of its Secret.
func recorded(group, secret map[string]string) Observed {
	return Observed{
		Group:  &ack.ReplicationGroup{ObjectMeta: metav1.ObjectMeta{Name: "demo-1", Annotations: group}},
		Secret: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "demo-cache-1", Annotations: secret}},
	}
}

// The JSON is a persisted format: what earlier versions wrote is read.
func TestDecodeRecords(t *testing.T) {
	got, err := decodeRecords(recorded(
		map[string]string{v1alpha1.AnnotationChange: `{"at":"2026-06-01T12:00:00Z","looked":"2026-06-01T11:59:58Z","class":"node","attempt":2}`},
		map[string]string{
			v1alpha1.AnnotationFailures: `{"count":3,"at":"2026-06-01T12:00:00Z","uid":"uid-7","for":"1234abcd"}`,
			v1alpha1.AnnotationToken:    `{"madeAt":"2026-06-01T12:00:00Z","request":"today"}`,
		}))
	want := records{
		change:   change{At: noon, SyncedBefore: noon.Add(-2 * time.Second), Class: "node", Attempt: 2},
		failures: failures{Count: 3, At: noon, UID: "uid-7", For: "1234abcd"},
		token:    tokenRecord{MadeAt: noon, Request: "today"},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(records{})); d != "" || err != nil {
		t.Errorf("error %v, records (-want +got):\n%s", err, d)
	}
	for name, o := range map[string]Observed{"no annotations": recorded(nil, nil), "no objects": {}} {
		if got, err := decodeRecords(o); err != nil || got != (records{}) {
			t.Errorf("%s: error %v, records %+v, want none", name, err, got)
		}
	}
}

func TestInvalidRecordsAreErrors(t *testing.T) {
	for _, text := range []string{"", "{", "null", "[]", `"text"`, `{"at":"yesterday"}`, `{"count":"many","attempt":"first","madeAt":7}`} {
		for annotation, o := range map[string]Observed{
			v1alpha1.AnnotationChange:   recorded(map[string]string{v1alpha1.AnnotationChange: text}, nil),
			v1alpha1.AnnotationFailures: recorded(nil, map[string]string{v1alpha1.AnnotationFailures: text}),
			v1alpha1.AnnotationToken:    recorded(nil, map[string]string{v1alpha1.AnnotationToken: text}),
		} {
			if text == `{"at":"yesterday"}` && annotation == v1alpha1.AnnotationToken {
				continue // an unknown field
			}
			got, err := decodeRecords(o)
			if err == nil || !strings.Contains(err.Error(), annotation) {
				t.Errorf("%s %q: error %v, records %+v", annotation, text, err, got)
			}
		}
	}
}
