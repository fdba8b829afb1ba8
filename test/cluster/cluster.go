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

// Options say what cluster to start.
type Options struct {
	// Kube is the executable of hack/kube.
	Kube string
	// Dir holds the cluster's files, an absolute path that is short enough for a
	// Unix socket. Default for Start: a temporary directory that goes with the
	// cluster.
	Dir string
	// Images maps image repositories to executables of this machine.
	Images map[string]string
	// ControlPlaneOnly leaves the node out: pods are accepted and never run.
	ControlPlaneOnly bool
	// Progress is told each thing that has become ready. Default: nobody is.
	Progress func(line string)
}

// Cluster is a running cluster, seen by its admin.
type Cluster struct {
	// Client reads and writes without a cache.
	Client client.WithWatch
	// Config is how Client connects.
	Config *rest.Config
	// Dir holds the cluster's files: kubeconfig, net.sock, and logs of its parts.
	Dir string

	kube string
	// process is nil for a cluster that was not started by this program.
	process *process
	// remove says that Dir goes with the cluster.
	remove bool
	stop   func() error
}

// Start starts a cluster and returns when it works. It ends with Stop, and with
// this program however that ends.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	c := &Cluster{Dir: o.Dir, kube: o.Kube}
	if c.Dir == "" {
		dir, err := os.MkdirTemp("", "flagcache-")
		if err != nil {
			return nil, fmt.Errorf("making a directory for the cluster: %w", err)
		}
		c.Dir, c.remove = dir, true
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

// Stop ends the cluster and returns when nothing of it is left. Stopping twice
// is no error.
func (c *Cluster) Stop() error { return c.stop() }

func (c *Cluster) end() error {
	err := c.process.stop()
	if c.remove {
		err = errors.Join(err, os.RemoveAll(c.Dir))
	}
	return err
}

// Ended is closed when the cluster has ended, asked or not.
func (c *Cluster) Ended() <-chan struct{} { return c.process.ended }

// Err says why the cluster ended, after it has.
func (c *Cluster) Err() error { return c.process.err }

// Detach starts a cluster in o.Dir that goes on running after this program.
// Output of its start goes to this program's.
func Detach(ctx context.Context, o Options) (*Cluster, error) {
	cmd := exec.CommandContext(ctx, o.Kube, append(o.upArguments(o.Dir), "--detach")...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// It passes the signal on to what it started; killed, it could not.
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

// End ends the cluster in dir, started or detached. It is no error if there is
// none.
func End(kube, dir string) error {
	out, err := exec.Command(kube, "down", "--dir", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ending the cluster in %s: %w\n%s", dir, err, out)
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

// connect makes the clients.
func (c *Cluster) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return fmt.Errorf("reading the cluster's kubeconfig: %w", err)
	}
	config.QPS = -1                           // whoever polls does so at a rate of its own
	config.WarningHandler = rest.NoWarnings{} // of old types, when all are listed
	c.Config = config
	c.Client, err = client.NewWithWatch(config, client.Options{Scheme: scheme()})
	if err != nil {
		return fmt.Errorf("making a client of the cluster: %w", err)
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

// lastLines cuts a text to its last n lines.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
