// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackmodel

import (
	"sigs.k8s.io/controller-runtime/pkg/client"

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
		if o.Status.SnapshotStatus == "" {
			o.Status.SnapshotStatus = "creating"
			s.inProgress(o, "snapshot currently being created.")
			return
		}
		o.Status.SnapshotStatus = ack.SnapshotAvailable
	case *ack.SecurityGroup:
		o.Status.ID = "sg-1"
	case *ack.User:
		o.Status.State = ack.UserActive
	case *ack.UserGroup:
		o.Status.State = ack.UserActive
	}
	s.synced(o)
}

// addFinalizer keeps an object until its resource is deleted in AWS.
func addFinalizer(o client.Object) {
	o.SetFinalizers([]string{"finalizers.elasticache.services.k8s.aws/" + ack.KindOf(o).Kind})
}
