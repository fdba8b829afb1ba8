// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/test/child"
	"github.com/flagcache/flagcache/test/cluster"
	"github.com/flagcache/flagcache/test/kwok"
)

const (
	imageHostile = "localhost/hostile"
	// simulatedNodes is how many nodes kwok simulates.
	simulatedNodes = 3
	// limit bounds each wait for something that takes seconds on an idle machine.
	limit = 3 * time.Minute
	// poll is the interval of waits.
	poll = 100 * time.Millisecond
)

// rig is a cluster with the operator, and with simulated nodes beside the real one.
type rig struct {
	*cluster.Cluster
	t     *testing.T
	begun time.Time
}

// log logs a message with the time since the start.
func (r *rig) log(format string, args ...any) {
	r.t.Helper()
	r.t.Logf("%4.0f s: %s", time.Since(r.begun).Seconds(), fmt.Sprintf(format, args...))
}

func startRig(t *testing.T) *rig {
	t.Helper()
	ctrl.SetLogger(logr.Discard())
	programs, err := cluster.FindPrograms()
	if err != nil {
		t.Fatalf("%v; make churn builds what the test runs", err)
	}
	if programs.Redis == "" {
		t.Fatal("redis-server is not in PATH: make redis installs it")
	}
	images := programs.Images()
	images[imageHostile] = build(t, "./hostile")
	c, err := cluster.Start(t.Context(), cluster.Options{Kube: programs.Kube, Images: images})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	r := &rig{Cluster: c, t: t, begun: time.Now()}
	r.startKwok()
	if err := c.Deploy(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.permitAnyPrometheus()
	r.exposeMetrics() // also restarts the operator
	return r
}

// permitAnyPrometheus creates the policy without which the hostile tenant could use no Prometheus
// of its own.
func (r *rig) permitAnyPrometheus() {
	r.t.Helper()
	policy := &corev1.ConfigMap{Data: map[string]string{"policy.yaml": `apiVersion: policy.flagcache.dev/v1alpha1
kind: Policy
metrics:
  prometheusAddresses: ["*"]
`}}
	policy.Namespace, policy.Name = cluster.OperatorNamespace, "flagcache-policy"
	r.create(policy)
}

// build builds a program of this repository with the settings of the Makefile.
func build(t *testing.T, source string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(source))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", path, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", source, err, output)
	}
	return path
}

func (r *rig) startKwok() {
	r.t.Helper()
	simulator, err := kwok.Find(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := simulator.Command(r.Kubeconfig(), r.t.TempDir())
	log, err := os.Create(filepath.Join(r.Dir, "logs", "kwok.log"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	process, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-process.Ended()
	})
	if err := kwok.CreateNodes(r.t.Context(), r.Client, simulatedNodes, kwok.Taint()); err != nil {
		r.t.Fatal(err)
	}
}

// exposeMetrics makes the operator serve its metrics without TLS, which also tell its goroutines
// and its heap.
func (r *rig) exposeMetrics() {
	r.t.Helper()
	patch, err := json.Marshal([]map[string]any{
		{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": fmt.Sprintf("--metrics-bind-address=:%d", metricsPort)},
		{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--metrics-secure=false"},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.do("patching the operator's Deployment", func(ctx context.Context) error {
		return r.Client.Patch(ctx, operatorDeployment(), client.RawPatch(types.JSONPatchType, patch))
	})
	if err := r.AwaitOperator(r.t.Context(), cluster.OperatorNamespace); err != nil {
		r.t.Fatal(err)
	}
}

func operatorDeployment() *appsv1.Deployment {
	d := &appsv1.Deployment{}
	d.Namespace, d.Name = cluster.OperatorNamespace, cluster.OperatorDeployment
	return d
}

// do does something, again and again while it fails: the API server may be restarting.
func (r *rig) do(what string, action func(ctx context.Context) error) {
	r.t.Helper()
	r.await(what, func(ctx context.Context) (bool, error) { return true, action(ctx) })
}

// await waits for a condition. While it returns an error, it does not hold.
func (r *rig) await(what string, condition func(ctx context.Context) (bool, error)) {
	r.t.Helper()
	if err := try(r.t.Context(), condition); err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
}

// try waits for a condition and returns its last error if it does not hold in time.
func try(ctx context.Context, condition func(ctx context.Context) (bool, error)) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, poll, limit, true, func(ctx context.Context) (bool, error) {
		var ok bool
		ok, last = condition(ctx)
		return ok && last == nil, nil
	})
	if err != nil && last != nil {
		return last
	}
	return err
}

// create creates objects. One that exists was created by a request whose response was lost.
func (r *rig) create(objects ...client.Object) {
	r.t.Helper()
	for _, o := range objects {
		r.do(fmt.Sprintf("creating %T %s", o, o.GetName()), func(ctx context.Context) error {
			if err := r.Client.Create(ctx, o); !apierrors.IsAlreadyExists(err) {
				return err
			}
			return nil
		})
	}
}

// createNamespace creates a namespace in which pods can be created.
func (r *rig) createNamespace(name string) {
	r.t.Helper()
	namespace := &corev1.Namespace{}
	namespace.Name = name
	if err := r.CreateNamespace(r.t.Context(), namespace); err != nil {
		r.t.Fatal(err)
	}
}
