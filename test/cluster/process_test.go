// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeKube writes a shell script that replaces `kube up`.
func fakeKube(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kube")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

const reportReady = `echo 'msg=ready part="default service account" after=0.3s'
echo 'msg="the cluster works" kubeconfig=/k'
`

func TestStartWaitsUntilReady(t *testing.T) {
	var reported []string
	p := newProcess(func(line string) { reported = append(reported, line) }, fakeKube(t, reportReady+"exec sleep 60"))
	if err := p.start(t.Context()); err != nil {
		t.Fatalf("starting: %v", err)
	}
	if want := "default service account ready after 0.3s"; len(reported) != 1 || reported[0] != want {
		t.Errorf("the reported progress is %q, want the line %q", reported, want)
	}
	if err := p.stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
	select {
	case <-p.ended:
	default:
		t.Error("stop returned before the process ended")
	}
}

func TestStartReportsStandardError(t *testing.T) {
	p := newProcess(nil, fakeKube(t, "echo 'kube: no namespaces for you' >&2; exit 1"))
	err := p.start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no namespaces for you") {
		t.Errorf("the error is %v, want it to contain the standard error", err)
	}
	if err := p.stop(); err != nil {
		t.Errorf("stopping an ended process: %v", err)
	}
}

func TestStartReportsMissingProgram(t *testing.T) {
	p := newProcess(nil, filepath.Join(t.TempDir(), "missing"))
	if err := p.start(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error is %v, want that the program does not exist", err)
	}
	if err := p.stop(); err != nil {
		t.Errorf("stopping a process that never started: %v", err)
	}
}

func TestStartEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p := newProcess(nil, fakeKube(t, "exec sleep 60"))
	if err := p.start(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v, want the context's", err)
	}
	if err := p.stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
}

func TestUnexpectedEndIsReported(t *testing.T) {
	program := fakeKube(t, reportReady+`until [ -e "$0.end" ]; do sleep 0.05; done; echo 'kube: etcd ended' >&2; exit 1`)
	p := newProcess(nil, program)
	if err := p.start(t.Context()); err != nil {
		t.Fatalf("starting: %v", err)
	}
	if err := os.WriteFile(program+".end", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the end of the process was not reported")
	}
	if !strings.Contains(p.err.Error(), "etcd ended") {
		t.Errorf("the error is %v, want it to contain the standard error", p.err)
	}
}
