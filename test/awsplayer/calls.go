// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxCalls bounds the log of calls; older calls are dropped.
const maxCalls = 10000

// Call is a call of the API.
type Call struct {
	Time time.Time
	// Action is the name of the action, such as ModifyReplicationGroup.
	Action string
	// ID is the ID or name of the resource, or the ARN of the tagged one; "" for all.
	ID string
	// Parameters are those of the request, with secrets replaced by "***".
	Parameters map[string]string
	// Code is the error code of the response, "" if the call succeeded.
	Code string
}

// Mutating reports whether the call is one that changes AWS.
func (c Call) Mutating() bool {
	for _, prefix := range []string{"Describe", "List", "Get", "Assume"} {
		if strings.HasPrefix(c.Action, prefix) {
			return false
		}
	}
	return true
}

// idParameters are the parameters that identify the resource of a call. The first one
// that is set counts.
var idParameters = []string{
	"ReplicationGroupId", "UserGroupId", "UserId", "CacheSubnetGroupName", "CacheParameterGroupName",
	"TargetSnapshotName", "SnapshotName", "CacheClusterId", "ResourceName", "SourceIdentifier", "RoleArn",
}

func newCall(form url.Values) Call {
	c := Call{Time: time.Now(), Action: form.Get("Action"), Parameters: map[string]string{}}
	// A group that is restored has the name of a snapshot too, a snapshot the ID of a group.
	ids := idParameters
	if strings.Contains(c.Action, "Snapshot") {
		ids = []string{"TargetSnapshotName", "SnapshotName", "ReplicationGroupId", "CacheClusterId"}
	}
	for _, name := range ids {
		if id := form.Get(name); id != "" {
			c.ID = id
			break
		}
	}
	if strings.Contains(c.Action, "ReplicationGroup") || strings.HasSuffix(c.Action, "ReplicaCount") {
		c.ID = strings.ToLower(c.ID) // as AWS stores it
	}
	for key := range form {
		switch {
		case key == "Action" || key == "Version":
		case isSecret(key):
			c.Parameters[key] = "***"
		default:
			c.Parameters[key] = form.Get(key)
		}
	}
	return c
}

// isSecret reports whether the value of a parameter is a secret: AuthToken, Passwords and
// AuthenticationMode.Passwords.
func isSecret(key string) bool {
	path := strings.Split(key, ".")
	return slices.Contains(path, "AuthToken") || slices.Contains(path, "Passwords") ||
		slices.Contains(path, "ExternalId") || slices.Contains(path, "TokenCode")
}

// journal has the calls that were made and the faults for those to come.
type journal struct {
	mu     sync.Mutex
	faults []Fault
	calls  []Call
}

// record adds a call to the log.
func (j *journal) record(c Call) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls = append(j.calls, c)
	if len(j.calls) > maxCalls {
		j.calls = slices.Delete(j.calls, 0, len(j.calls)-maxCalls)
	}
}

// Fault fails or delays calls of the API.
type Fault struct {
	// Action is the name of the action, such as CreateReplicationGroup; "" is every action.
	Action string
	// ID is the ID or name of the resource; "" is every resource.
	ID string
	// Code is the error code, such as ClusterQuotaForCustomerExceeded, Throttling or
	// AccessDenied. With "" the calls are only delayed. CreateFailed and RolledBack accept
	// the call and fail afterwards.
	Code string
	// Message is the message of the error; it has a default.
	Message string
	// Delay is added to the calls.
	Delay time.Duration
	// Times is the number of calls. Default: 1. A negative number is without limit.
	Times int
}

// Codes of faults that let a call succeed and fail what it has begun.
const (
	// CreateFailed fails the creation of a replication group.
	CreateFailed = "create-failed"
	// RolledBack fails a modification of a replication group, whose settings then stay the
	// previous ones.
	RolledBack = "rolled-back"
)

func (f Fault) matches(action, id string) bool {
	return (f.Action == "" || f.Action == action) && (f.ID == "" || f.ID == id)
}

func (f Fault) late() bool { return f.Code == CreateFailed || f.Code == RolledBack }

// take returns the first fault that satisfies a condition and counts it.
func (j *journal) take(holds func(Fault) bool) (Fault, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := slices.IndexFunc(j.faults, holds)
	if i < 0 {
		return Fault{}, false
	}
	f := j.faults[i]
	if f.Times > 0 {
		if j.faults[i].Times--; j.faults[i].Times == 0 {
			j.faults = slices.Delete(j.faults, i, i+1)
		}
	}
	return f, true
}

// disturb applies the first fault that matches a call.
func (j *journal) disturb(ctx context.Context, c Call) error {
	f, ok := j.take(func(f Fault) bool { return !f.late() && f.matches(c.Action, c.ID) })
	if !ok {
		return nil
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if f.Code == "" {
		return nil
	}
	return failure(f.Code, "%s", messageOf(f.Code, f.Message))
}

// fails reports whether a call that was accepted fails afterwards.
func (j *journal) fails(code, action, id string) bool {
	_, ok := j.take(func(f Fault) bool { return f.Code == code && f.matches(action, id) })
	return ok
}
