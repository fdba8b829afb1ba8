// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/controllers/ack"
)

// AWS has the events of the last 14 days by the ID of the group, in no promised order.
func TestLastEventIsTheNewest(t *testing.T) {
	at := func(minutes int, message string) *ack.Event {
		return &ack.Event{Date: ptr.To(metav1.NewTime(noon.Add(time.Duration(minutes) * time.Minute))), Message: &message}
	}
	created, failed := at(0, "Replication group demo created"), at(5, "Replication group demo failed to create")
	for name, c := range map[string]struct {
		events []*ack.Event
		want   string
	}{
		"none":                             {nil, ""},
		"oldest first":                     {[]*ack.Event{created, failed}, "Replication group demo failed to create"},
		"newest first":                     {[]*ack.Event{failed, created}, "Replication group demo failed to create"},
		"one without a date, and a nil":    {[]*ack.Event{nil, {Message: ptr.To("undated")}, created}, "Replication group demo created"},
		"one without a date and a message": {[]*ack.Event{{}}, "AWS gave no reason"},
	} {
		t.Run(name, func(t *testing.T) {
			g := &ack.ReplicationGroup{}
			g.Status.Events = c.events
			if got := lastEvent(g); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
