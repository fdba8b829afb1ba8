// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"cmp"
	"reflect"
	"slices"

	"github.com/flagcache/flagcache/controllers/ack"
)

// class is a set of fields that ACK sends to AWS in one call. ACK sends one kind of
// change at a time and forgets others that came with it, so a group is changed by
// one class at a time.
type class struct {
	name string
	// differ reports whether two specs differ in the class, take copies it.
	differ func(a, b ack.ReplicationGroupSpec) bool
	take   func(to *ack.ReplicationGroupSpec, from ack.ReplicationGroupSpec)
}

// field is a class of one comparable field or of several in a struct.
func field[T any](name string, of func(*ack.ReplicationGroupSpec) T, set func(*ack.ReplicationGroupSpec, T)) class {
	return class{
		name:   name,
		differ: func(a, b ack.ReplicationGroupSpec) bool { return !reflect.DeepEqual(of(&a), of(&b)) },
		take:   func(to *ack.ReplicationGroupSpec, from ack.ReplicationGroupSpec) { set(to, of(&from)) },
	}
}

// Fields that change together.
type (
	// quietFields change at once, and no phase shows it.
	quietFields struct {
		description, snapshotWindow, maintenanceWindow string
		retention                                      int64
	}
	engineFields       struct{ version, parameterGroup string }
	availabilityFields struct{ failover, multiAZ bool }
)

var (
	quietClass = field("quiet", func(s *ack.ReplicationGroupSpec) quietFields {
		return quietFields{s.Description, s.SnapshotWindow, s.PreferredMaintenanceWindow, s.SnapshotRetentionLimit}
	}, func(s *ack.ReplicationGroupSpec, f quietFields) {
		s.Description, s.SnapshotWindow, s.PreferredMaintenanceWindow, s.SnapshotRetentionLimit = f.description, f.snapshotWindow, f.maintenanceWindow, f.retention
	})
	tagsClass = field("tags", func(s *ack.ReplicationGroupSpec) []ack.Tag { return Normalize(*s).Tags },
		func(s *ack.ReplicationGroupSpec, tags []ack.Tag) { s.Tags = tags })
	securityClass = field("security", func(s *ack.ReplicationGroupSpec) []string { return Normalize(*s).SecurityGroupIDs },
		func(s *ack.ReplicationGroupSpec, ids []string) { s.SecurityGroupIDs = ids })
	engineClass = field("engine", func(s *ack.ReplicationGroupSpec) engineFields {
		return engineFields{s.EngineVersion, s.CacheParameterGroupName}
	},
		func(s *ack.ReplicationGroupSpec, f engineFields) {
			s.EngineVersion, s.CacheParameterGroupName = f.version, f.parameterGroup
		})
	nodeClass = field("node", func(s *ack.ReplicationGroupSpec) string { return s.CacheNodeType },
		func(s *ack.ReplicationGroupSpec, nodeType string) { s.CacheNodeType = nodeType })
	replicasClass = field("replicas", func(s *ack.ReplicationGroupSpec) int64 { return s.ReplicasPerNodeGroup },
		func(s *ack.ReplicationGroupSpec, replicas int64) { s.ReplicasPerNodeGroup = replicas })
	availabilityClass = field("availability", func(s *ack.ReplicationGroupSpec) availabilityFields {
		return availabilityFields{s.AutomaticFailoverEnabled, s.MultiAZEnabled}
	}, func(s *ack.ReplicationGroupSpec, f availabilityFields) {
		s.AutomaticFailoverEnabled, s.MultiAZEnabled = f.failover, f.multiAZ
	})
)

// flushClass is the class on record for a change that only has ACK send other
// security groups to AWS.
const flushClass = "exchange"

// classes in the order in which they are changed. Failover needs a replica, so it
// is switched off before the last one is removed and on after the first one exists.
func classes(desired ack.ReplicationGroupSpec) []class {
	order := []class{quietClass, tagsClass, securityClass, engineClass, nodeClass}
	if desired.ReplicasPerNodeGroup == 0 {
		return append(order, availabilityClass, replicasClass)
	}
	return append(order, replicasClass, availabilityClass)
}

// immediate reports whether AWS may carry out a class of changes at once.
func immediate(class string) bool {
	return slices.Contains([]string{quietClass.name, tagsClass.name, securityClass.name, availabilityClass.name, flushClass}, class)
}

// NextChange is the current spec with one class of changes towards the desired one,
// and the name of that class: the first that differs, or the given one if that
// does. The name is empty where nothing differs. Fields of no class cannot be
// changed: they make another cache.
func NextChange(current, desired ack.ReplicationGroupSpec, first string) (next ack.ReplicationGroupSpec, changed string) {
	order := classes(desired)
	slices.SortStableFunc(order, func(a, b class) int { return cmp.Compare(rank(a, first), rank(b, first)) })
	for _, c := range order {
		if c.differ(current, desired) {
			c.take(&current, desired)
			return current, c.name
		}
	}
	return current, ""
}

// rank sorts the class of a name before all others.
func rank(c class, first string) int {
	if c.name == first {
		return 0
	}
	return 1
}

// Differences are the names of the classes in which two specs differ.
func Differences(current, desired ack.ReplicationGroupSpec) []string {
	var names []string
	for _, c := range classes(desired) {
		if c.differ(current, desired) {
			names = append(names, c.name)
		}
	}
	return names
}

// Normalize makes empty lists equal, whichever way they are empty.
func Normalize(spec ack.ReplicationGroupSpec) ack.ReplicationGroupSpec {
	if len(spec.Tags) == 0 {
		spec.Tags = nil
	}
	if len(spec.SecurityGroupIDs) == 0 {
		spec.SecurityGroupIDs = nil
	}
	if len(spec.UserGroupIDs) == 0 {
		spec.UserGroupIDs = nil
	}
	return spec
}

// sameSpec reports whether two specs are equal.
func sameSpec(a, b ack.ReplicationGroupSpec) bool {
	return reflect.DeepEqual(Normalize(a), Normalize(b))
}
