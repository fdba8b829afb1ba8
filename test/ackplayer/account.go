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

	"github.com/go-logr/logr"
)

// The simulated AWS account.
const (
	accountID = "123456789012"
	region    = "eu-west-1"
)

// Operation is a kind of AWS API call that Refuse can fail.
type Operation string

// The operations.
const (
	Create Operation = "Create"
	Modify Operation = "Modify"
	Delete Operation = "Delete"
)

// account is the state of AWS, kept in memory while the player runs.
type account struct {
	options Options
	log     logr.Logger
	ca      *certificateAuthority
	dir     string

	// ctx ends when the player stops; background counts the goroutines that run
	// beside the controllers.
	ctx        context.Context
	cancel     context.CancelFunc
	background sync.WaitGroup

	mu     sync.Mutex
	groups map[string]*group
	// resources are keyed by kind and ID.
	resources map[string]map[string]*resource
	refusals  []refusal
	calls     []Call
}

// Call is a mutating call to the AWS API.
type Call struct {
	Operation Operation
	// Kind is the kind of the ACK resource, ID its identifier in AWS.
	Kind, ID string
}

// refusal makes the next calls of an operation on an ID fail.
type refusal struct {
	operation Operation
	id, code  string
	times     int
}

func newAccount(o Options, a *certificateAuthority) *account {
	account := &account{options: o, log: o.Log, ca: a, groups: map[string]*group{}, resources: map[string]map[string]*resource{}}
	account.ctx, account.cancel = context.WithCancel(context.Background())
	// Every AWS account has a user named default.
	account.resources["User"] = map[string]*resource{"default": {spec: map[string]any{
		"userID": "default", "userName": "default", "engine": "redis", "accessString": "on ~* &* +@all", "noPasswordRequired": true,
	}}}
	return account
}

// open creates the directory for the servers' files.
func (a *account) open() error {
	var err error
	if a.dir, err = os.MkdirTemp("", "ackplayer-"); err != nil {
		return fmt.Errorf("creating a directory: %w", err)
	}
	return a.ca.write(a.dir)
}

// close stops all servers and waits until everything is cleaned up.
func (a *account) close() {
	a.cancel()
	a.background.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range a.groups {
		g.fleet.stop()
	}
	_ = os.RemoveAll(a.dir)
}

// call records a mutating AWS call and fails it if Refuse said so.
func (a *account) call(ctx context.Context, op Operation, kind, id string) error {
	code := a.record(op, kind, id)
	switch code {
	case "":
		return nil
	case "Throttling":
		// The SDK makes three attempts, which block the kind's only worker.
		_ = sleep(ctx, a.options.Poll/6) // the call fails anyway
	}
	return awsError{op: op, kind: kind, code: code}
}

// record stores a call and returns the error code to fail it with, or "".
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

// arn is the ARN of an ElastiCache resource.
func arn(resource, id string) string {
	return fmt.Sprintf("arn:aws:elasticache:%s:%s:%s:%s", region, accountID, resource, id)
}

// Error codes that the player treats specially.
const (
	// CreateFailed accepts the call that creates a group and then fails its creation.
	CreateFailed = "create-failed"

	codeState       = "InvalidReplicationGroupState"
	codeCombination = "InvalidParameterCombination"
	codeValue       = "InvalidParameterValue"
)

// terminalCodes are the AWS error codes on which ACK sets ACK.Terminal.
var terminalCodes = []string{
	"ClusterQuotaForCustomerExceeded", "NodeQuotaForClusterExceeded", "NodeQuotaForCustomerExceeded",
	"InsufficientCacheClusterCapacity", codeValue, codeCombination, "InvalidParameter", "InvalidVPCNetworkStateFault",
	"TagQuotaPerResourceExceeded", "InvalidKMSKeyFault", "NodeGroupsPerReplicationGroupQuotaExceeded",
	"CacheSubnetGroupQuotaExceeded", "CacheSubnetQuotaExceeded", "InvalidSubnet", "CacheParameterGroupQuotaExceeded",
	"UserQuotaExceeded", "DuplicateUserName", "SnapshotQuotaExceededFault", "SnapshotFeatureNotSupportedFault",
	"SecurityGroupLimitExceeded", "LimitExceeded",
}

// awsError is an error of the AWS API.
type awsError struct {
	op   Operation
	kind string
	code string
	// message is the text of the error; it has a default.
	message string
}

func (f awsError) Error() string {
	message := f.message
	if message == "" {
		message = "The request cannot be processed."
	}
	if f.terminal() {
		return f.code + ": " + message
	}
	return fmt.Sprintf("operation error ElastiCache: %s%s, https response error StatusCode: 400, RequestID: %s, api error %s: %s",
		f.op, f.kind, requestID(), f.code, message)
}

// terminal reports whether ACK stops retrying. For user groups it checks for codes
// that AWS does not send, so that only wrong parameters are terminal there.
func (f awsError) terminal() bool {
	if f.kind == "UserGroup" {
		return f.code == codeValue || f.code == codeCombination
	}
	return slices.Contains(terminalCodes, f.code)
}

// terminal reports whether err is an AWS error on which ACK stops retrying.
func terminal(err error) bool {
	var f awsError
	return errors.As(err, &f) && f.terminal()
}

// requestID returns a new request ID, in the format of AWS.
func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// requeueError makes ACK retry after its poll interval; it is no error of AWS.
type requeueError string

func (p requeueError) Error() string { return string(p) }
