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
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// InitProgram is the part of kube that is the first process in a cluster's
// namespaces.
const InitProgram = "cluster-init"

// nonroot is the user ID of all programs in the cluster's user namespace, which can have
// only one ID. It is not 0, so that programs with runAsNonRoot can run.
const nonroot = 65532

// The file descriptors that the init process inherits.
const (
	lifelineFD = 3 + iota // ends when the process outside does
	listenerFD            // the API server's port on the machine's loopback address
	lockFD                // keeps the directory locked while the namespaces exist
)

// errRefused means that the system does not allow this user to create namespaces.
var errRefused = errors.New("this system does not allow this user to create namespaces for a cluster: " +
	"run as root, or allow unprivileged user namespaces (on Ubuntu: " +
	"sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; elsewhere: " +
	"sudo sysctl -w user.max_user_namespaces=100000 and, on Debian, kernel.unprivileged_userns_clone=1; " +
	"in a container: start it privileged), or point KUBECONFIG at another cluster, such as one made with kind")

// keepNamespaces runs the cluster in its own namespaces.
func keepNamespaces(ctx context.Context, a upArguments, lock *os.File, report progress) error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("opening a port for the API server: %w", err)
	}
	defer listener.Close()
	lifeline, held, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("creating a pipe: %w", err)
	}
	defer lifeline.Close()
	defer held.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return fmt.Errorf("passing the API server's port: %w", err)
	}
	defer file.Close()
	cmd, err := initCommand(a.dir, lifeline, file, lock)
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return refused(err)
	}
	return follow(ctx, a, cmd, report)
}

// follow waits until the init process exits, and with it all processes in its
// namespaces, and kills it when the context ends.
func follow(ctx context.Context, a upArguments, cmd *exec.Cmd, report progress) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	working := make(chan error, 1)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go func() { working <- announceWhenWorking(watching, a, report) }()
	for {
		select {
		case err := <-ended:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("the cluster in %s ended: %s", a.dir, describeExit(err))
		case err := <-working:
			working = nil
			if err != nil && ctx.Err() == nil {
				cmd.Process.Kill()
				<-ended
				return err
			}
		case <-ctx.Done():
			cmd.Process.Kill()
			<-ended
			return nil
		}
	}
}

// initCommand returns the command that creates the namespaces and runs Init in them. Root
// needs no user namespace unless it lacks the capability to mount.
func initCommand(dir directory, files ...*os.File) (*exec.Cmd, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding the executable: %w", err)
	}
	cmd := exec.Command(executable, string(dir))
	cmd.Args[0] = InitProgram
	// Writers other than files are connected through pipes, so that the processes in
	// the namespaces do not keep our terminal open.
	cmd.Stdout, cmd.Stderr = struct{ io.Writer }{os.Stdout}, struct{ io.Writer }{os.Stderr}
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, Pdeathsig: syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	if !mayMount() {
		useUserNamespace(cmd.SysProcAttr)
	}
	return cmd, nil
}

// useUserNamespace gives the process a user namespace in which it has all capabilities
// although its user ID is not 0.
func useUserNamespace(attributes *syscall.SysProcAttr) {
	attributes.Cloneflags |= syscall.CLONE_NEWUSER
	attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: nonroot, HostID: os.Geteuid(), Size: 1}}
	attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: nonroot, HostID: os.Getegid(), Size: 1}}
	for capability := uintptr(0); capability <= unix.CAP_LAST_CAP; capability++ {
		// All capabilities of this kernel, whether this process has them or not.
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, capability, 0, 0, 0); err == nil {
			attributes.AmbientCaps = append(attributes.AmbientCaps, capability)
		}
	}
}

// mayMount reports whether this process can create namespaces without a user
// namespace.
func mayMount() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	has := func(capability uint) bool {
		return data[capability/32].Effective&(1<<(capability%32)) != 0
	}
	return os.Geteuid() == 0 && has(unix.CAP_SYS_ADMIN) && has(unix.CAP_NET_ADMIN) && has(unix.CAP_SETUID)
}

// refused adds a hint to errors that mean that namespaces are not allowed.
func refused(err error) error {
	for _, denial := range []error{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EUSERS} {
		if errors.Is(err, denial) {
			return fmt.Errorf("%w (%v)", errRefused, err)
		}
	}
	return fmt.Errorf("starting the cluster in namespaces: %w", err)
}

// singleUser reports whether only one user ID exists in the current user namespace.
func singleUser() (bool, error) {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false, fmt.Errorf("reading the map of user IDs: %w", err)
	}
	fields := strings.Fields(string(text))
	return len(fields) == 3 && fields[2] == "1", nil
}
