// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package eventrate

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

func TestEventsOfANamespaceAreLimited(t *testing.T) {
	recorded := events.NewFakeRecorder(10 * burst)
	r := New(recorded)
	record := func(namespace string, n int) int {
		fc := &v1alpha1.FlagCache{}
		fc.Namespace = namespace
		before := len(recorded.Events)
		for range n {
			r.Eventf(fc, nil, corev1.EventTypeNormal, v1alpha1.ReasonReady, v1alpha1.ConditionReady, "%d flags", 1)
		}
		return len(recorded.Events) - before
	}
	// A few more are permitted as time passes.
	if n := record("hostile", 5*burst); n < burst || n > 2*burst {
		t.Errorf("%d events of one namespace were recorded, want about %d", n, burst)
	}
	if n := record("shop", 100); n != 100 {
		t.Errorf("%d of 100 events of another namespace were recorded", n)
	}
}
