// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
)

// Options configure a cluster.
type Options struct {
	// Kube is the executable of hack/kube.
	Kube string
	// Dir is the directory for the cluster's files: an absolute path that is short enough
	// for Unix sockets. Default for Start: a temporary directory that is removed with the
	// cluster.
	Dir string
	// Images maps image repositories to executables on this machine.
	Images map[string]string
	// ControlPlaneOnly starts no node: pods are accepted but never run.
	ControlPlaneOnly bool
	// Progress receives a line for each component that becomes ready. Default: none.
	Progress func(line string)
}

// Cluster is a running cluster, accessed as its administrator.
type Cluster struct {
	// Client reads and writes without a cache.
	Client client.WithWatch
	// Config is the configuration of Client.
	Config *rest.Config
	// Dir is the directory of the cluster's files: kubeconfig, net.sock and logs.
	Dir string

	kube string
	// process is nil for a detached cluster.
	process *process
	// removeDir is set if Dir is removed with the cluster.
	removeDir bool
	stop      func() error
}

// Start starts a cluster and waits until it is ready. It runs until Stop, or until this
// program ends, however it ends.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	c := &Cluster{Dir: o.Dir, kube: o.Kube}
	if c.Dir == "" {
		dir, err := os.MkdirTemp("", "flagcache-")
		if err != nil {
			return nil, fmt.Errorf("creating a directory for the cluster: %w", err)
		}
		c.Dir, c.removeDir = dir, true
	}
	c.process = newProcess(o.Progress, o.Kube, o.upArguments(c.Dir)...)
	c.stop = sync.OnceValue(c.end)
	err := c.process.start(ctx)
	if err == nil {
		err = c.connect()
	}
	if err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// Stop stops the cluster and cleans up. Stopping twice is no error.
func (c *Cluster) Stop() error { return c.stop() }

func (c *Cluster) end() error {
	err := c.process.stop()
	if c.removeDir {
		err = errors.Join(err, os.RemoveAll(c.Dir))
	}
	return err
}

// Ended is closed when the cluster has ended, stopped or not.
func (c *Cluster) Ended() <-chan struct{} { return c.process.ended }

// Err is the reason why the cluster ended. It must not be called before that.
func (c *Cluster) Err() error { return c.process.err }

// Detach starts a cluster in o.Dir that keeps running when this program ends. It writes
// its progress to the output of this program.
func Detach(ctx context.Context, o Options) (*Cluster, error) {
	cmd := exec.CommandContext(ctx, o.Kube, append(o.upArguments(o.Dir), "--detach")...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// It forwards SIGTERM to its children, which it could not do for SIGKILL.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("starting the cluster in %s: %w", o.Dir, err)
	}
	c := &Cluster{Dir: o.Dir, kube: o.Kube}
	c.stop = sync.OnceValue(func() error { return End(c.kube, c.Dir) })
	if err := c.connect(); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// Join connects to a cluster that another program started in dir, with the
// executable of hack/kube for kubectl. Stop leaves the cluster running.
func Join(kube, dir string) (*Cluster, error) {
	c := &Cluster{Dir: dir, kube: kube, stop: func() error { return nil }}
	if err := c.connect(); err != nil {
		return nil, err
	}
	return c, nil
}

// End stops the cluster in dir, attached or detached. It is no error if none is running.
func End(kube, dir string) error {
	out, err := exec.Command(kube, "down", "--dir", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("stopping the cluster in %s: %w\n%s", dir, err, out)
	}
	return nil
}

func (o Options) upArguments(dir string) []string {
	args := []string{"up", "--dir", dir, "--name", "flagcache"}
	for _, repository := range slices.Sorted(maps.Keys(o.Images)) {
		args = append(args, "--image", repository+"="+o.Images[repository])
	}
	if o.ControlPlaneOnly {
		args = append(args, "--no-node")
	}
	return args
}

// Kubeconfig is the path of the admin's kubeconfig.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.Dir, "kubeconfig") }

// connect creates the client.
func (c *Cluster) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return fmt.Errorf("reading the cluster's kubeconfig: %w", err)
	}
	return c.use(config)
}

// Connect connects to an API server without a cluster around it: only Client and Config of the
// result can be used.
func Connect(config *rest.Config) (*Cluster, error) {
	c := &Cluster{stop: func() error { return nil }}
	return c, c.use(config)
}

func (c *Cluster) use(config *rest.Config) (err error) {
	config.QPS = -1                           // no client-side rate limit
	config.WarningHandler = rest.NoWarnings{} // Inventory lists deprecated resources too
	c.Config = config
	c.Client, err = client.NewWithWatch(config, client.Options{Scheme: scheme()})
	if err != nil {
		return fmt.Errorf("creating a client for the cluster: %w", err)
	}
	return nil
}

func scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(s))
	utilruntime.Must(v1alpha1.AddToScheme(s))
	utilruntime.Must(gatewayv1.Install(s))
	utilruntime.Must(ack.AddToScheme(s))
	return s
}

// lastLines returns the last n lines of a text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
