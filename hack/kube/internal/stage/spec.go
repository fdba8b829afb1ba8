// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// Spec is the specification of a container.
type Spec struct {
	// Root is an empty directory. The container's file system is mounted there.
	Root string
	// ReadOnlyRoot makes the root file system read-only once it is built.
	ReadOnlyRoot bool
	// Hostname is the host name inside.
	Hostname string
	// Files are contents of small files by their path.
	Files map[string]string
	// Links are targets of symbolic links by their path.
	Links map[string]string
	// Mounts are mounted in order.
	Mounts []Mount
	// Args is the program with its arguments, found in the PATH of Env.
	Args []string
	// Env is the environment, as NAME=VALUE.
	Env []string
	// Directory is the working directory, which is created if it does not exist.
	Directory string
	// User is the user to run the program as; nil keeps the current IDs, for user
	// namespaces with a single user.
	User *User
	// KeepRights keeps the privileges of a privileged container.
	KeepRights bool
}

// Mount is a file or directory of this machine that is mounted in a container.
type Mount struct {
	Source   string
	Target   string
	ReadOnly bool

	tree int // the open mount, in the stage
}

// User is the identity of a process.
type User struct {
	UID, GID int
	Groups   []int
}

// program is the name of the process until it executes the container's program.
const program = "container-stage"

// File descriptors that the stage inherits.
const (
	specFD  = 3
	errorFD = 4
)

// Launch starts the container with the given standard streams, in the network and user
// namespaces of the calling thread. It returns when the program runs, or with the error
// that prevented it. The caller waits for the returned command.
func Launch(spec Spec, enter func() error, stdin, stdout, stderr *os.File) (*exec.Cmd, error) {
	specRead, specWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("creating a pipe: %w", err)
	}
	defer specRead.Close()
	defer specWrite.Close()
	errorRead, errorWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("creating a pipe: %w", err)
	}
	defer errorRead.Close()
	defer errorWrite.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = program
	cmd.Env = []string{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	cmd.ExtraFiles = []*os.File{specRead, errorWrite}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	}
	if err := OnOwnThread(func() error {
		if err := enter(); err != nil {
			return err
		}
		return cmd.Start()
	}); err != nil {
		return nil, fmt.Errorf("starting the container's first process: %w", err)
	}
	specRead.Close()
	errorWrite.Close()
	if err := send(spec, specWrite, errorRead); err != nil {
		cmd.Wait()
		return nil, err
	}
	return cmd, nil
}

// send sends the spec and returns the error that the stage reports. The stage's end
// of the error pipe closes when the program takes over.
func send(spec Spec, to io.WriteCloser, from io.Reader) error {
	sent := json.NewEncoder(to).Encode(spec)
	to.Close()
	text, err := io.ReadAll(from)
	if err != nil {
		return fmt.Errorf("reading the container's state: %w", err)
	}
	if len(text) > 0 {
		return errors.New(string(text))
	}
	if sent != nil {
		return fmt.Errorf("sending the specification to the container's first process: %w", sent)
	}
	return nil
}

// OnOwnThread runs a function that changes its thread, such as its namespaces, on a
// new thread, which ends with it.
func OnOwnThread(run func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		result <- run()
	}()
	return <-result
}
