// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/flagcache/flagcache/test/cluster"
	"github.com/flagcache/flagcache/test/rights"
)

// writes counts the operator's writes.
type writes struct {
	// ConfigMaps, Status and Events are those of the published flags, of the status of
	// FlagCaches, and Events; Other are all others.
	ConfigMaps, Status, Events, Other int
}

// countWrites counts what the operator wrote in a namespace in a period, by the audit log
// of a cluster in dir.
func countWrites(dir, namespace string, from, to time.Time) (writes, error) {
	var all writes
	logs, err := filepath.Glob(filepath.Join(dir, "logs", "audit*.log"))
	if err != nil || len(logs) == 0 {
		return all, errors.Join(err, errors.New("the cluster has no audit log"))
	}
	for _, path := range logs {
		file, err := os.Open(path)
		if err != nil {
			return all, fmt.Errorf("reading the audit log: %w", err)
		}
		err = all.read(file, namespace, from, to)
		if err = errors.Join(err, file.Close()); err != nil {
			return all, fmt.Errorf("reading the audit log: %w", err)
		}
	}
	return all, nil
}

func (w *writes) read(log io.Reader, namespace string, from, to time.Time) error {
	decoder := json.NewDecoder(log)
	for {
		var event auditv1.Event
		err := decoder.Decode(&event)
		// The API server may be writing the last line.
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if at := event.RequestReceivedTimestamp.Time; at.After(from) && at.Before(to) {
			w.add(event, namespace)
		}
	}
}

func (w *writes) add(event auditv1.Event, namespace string) {
	const operator = "system:serviceaccount:" + cluster.OperatorNamespace + ":" + rights.Account
	object := event.ObjectRef
	if event.User.Username != operator || object == nil || object.Namespace != namespace ||
		!slices.Contains([]string{"create", "update", "patch", "delete"}, event.Verb) {
		return
	}
	switch {
	case object.Resource == "configmaps":
		w.ConfigMaps++
	case object.Resource == "events":
		w.Events++
	case object.Subresource == "status":
		w.Status++
	default:
		w.Other++
	}
}
