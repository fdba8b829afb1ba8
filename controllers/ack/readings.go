// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ack

import (
	"net"
	"strconv"
	"strings"
)

// States of a ReplicationGroup, status.status. AWS documents them as text only, so the
// module has no names for them.
const (
	GroupCreating     = "creating"
	GroupAvailable    = "available"
	GroupModifying    = "modifying"
	GroupSnapshotting = "snapshotting"
	GroupDeleting     = "deleting"
	GroupCreateFailed = "create-failed"
)

// UserActive is status.status of a User or UserGroup that is ready for use.
const UserActive = "active"

// SnapshotAvailable is status.snapshotStatus of a completed Snapshot.
const SnapshotAvailable = "available"

// Value is the value of a field, zero if it is absent.
func Value[T any](field *T) T {
	if field == nil {
		var zero T
		return zero
	}
	return *field
}

// Values are the values of a list; nil entries are zero.
func Values[T any](list []*T) []T {
	var values []T
	for _, field := range list {
		values = append(values, Value(field))
	}
	return values
}

// Pointers is a list of values as ACK's types have it.
func Pointers[T any](values ...T) []*T {
	var list []*T
	for _, value := range values {
		list = append(list, &value)
	}
	return list
}

// Map is a list of what a function returns for the entries of another, without those that
// are nil.
func Map[From, To any](list []*From, of func(*From) *To) []*To {
	var mapped []*To
	for _, entry := range list {
		if entry != nil {
			mapped = append(mapped, of(entry))
		}
	}
	return mapped
}

// GroupState is AWS's name for the state of a group: one of the Group constants, or
// another; "" before AWS has the group.
func GroupState(g *ReplicationGroup) string { return Value(g.Status.Status) }

// GroupID is AWS's ID of the group that the status is about, "" while it is unknown. It is
// not the spec's after that was changed, until ACK has synced the object.
func GroupID(g *ReplicationGroup) string {
	if g.Status.ACKResourceMetadata == nil {
		return ""
	}
	arn := string(Value(g.Status.ACKResourceMetadata.ARN))
	return arn[strings.LastIndex(arn, ":")+1:]
}

// PrimaryEndpoint returns the endpoint for writes, nil while it is unknown: the node
// groups of a group that is being created have no endpoints.
func PrimaryEndpoint(g *ReplicationGroup) *Endpoint {
	return endpoint(g, func(shard *NodeGroup) *Endpoint { return shard.PrimaryEndpoint })
}

// ReaderEndpoint returns the endpoint for reads, nil while it is unknown.
func ReaderEndpoint(g *ReplicationGroup) *Endpoint {
	return endpoint(g, func(shard *NodeGroup) *Endpoint { return shard.ReaderEndpoint })
}

// endpoint of the only shard.
func endpoint(g *ReplicationGroup, of func(*NodeGroup) *Endpoint) *Endpoint {
	if len(g.Status.NodeGroups) == 0 || g.Status.NodeGroups[0] == nil {
		return nil
	}
	e := of(g.Status.NodeGroups[0])
	if e == nil || Value(e.Address) == "" {
		return nil
	}
	return e
}

// Address is host:port of an endpoint, "" for a missing one.
func Address(e *Endpoint) string {
	if e == nil || Value(e.Address) == "" {
		return ""
	}
	return net.JoinHostPort(*e.Address, strconv.FormatInt(Value(e.Port), 10))
}

// Region is the AWS region in which ACK created a resource, "" before.
func Region(m *ResourceMetadata) string {
	if m == nil {
		return ""
	}
	return string(Value(m.Region))
}
