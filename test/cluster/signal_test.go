// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

func TestDescendantsIncludeAllGenerations(t *testing.T) {
	all := processes{
		1:  {parent: 0, program: "init"},
		10: {parent: 1, program: "kube"},
		11: {parent: 10, program: "node"},
		12: {parent: 11, program: "manager"},
		20: {parent: 1, program: "manager"},
	}
	got := all.descendants(10)
	slices.Sort(got)
	if want := []int{11, 12}; !slices.Equal(got, want) {
		t.Errorf("the descendants of 10 are %v, want %v", got, want)
	}
}

func TestSignalSparesProcessesOutsideCluster(t *testing.T) {
	p := newProcess(nil, fakeKube(t, reportReady+"exec sleep 60"))
	if err := p.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	c := &Cluster{process: p}
	if err := c.Signal("no-such-program", syscall.SIGKILL); err == nil {
		t.Error("sending a signal to a program that is not running succeeded")
	}
	if err := (&Cluster{process: p}).Signal("init", syscall.SIGKILL); err == nil {
		t.Error("a process outside the cluster received a signal")
	}
}

func TestSignalReachesProgramInCluster(t *testing.T) {
	p := newProcess(nil, fakeKube(t, reportReady+"sleep 61 >/dev/null; echo 'kube: sleep ended' >&2; exit 1"))
	if err := p.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := &Cluster{process: p}
	// The shell may not have started sleep yet.
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) {
		return c.Signal("sleep", syscall.SIGKILL) == nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	<-p.ended
	if p.err == nil {
		t.Error("the shell did not exit")
	}
}

// The components of the control plane are one file that is started by several names.
func TestProcessesAreFoundByTheNameThatTheyWereStartedAs(t *testing.T) {
	p := newProcess(nil, fakeKube(t, reportReady+"bash -c 'exec -a /other/name sleep 62' >/dev/null; exit 1"))
	if err := p.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := &Cluster{process: p}
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 10*time.Second, true, func(context.Context) (bool, error) {
		return c.Signal("name", syscall.SIGKILL) == nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	<-p.ended
}
