// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package rights

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// Account is the name of the operator's ServiceAccount.
const Account = "flagcache-controller-manager"

// decision is the annotation of the API server's authorization.
const decision = "authorization.k8s.io/decision"

// Record is what an audit log has of the operator.
type Record struct {
	// Calls are those that were permitted.
	Calls Set
	// Denied are those that were not.
	Denied Set
}

// ReadAudit reads the audit log of an API server. An operator in namespace is the one of
// config/default, one in another namespace that of config/namespaced. Requests that are
// about no resource, such as discovery, are left out: every user may send those.
func ReadAudit(log io.Reader, namespace string) (Record, error) {
	record := Record{Calls: Set{}, Denied: Set{}}
	decoder := json.NewDecoder(log)
	for {
		var event auditv1.Event
		err := decoder.Decode(&event)
		// The API server may be writing the last line.
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return record, nil
		}
		if err != nil {
			return Record{}, fmt.Errorf("decoding the audit log: %w", err)
		}
		record.add(event, namespace)
	}
}

func (r Record) add(event auditv1.Event, namespace string) {
	own, ok := strings.CutPrefix(event.User.Username, "system:serviceaccount:")
	own, account, _ := strings.Cut(own, ":")
	if !ok || account != Account || event.ObjectRef == nil {
		return
	}
	call := Call{Install: Default, Scope: Other, Verb: event.Verb, Group: event.ObjectRef.APIGroup, Resource: event.ObjectRef.Resource}
	if own != namespace {
		call.Install = Namespaced
	}
	switch event.ObjectRef.Namespace {
	case "":
		call.Scope = All
	case own:
		call.Scope = Own
	}
	if event.ObjectRef.Subresource != "" {
		call.Resource += "/" + event.ObjectRef.Subresource
	}
	if event.Annotations[decision] != "allow" {
		r.Denied[call] = true
		return
	}
	r.Calls[call] = true
	// A patch that creates an object is authorized a second time, without a record.
	if event.Verb == "patch" && event.ResponseStatus != nil && event.ResponseStatus.Code == http.StatusCreated {
		call.Verb = "create"
		r.Calls[call] = true
	}
}
