// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// Up is "kube up": it starts a cluster and runs until it is stopped by a signal or,
// with --detach, returns when the cluster is ready.
func Up(args []string) error {
	arguments, err := parseUp(args)
	if err != nil {
		return err
	}
	if arguments.detach {
		return detach(arguments, args)
	}
	// The components are killed when the thread that started them ends, so that must
	// be a thread that does not end before the program.
	runtime.LockOSThread()
	keepReadyDescriptor()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return keep(ctx, arguments)
}

// keep runs the cluster until the context ends, or returns an error when a component
// fails.
func keep(ctx context.Context, a upArguments) error {
	lock, err := a.dir.lock()
	if errors.Is(err, errLocked) {
		return fmt.Errorf("%s: %w; stop it with: kube down --dir %s", a.dir, err, a.dir)
	}
	if err != nil {
		return err
	}
	// The lock is held until this process exits.
	defer runtime.KeepAlive(lock)
	if err := a.dir.clear(); err != nil {
		return err
	}
	if err := a.dir.saveOptions(a.options); err != nil {
		return err
	}
	if err := a.dir.writePID(); err != nil {
		return err
	}
	defer os.Remove(a.dir.pid())
	report := newProgress(os.Stdout)
	if a.NoNode {
		return keepControlPlane(ctx, a, report)
	}
	return keepNamespaces(ctx, a, lock, report)
}

// keepControlPlane runs the control plane as children of this process, on ports
// that the kernel assigns.
func keepControlPlane(ctx context.Context, a upArguments, report progress) error {
	supervisor, err := newSupervisor(a.dir)
	if err != nil {
		return err
	}
	defer supervisor.kill()
	addresses, err := freeAddresses(3)
	if err != nil {
		return err
	}
	plane := controlPlane{
		supervisor: supervisor, options: a.options, users: newUsers(), report: report,
		etcd: addresses[0], peer: addresses[1], api: addresses[2], endpoint: addresses[2],
	}
	if err := plane.start(ctx); err != nil {
		return unlessDone(ctx, err)
	}
	working := make(chan error, 1)
	go func() { working <- announceWhenWorking(ctx, a, report) }()
	select {
	case err := <-working:
		if err != nil {
			return unlessDone(ctx, err)
		}
	case err := <-supervisor.ended:
		return err
	}
	return supervisor.wait(ctx)
}

// unlessDone drops an error that is a consequence of stopping the cluster.
func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// announceWhenWorking waits until the cluster is ready, and reports it.
func announceWhenWorking(ctx context.Context, a upArguments, report progress) error {
	if err := waitUntilWorking(ctx, a.dir, !a.NoNode, report); err != nil {
		return err
	}
	report.log.Info("the cluster works", "kubeconfig", a.dir.kubeconfig())
	return notifyParent(a.dir)
}

// freeAddresses returns n loopback addresses whose ports were free a moment ago. Because
// of the order in which the kernel assigns ports, another program is unlikely to take
// one before it is used.
func freeAddresses(n int) ([]string, error) {
	var addresses []string
	for range n {
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("finding a free port: %w", err)
		}
		defer listener.Close()
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses, nil
}
