// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// What a player's AWS account is called.
const (
	accountID = "123456789012"
	region    = "eu-west-1"
)

// Operation is something that AWS can be told to refuse.
type Operation string

// The operations.
const (
	Create Operation = "Create"
	Modify Operation = "Modify"
	Delete Operation = "Delete"
)

// account is what AWS has, as long as the player runs.
type account struct {
	options   Options
	log       logr.Logger
	authority *authority
	dir       string

	// ends is closed at the end, running is what goes on beside the looks.
	ends    context.Context
	end     context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	groups map[string]*group
	// things are by kind and ID.
	things   map[string]map[string]*thing
	refusals []refusal
	calls    []Call
}

// Call is one that changes something in AWS.
type Call struct {
	Operation Operation
	// Kind is ACK's, ID what AWS calls the object.
	Kind, ID string
}

// refusal is an order to refuse calls.
type refusal struct {
	operation Operation
	id, code  string
	times     int
}

func newAccount(o Options, a *authority) *account {
	account := &account{options: o, log: o.Log, authority: a, groups: map[string]*group{}, things: map[string]map[string]*thing{}}
	account.ends, account.end = context.WithCancel(context.Background())
	// AWS has a user default from the start.
	account.things["User"] = map[string]*thing{"default": {spec: map[string]any{
		"userID": "default", "userName": "default", "engine": "redis", "accessString": "on ~* &* +@all", "noPasswordRequired": true,
	}}}
	return account
}

// open makes the directory of the servers.
func (a *account) open() error {
	var err error
	if a.dir, err = os.MkdirTemp("", "ackplayer-"); err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	return a.authority.write(a.dir)
}

// close ends all servers and returns when nothing of the account is left.
func (a *account) close() {
	a.end()
	a.running.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range a.groups {
		g.fleet.stop()
	}
	_ = os.RemoveAll(a.dir)
}

// call is a call of AWS that changes something, which may be refused.
func (a *account) call(ctx context.Context, op Operation, kind, id string) error {
	code := a.record(op, kind, id)
	switch code {
	case "":
		return nil
	case "Throttling":
		// The SDK tries three times, and meanwhile the kind's only worker waits.
		select {
		case <-time.After(a.options.Poll / 6):
		case <-ctx.Done():
		}
	}
	return fault{op: op, kind: kind, code: code}
}

// record keeps a call, and returns the code to refuse it with, mostly "".
func (a *account) record(op Operation, kind, id string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, Call{op, kind, id})
	i := slices.IndexFunc(a.refusals, func(r refusal) bool { return r.operation == op && r.id == id })
	if i < 0 {
		return ""
	}
	code := a.refusals[i].code
	if a.refusals[i].times--; a.refusals[i].times <= 0 {
		a.refusals = slices.Delete(a.refusals, i, i+1)
	}
	return code
}

// arn is what AWS calls a resource of ElastiCache.
func arn(resource, id string) string {
	return fmt.Sprintf("arn:aws:elasticache:%s:%s:%s:%s", region, accountID, resource, id)
}

// Codes with a meaning of their own.
const (
	// CreateFailed lets a group's creation begin and then fail.
	CreateFailed = "create-failed"

	codeState       = "InvalidReplicationGroupState"
	codeCombination = "InvalidParameterCombination"
	codeValue       = "InvalidParameterValue"
)

// terminalCodes are those of AWS' errors after which ACK does not try again.
var terminalCodes = []string{
	"ClusterQuotaForCustomerExceeded", "NodeQuotaForClusterExceeded", "NodeQuotaForCustomerExceeded",
	"InsufficientCacheClusterCapacity", codeValue, codeCombination, "InvalidParameter", "InvalidVPCNetworkStateFault",
	"TagQuotaPerResourceExceeded", "InvalidKMSKeyFault", "NodeGroupsPerReplicationGroupQuotaExceeded",
	"CacheSubnetGroupQuotaExceeded", "CacheSubnetQuotaExceeded", "InvalidSubnet", "CacheParameterGroupQuotaExceeded",
	"UserQuotaExceeded", "DuplicateUserName", "SnapshotQuotaExceededFault", "SnapshotFeatureNotSupportedFault",
	"SecurityGroupLimitExceeded", "LimitExceeded",
}

// fault is an error of AWS.
type fault struct {
	op   Operation
	kind string
	code string
	// message is a sentence; default: a quota's.
	message string
}

func (f fault) Error() string {
	message := f.message
	if message == "" {
		message = "The request cannot be processed because AWS was told to refuse it."
	}
	if f.terminal() {
		return f.code + ": " + message
	}
	return fmt.Sprintf("operation error ElastiCache: %s%s, https response error StatusCode: 400, RequestID: %s, api error %s: %s",
		f.op, f.kind, requestID(), f.code, message)
}

// terminal tells whether ACK gives up. For user groups it looks for codes that
// AWS does not send, so there only wrong parameters are final.
func (f fault) terminal() bool {
	if f.kind == "UserGroup" {
		return f.code == codeValue || f.code == codeCombination
	}
	return slices.Contains(terminalCodes, f.code)
}

// terminal tells whether an error is one of AWS after which ACK does not try
// again.
func terminal(err error) bool {
	var f fault
	return errors.As(err, &f) && f.terminal()
}

// requestID is another one each time, as AWS' are.
func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// pending is ACK's own reason to try again after a poll.
type pending string

func (p pending) Error() string { return string(p) }
