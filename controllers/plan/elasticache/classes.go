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
	// fields are pointers to the fields of a spec.
	fields func(*ack.ReplicationGroupSpec) []any
}

// differ reports whether two specs differ in the class. The order of tags is no
// difference.
func (c class) differ(a, b ack.ReplicationGroupSpec) bool {
	a, b = Normalize(a), Normalize(b)
	if sameTags(reflect.ValueOf(a.Tags), reflect.ValueOf(b.Tags)) {
		a.Tags = b.Tags
	}
	return !reflect.DeepEqual(c.fields(&a), c.fields(&b))
}

// take copies the fields of the class.
func (c class) take(to *ack.ReplicationGroupSpec, from ack.ReplicationGroupSpec) {
	copied := c.fields(&from)
	for i, field := range c.fields(to) {
		reflect.ValueOf(field).Elem().Set(reflect.ValueOf(copied[i]).Elem())
	}
}

var (
	// quietClass has the fields that change at once, and no phase shows it.
	quietClass = class{"quiet", func(s *ack.ReplicationGroupSpec) []any {
		return []any{&s.Description, &s.SnapshotWindow, &s.PreferredMaintenanceWindow, &s.SnapshotRetentionLimit}
	}}
	tagsClass     = class{"tags", func(s *ack.ReplicationGroupSpec) []any { return []any{&s.Tags} }}
	securityClass = class{"security", func(s *ack.ReplicationGroupSpec) []any { return []any{&s.SecurityGroupIDs} }}
	engineClass   = class{"engine", func(s *ack.ReplicationGroupSpec) []any {
		return []any{&s.EngineVersion, &s.CacheParameterGroupName}
	}}
	nodeClass         = class{"node", func(s *ack.ReplicationGroupSpec) []any { return []any{&s.CacheNodeType} }}
	replicasClass     = class{"replicas", func(s *ack.ReplicationGroupSpec) []any { return []any{&s.ReplicasPerNodeGroup} }}
	availabilityClass = class{"availability", func(s *ack.ReplicationGroupSpec) []any {
		return []any{&s.AutomaticFailoverEnabled, &s.MultiAZEnabled}
	}}
)

// fixedClass is the class on record for fields of no class: they are the same for as long
// as the group exists, so that only others can have changed them.
const fixedClass = "fixed"

// withFixed is the current spec with the desired fields of no class. Of some, what is set
// stays: the API server lets nobody change those that are immutable, and ACK itself
// reverts the other.
func withFixed(current, desired ack.ReplicationGroupSpec) ack.ReplicationGroupSpec {
	next := desired
	for _, c := range classes(desired) {
		c.take(&next, current)
	}
	next.KMSKeyID = kept(current.KMSKeyID, next.KMSKeyID)
	next.NetworkType = kept(current.NetworkType, next.NetworkType)
	next.AtRestEncryptionEnabled = kept(current.AtRestEncryptionEnabled, next.AtRestEncryptionEnabled)
	return next
}

// completed is the spec that ACK wrote of a group that it adopts, with the desired fields that
// ACK does not write. Most of these are as AWS has them.
func completed(current, desired ack.ReplicationGroupSpec) ack.ReplicationGroupSpec {
	current = writtenSpec(current)
	from, to := reflect.ValueOf(desired), reflect.ValueOf(&current).Elem()
	for i := range to.NumField() {
		if field := to.Field(i); field.IsZero() {
			field.Set(from.Field(i))
		}
	}
	return current
}

// kept is the current value of a field that is to be set, if there is one.
func kept[T any](current, desired *T) *T {
	if current == nil || desired == nil {
		return desired
	}
	return current
}

// flushClass is the class on record for a change that only has ACK send other
// security groups to AWS.
const flushClass = "exchange"

// classes in the order in which they are changed. Failover needs a replica, so it
// is switched off before the last one is removed and on after the first one exists.
func classes(desired ack.ReplicationGroupSpec) []class {
	order := []class{quietClass, tagsClass, securityClass, engineClass, nodeClass}
	if ack.Value(desired.ReplicasPerNodeGroup) == 0 {
		return append(order, availabilityClass, replicasClass)
	}
	return append(order, replicasClass, availabilityClass)
}

// immediate reports whether AWS may carry out a class of changes at once.
func immediate(class string) bool {
	return slices.Contains([]string{quietClass.name, tagsClass.name, securityClass.name, availabilityClass.name, flushClass, fixedClass}, class)
}

// NextChange is the current spec with one class of changes towards the desired one,
// and the name of that class: the first that differs, or the given one if that
// does. The name is empty where nothing differs. Fields of no class are left as they
// are.
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

// Normalize makes absent fields equal to zero ones, and empty lists equal, whichever way
// they are empty.
func Normalize(spec ack.ReplicationGroupSpec) ack.ReplicationGroupSpec {
	v := reflect.ValueOf(&spec).Elem()
	for i := range v.NumField() {
		field := v.Field(i)
		empty := field.Kind() == reflect.Slice && field.Len() == 0
		zero := field.Kind() == reflect.Pointer && !field.IsNil() && field.Elem().IsZero()
		if empty || zero {
			field.SetZero()
		}
	}
	return spec
}

// sameSpec reports whether two specs are equal.
func sameSpec(a, b ack.ReplicationGroupSpec) bool {
	return reflect.DeepEqual(Normalize(a), Normalize(b))
}
