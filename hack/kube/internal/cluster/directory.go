// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// directory is the directory of a cluster:
//
//	DIR/kubeconfig  cluster admin, for users
//	DIR/pid         process to signal to end the cluster
//	DIR/lock        locked while any process of the cluster is alive
//	DIR/net.sock    proxy into the cluster's network
//	DIR/logs        a file per component
//	DIR/kubelet     volumes of pods and sockets of the kubelet
//	DIR/state       everything else
//
// All of it is recreated by each start.
type directory string

func (d directory) kubeconfig() string      { return filepath.Join(string(d), "kubeconfig") }
func (d directory) pid() string             { return filepath.Join(string(d), "pid") }
func (d directory) lockFile() string        { return filepath.Join(string(d), "lock") }
func (d directory) gateway() string         { return filepath.Join(string(d), "net.sock") }
func (d directory) kubelet() string         { return filepath.Join(string(d), "kubelet") }
func (d directory) log(part string) string  { return filepath.Join(string(d), "logs", part+".log") }
func (d directory) state(of string) string  { return filepath.Join(string(d), "state", of) }
func (d directory) client(of string) string { return d.state(of + ".kubeconfig") }
func (d directory) configuration() string   { return d.state("cluster.json") }

// errLocked means that a process of the cluster is alive.
var errLocked = errors.New("a cluster is running in this directory")

// openDirectory returns the directory at path as an absolute path, because the
// components of a cluster have other working directories.
func openDirectory(path string) (directory, error) {
	if path == "" {
		return "", errors.New("--dir is required: the directory of the cluster")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("finding the cluster's directory: %w", err)
	}
	d := directory(path)
	// The kubelet exits if it cannot open this one.
	longest := filepath.Join(d.kubelet(), "pod-resources/kubelet.sock")
	if room := maxSocketPath - (len(longest) - len(path)); len(path) > room {
		return "", fmt.Errorf("the path %s is too long for the cluster's Unix sockets: choose a --dir of at most %d bytes", path, room)
	}
	return d, nil
}

// maxSocketPath is the length of sun_path without the terminating zero.
const maxSocketPath = 107

// lock takes the directory for one cluster. The lock is a property of the open
// file: processes that inherit it hold it, so it is released when the last one exits.
func (d directory) lock() (*os.File, error) {
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		return nil, fmt.Errorf("creating the cluster's directory: %w", err)
	}
	file, err := os.OpenFile(d.lockFile(), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the cluster's lock: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("locking %s: %w", d.lockFile(), err)
	}
	return file, nil
}

// clear removes the files of an earlier cluster and creates empty directories for a new
// one.
func (d directory) clear() error {
	for _, path := range []string{d.kubeconfig(), d.pid(), d.gateway(), d.kubelet(), d.state(""), filepath.Dir(d.log(""))} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("removing the state of an earlier cluster: %w", err)
		}
	}
	for _, path := range []string{filepath.Dir(d.log("")), d.state("")} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("creating the cluster's directories: %w", err)
		}
	}
	return nil
}

// runningPID returns the PID of the process to signal, 0 if there is none.
func (d directory) runningPID() (int, error) {
	text, err := os.ReadFile(d.pid())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the cluster's process id: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("reading the cluster's process id from %s: %w", d.pid(), err)
	}
	return pid, nil
}

func (d directory) writePID() error {
	if err := os.WriteFile(d.pid(), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return fmt.Errorf("writing the cluster's process id: %w", err)
	}
	return nil
}

// saveOptions saves the options for the processes of the cluster.
func (d directory) saveOptions(o options) error {
	text, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the cluster's options: %w", err)
	}
	if err := os.WriteFile(d.configuration(), text, 0o644); err != nil {
		return fmt.Errorf("saving the cluster's options: %w", err)
	}
	return nil
}

func (d directory) loadOptions() (options, error) {
	text, err := os.ReadFile(d.configuration())
	if err != nil {
		return options{}, fmt.Errorf("reading the cluster's options: %w", err)
	}
	var o options
	if err := json.Unmarshal(text, &o); err != nil {
		return options{}, fmt.Errorf("decoding the cluster's options: %w", err)
	}
	return o, nil
}
