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

// aProgram is a shell script that takes the place of kube up.
func aProgram(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kube")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

const works = `echo 'msg=ready part="default service account" after=0.3s'
echo 'msg="the cluster works" kubeconfig=/k'
`

func TestStartReturnsWhenTheClusterWorks(t *testing.T) {
	var told []string
	p := newProcess(func(line string) { told = append(told, line) }, aProgram(t, works+"exec sleep 60"))
	if err := p.start(t.Context()); err != nil {
		t.Fatalf("starting: %v", err)
	}
	if want := "default service account after 0.3s"; len(told) != 1 || told[0] != want {
		t.Errorf("the progress told is %q, want one line %q", told, want)
	}
	if err := p.stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
	select {
	case <-p.ended:
	default:
		t.Error("stop returned, yet the process has not ended")
	}
}

func TestStartTellsWhyTheClusterDoesNotWork(t *testing.T) {
	p := newProcess(nil, aProgram(t, "echo 'kube: no namespaces for you' >&2; exit 1"))
	err := p.start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no namespaces for you") {
		t.Errorf("the error is %v, want it to hold what kube wrote to standard error", err)
	}
	if err := p.stop(); err != nil {
		t.Errorf("stopping what has ended: %v", err)
	}
}

func TestStartTellsThatThereIsNoProgram(t *testing.T) {
	p := newProcess(nil, filepath.Join(t.TempDir(), "missing"))
	if err := p.start(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the error is %v, want one that says that the program does not exist", err)
	}
	if err := p.stop(); err != nil {
		t.Errorf("stopping what never started: %v", err)
	}
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p := newProcess(nil, aProgram(t, "exec sleep 60"))
	if err := p.start(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v, want the context's", err)
	}
	if err := p.stop(); err != nil {
		t.Errorf("stopping: %v", err)
	}
}

func TestAnEndThatNobodyAskedForIsNoticed(t *testing.T) {
	program := aProgram(t, works+`until [ -e "$0.end" ]; do sleep 0.05; done; echo 'kube: etcd ended' >&2; exit 1`)
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
		t.Fatal("the process has ended, and nobody notices")
	}
	if !strings.Contains(p.err.Error(), "etcd ended") {
		t.Errorf("the error is %v, want it to hold what kube wrote to standard error", p.err)
	}
}
