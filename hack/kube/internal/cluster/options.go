// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/flagcache/flagcache/hack/kube/internal/node"
)

// options are the options of a cluster.
type options struct {
	// Name is the name of the cluster and the context in the kubeconfig.
	Name string
	// Images maps image repositories to executables on this machine.
	Images node.Images
	// NoNode starts the control plane only, which needs no namespaces.
	NoNode bool
}

// upArguments are the arguments of "kube up".
type upArguments struct {
	options
	dir    directory
	detach bool
}

func parseUp(args []string) (upArguments, error) {
	parsed := upArguments{options: options{Images: node.Images{}}}
	var dir string
	flags := flag.NewFlagSet("kube up", flag.ContinueOnError)
	flags.StringVar(&dir, "dir", "", "directory that holds the cluster; made when it is missing")
	flags.StringVar(&parsed.Name, "name", "kube", "name of the cluster in its kubeconfig")
	flags.BoolVar(&parsed.detach, "detach", false, "return when the cluster works and leave it running")
	flags.BoolVar(&parsed.NoNode, "no-node", false, "start the control plane only: pods are accepted and never run")
	flags.Func("image", "`REPOSITORY=EXECUTABLE`: run this executable for the image; may be repeated", parsed.addImage)
	if err := flags.Parse(args); err != nil {
		return parsed, errors.New("usage: kube up --dir DIR [--image REPOSITORY=EXECUTABLE ...] [--detach] [--no-node] [--name NAME]")
	}
	if flags.NArg() > 0 {
		return parsed, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	var err error
	parsed.dir, err = openDirectory(dir)
	return parsed, err
}

// addImage parses REPOSITORY=EXECUTABLE. The executable may be a path or a name in PATH.
func (a *upArguments) addImage(value string) error {
	repository, executable, ok := strings.Cut(value, "=")
	if !ok || repository == "" || executable == "" {
		return fmt.Errorf("expected REPOSITORY=EXECUTABLE, got %q", value)
	}
	path, err := exec.LookPath(executable)
	if err != nil {
		return fmt.Errorf("image %s: %w", repository, err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return fmt.Errorf("image %s: %w", repository, err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return fmt.Errorf("image %s: %w", repository, err)
	}
	// The container keeps the name before links are resolved, because multi-call
	// programs depend on it.
	a.Images[repository] = node.Executable{Path: path, Name: filepath.Base(executable)}
	return nil
}

// parseDir parses the arguments of a command whose only flag is --dir, and returns the
// other arguments.
func parseDir(command string, args []string) (directory, []string, error) {
	var dir string
	flags := flag.NewFlagSet("kube "+command, flag.ContinueOnError)
	flags.SetOutput(os.Stderr)
	flags.StringVar(&dir, "dir", "", "directory that holds the cluster")
	if err := flags.Parse(args); err != nil {
		return "", nil, fmt.Errorf("usage: kube %s --dir DIR", command)
	}
	d, err := openDirectory(dir)
	return d, flags.Args(), err
}
