// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/flagcache/flagcache/hack/kube/internal/gateway"
	"github.com/flagcache/flagcache/hack/kube/internal/network"
	"github.com/flagcache/flagcache/hack/kube/internal/node"
)

// Init is the first process in the namespaces of a cluster. When it exits the
// kernel kills all others, so it exits when any component does and when the process
// outside has exited.
func Init(args []string) error {
	if len(args) != 1 || os.Getpid() != 1 {
		return fmt.Errorf("%s is started by kube up only", InitProgram)
	}
	runtime.LockOSThread() // see supervisor.start
	dir := directory(args[0])
	for _, descriptor := range []int{lifelineFD, listenerFD, lockFD} {
		unix.CloseOnExec(descriptor)
	}
	go func() {
		io.Copy(io.Discard, os.NewFile(lifelineFD, "lifeline"))
		os.Exit(1)
	}()
	if err := prepareNamespaces(); err != nil {
		return refused(err)
	}
	return run(context.Background(), dir)
}

// prepareNamespaces sets up the mounts of the new namespaces.
func prepareNamespaces() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("separating the mounts: %w", err)
	}
	// The processes of this PID namespace.
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	return network.PrepareNode()
}

// run starts all components and returns when one of them exits.
func run(ctx context.Context, dir directory) error {
	options, err := dir.loadOptions()
	if err != nil {
		return err
	}
	supervisor, err := newSupervisor(dir)
	if err != nil {
		return err
	}
	port, err := net.FileListener(os.NewFile(listenerFD, "listener"))
	if err != nil {
		return fmt.Errorf("inheriting the API server's port: %w", err)
	}
	plane := controlPlane{
		supervisor: supervisor, options: options, users: newUsers(), report: newProgress(os.Stdout),
		etcd: "127.0.0.1:2379", peer: "127.0.0.1:2380", api: network.APIServer, endpoint: port.Addr().String(),
	}
	go func() { supervisor.ended <- relayAPIServer(ctx, port) }()
	if err := plane.start(ctx); err != nil {
		return err
	}
	if err := startNode(supervisor, options); err != nil {
		return err
	}
	return supervisor.wait(ctx)
}

// relayAPIServer forwards connections from the port outside to the API server.
func relayAPIServer(ctx context.Context, port net.Listener) error {
	err := gateway.Relay(ctx, port, func(ctx context.Context) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp4", network.APIServer)
	})
	return errors.Join(errors.New("the port of the API server closed"), err)
}

func startNode(s *supervisor, o options) error {
	single, err := singleUser()
	if err != nil {
		return err
	}
	config := node.Config{
		Directory:       s.dir.state("node"),
		Kubelet:         s.dir.kubelet(),
		Kubeconfig:      s.dir.client("kubelet"),
		ProxyKubeconfig: s.dir.client("proxy"),
		AdminKubeconfig: s.dir.client("admin"),
		GatewaySocket:   s.dir.gateway(),
		Images:          o.Images,
		SingleUser:      single,
	}
	path := s.dir.state("node.json")
	if err := config.Save(path); err != nil {
		return err
	}
	return s.start("kubelet", node.Program, path)
}
