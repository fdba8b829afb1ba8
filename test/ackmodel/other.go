// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel

import (
	"sigs.k8s.io/controller-runtime/pkg/client"

	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/controllers/ack"
)

// other is a sync of a resource that AWS creates at once, or of a snapshot.
func (s *sync) other(o client.Object) {
	switch {
	case o.GetDeletionTimestamp() != nil && s.others.InUse(o):
		s.recoverable(o, "CacheSubnetGroupInUse: The resource is in use.")
	case o.GetDeletionTimestamp() != nil:
		o.SetFinalizers(nil)
	default:
		addFinalizer(o)
		s.createOther(o)
	}
}

func (s *sync) createOther(o client.Object) {
	switch o := o.(type) {
	case *ack.Snapshot:
		if ack.Value(o.Status.SnapshotStatus) == "" {
			o.Status.SnapshotStatus = ptr.To("creating")
			s.inProgress(o, "snapshot currently being created.")
			return
		}
		o.Status.SnapshotStatus = ptr.To(ack.SnapshotAvailable)
	case *ack.SecurityGroup:
		o.Status.ID = ptr.To("sg-1")
	case *ack.User:
		o.Status.Status = ptr.To(ack.UserActive)
	case *ack.UserGroup:
		o.Status.Status = ptr.To(ack.UserActive)
	}
	s.synced(o)
}

// addFinalizer keeps an object until its resource is deleted in AWS.
func addFinalizer(o client.Object) {
	o.SetFinalizers([]string{"finalizers.elasticache.services.k8s.aws/" + ack.KindOf(o).Kind})
}
