// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package kwok simulates nodes and their pods with kwok, for benchmarks and tests with more
// pods than a machine can run. Simulated pods become ready and end like others, but there
// are no processes behind them.
package kwok

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/test/programs"
)

// The annotation of nodes that kwok manages, by its own convention.
const (
	nodeAnnotation = "kwok.x-k8s.io/node"
	nodeFake       = "fake"
)

// manageLimit bounds the time until kwok manages a new node.
const manageLimit = 3 * time.Minute

// Simulator is an installation of kwok.
type Simulator struct {
	program string
	// configs are the files of the stages that nodes and pods go through.
	configs []string
}

// Find finds kwok: at the path in the environment variable KWOK, which make sets, or else in
// bin; and its stages in its module.
func Find(ctx context.Context) (Simulator, error) {
	program, err := programs.Find("KWOK", "kwok")
	if err != nil {
		return Simulator{}, fmt.Errorf("%w: run make kwok", err)
	}
	module, err := programs.Module(ctx, "hack/tools/kwok", "sigs.k8s.io/kwok")
	if err != nil {
		return Simulator{}, err
	}
	s := Simulator{program: program}
	// Without leases, the nodes would soon be considered dead and their pods deleted.
	for _, stages := range []string{"node/fast", "node/heartbeat-with-lease", "pod/fast"} {
		dir := filepath.Join(module, "kustomize", "stage", stages)
		files, err := filepath.Glob(filepath.Join(dir, "*-*.yaml"))
		if err == nil && len(files) == 0 {
			err = errors.New("there are none")
		}
		if err != nil {
			return Simulator{}, fmt.Errorf("finding kwok's stages in %s: %w", dir, err)
		}
		s.configs = append(s.configs, files...)
	}
	return s, nil
}

// Command returns the command that simulates the nodes of CreateNodes. Home is a directory
// without a configuration of kwok.
func (s Simulator) Command(kubeconfig, home string) *exec.Cmd {
	cmd := exec.Command(s.program, "--kubeconfig", kubeconfig, "--node-lease-duration-seconds", "20", "--node-port", "0",
		"--manage-nodes-with-annotation-selector", nodeAnnotation+"="+nodeFake)
	for _, file := range s.configs {
		cmd.Args = append(cmd.Args, "--config", file)
	}
	cmd.Env = append(os.Environ(), "HOME="+home)
	return cmd
}

// CreateNodes creates n nodes, each in a zone of its own, and waits until a running Command
// manages them. Only pods that tolerate the taints are scheduled to them.
func CreateNodes(ctx context.Context, c client.Client, n int, taints ...corev1.Taint) error {
	for i := range n {
		name := fmt.Sprintf("simulated-%d", i)
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{
				Name:        name,
				Annotations: map[string]string{nodeAnnotation: nodeFake},
				Labels:      map[string]string{corev1.LabelHostname: name, corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", i), LabelSimulated: "true"},
			},
			Spec: corev1.NodeSpec{Taints: taints},
		}
		if err := c.Create(ctx, node); err != nil {
			return fmt.Errorf("creating a node: %w", err)
		}
		err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, manageLimit, true, func(ctx context.Context) (bool, error) {
			err := c.Get(ctx, client.ObjectKeyFromObject(node), node)
			return node.Status.Phase == corev1.NodeRunning, err
		})
		if err != nil {
			return fmt.Errorf("waiting for kwok to manage node %s: %w", name, err)
		}
	}
	return nil
}

// LabelSimulated is the label of simulated nodes, with the value "true".
const LabelSimulated = "flagcache-test/simulated"

// Taint keeps pods off simulated nodes, for clusters that also have real ones.
func Taint() corev1.Taint {
	return corev1.Taint{Key: LabelSimulated, Value: "true", Effect: corev1.TaintEffectNoSchedule}
}
