// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command kube is a complete Kubernetes in one executable: etcd, the control
// plane, kubectl, and a node whose pods are processes of this machine. README.md
// describes its features and limitations.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/flagcache/flagcache/hack/kube/internal/cluster"
	"github.com/flagcache/flagcache/hack/kube/internal/node"
	_ "github.com/flagcache/flagcache/hack/kube/internal/stage" // takes over if the process is to become a container
)

// programs are the commands of this executable. A command is selected by the base name
// under which the executable was started, so a link called etcd runs etcd, or else by the
// first argument.
var programs = map[string]func(){
	"etcd":                    etcd,
	"kube-apiserver":          apiServer,
	"kube-controller-manager": controllerManager,
	"kube-scheduler":          scheduler,
	"kubelet":                 kubelet,
	"kubectl":                 kubectl,
	"up":                      command(cluster.Up),
	"down":                    command(cluster.Down),
	"forward":                 command(cluster.Forward),
	"assets":                  command(cluster.Assets),
	cluster.InitProgram:       command(cluster.Init),
	node.Program:              command(node.Main),
}

func main() {
	if run, ok := programs[filepath.Base(os.Args[0])]; ok {
		run()
		return
	}
	if len(os.Args) < 2 {
		fail(usage())
	}
	run, ok := programs[os.Args[1]]
	if !ok {
		fail(fmt.Errorf("%q is not a command of kube\n%w", os.Args[1], usage()))
	}
	os.Args = os.Args[1:]
	run()
}

// command adapts a function that takes arguments and returns an error to a command.
func command(run func(args []string) error) func() {
	return func() {
		if err := run(os.Args[1:]); err != nil {
			fail(err)
		}
	}
}

func usage() error {
	var names []string
	for name := range programs {
		names = append(names, name)
	}
	sort.Strings(names)
	return fmt.Errorf("usage: kube COMMAND [ARGUMENT ...], where COMMAND is one of: %s", strings.Join(names, ", "))
}

func fail(err error) {
	fmt.Fprintf(os.Stderr, "kube: %v\n", err)
	os.Exit(1)
}
