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
	// Mounts are made in order.
	Mounts []Mount
	// Args is the program with its arguments, found in the PATH of Env.
	Args []string
	// Env is the environment, as NAME=VALUE.
	Env []string
	// Directory is where the program starts; made when it is missing.
	Directory string
	// User is who the program runs as; nil leaves the ids as they are, for user
	// namespaces that have only one.
	User *User
	// KeepRights leaves the program all rights of a privileged container.
	KeepRights bool
}

// Mount is a file or directory of this machine that appears in a container.
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

// program is what the process is called until it becomes the container's.
const program = "container-stage"

// File descriptors that the stage inherits.
const (
	specFD  = 3
	errorFD = 4
)

// Launch starts the container with the given standard streams, in the namespaces
// of the calling thread where the stage makes none of its own. It returns when the
// program runs, or with what kept it from doing so. The caller waits for the
// command that it returns.
func Launch(spec Spec, enter func() error, stdin, stdout, stderr *os.File) (*exec.Cmd, error) {
	specRead, specWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	defer specRead.Close()
	defer specWrite.Close()
	errorRead, errorWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
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
		return fmt.Errorf("telling the container's first process what to do: %w", sent)
	}
	return nil
}

// OnOwnThread runs what changes the thread it runs on, such as its namespaces,
// on a thread of its own, which ends with it.
func OnOwnThread(run func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		result <- run()
	}()
	return <-result
}
