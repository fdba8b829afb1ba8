// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackcontroller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/test/child"
)

const (
	// startLimit bounds the time until the controller reconciles.
	startLimit = time.Minute
	// stopLimit is how long the controller may take to stop before it is killed.
	stopLimit = 20 * time.Second
)

// Region is the AWS region of the controller.
const Region = "us-east-1"

// Options configure a controller.
type Options struct {
	// Build is the build to run. Default: Quick.
	Build Build
	// Config is access to the API server as its administrator. ACK's CRDs must be
	// installed. The controller gets a service account with ACK's ClusterRole.
	Config *rest.Config
	// Endpoint is the URL of ElastiCache and STS.
	Endpoint string
	// Resync is how often objects that are in sync are reconciled, in whole seconds.
	// Default: that of ACK, which is ten hours.
	Resync time.Duration
	// Args are further command-line flags.
	Args []string
}

// Controller is a running controller.
type Controller struct {
	process *child.Process
	log     *output
	dir     string
	stop    func() error
}

// Start starts a controller and waits until it reconciles. It runs until Stop, or until
// this program ends.
func Start(ctx context.Context, o Options) (*Controller, error) {
	if o.Build == (Build{}) {
		o.Build = Quick
	}
	program, err := o.Build.Program()
	if err != nil {
		return nil, err
	}
	c, err := client.New(o.Config, client.Options{})
	if err != nil {
		return nil, fmt.Errorf("creating a client: %w", err)
	}
	if err := grant(ctx, c); err != nil {
		return nil, err
	}
	config, err := kubeconfig(ctx, o.Config, c)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "ack-")
	if err != nil {
		return nil, fmt.Errorf("creating a directory for ACK: %w", err)
	}
	started := &Controller{dir: dir, log: &output{mark: []byte(`"Starting workers"`), started: make(chan struct{})}}
	started.stop = sync.OnceValue(started.end)
	if err := started.start(ctx, program, config, o); err != nil {
		return nil, errors.Join(err, started.Stop())
	}
	return started, nil
}

func (c *Controller) start(ctx context.Context, program string, config []byte, o Options) error {
	path := filepath.Join(c.dir, "kubeconfig")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		return fmt.Errorf("writing a kubeconfig for ACK: %w", err)
	}
	cmd := exec.Command(program, o.arguments()...)
	// Nothing of this program's environment, which may have credentials for AWS.
	cmd.Env = []string{
		"KUBECONFIG=" + path, "HOME=" + c.dir, "TMPDIR=" + c.dir, "ACK_SYSTEM_NAMESPACE=" + Namespace,
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true",
	}
	cmd.Dir = c.dir
	cmd.Stdout, cmd.Stderr = c.log, c.log
	var err error
	if c.process, err = child.Start(cmd, syscall.SIGKILL); err != nil {
		return fmt.Errorf("starting ACK: %w", err)
	}
	limited, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("it does not reconcile after %s", startLimit))
	defer cancel()
	select {
	case <-c.log.started:
		return nil
	case <-c.process.Ended():
		return errors.New("starting ACK: it ended")
	case <-limited.Done():
		return fmt.Errorf("starting ACK: %w\n%s", context.Cause(limited), c.Log())
	}
}

// arguments are the command-line flags. Ports that tests do not use are not opened.
func (o Options) arguments() []string {
	args := []string{
		"--aws-region", Region, "--aws-endpoint-url", o.Endpoint, "--aws-identity-endpoint-url", o.Endpoint,
		"--allow-unsafe-aws-endpoint-urls", "--metrics-addr=0", "--healthz-addr=0",
	}
	if o.Resync > 0 {
		args = append(args, "--reconcile-default-resync-seconds", strconv.Itoa(int(o.Resync/time.Second)))
	}
	return append(args, o.Args...)
}

// Log returns the end of the controller's log. Show it when a test fails.
func (c *Controller) Log() string { return c.log.String() }

// Stop stops the controller and waits for it to end. It is an error if it had ended
// before. Stopping twice is no error.
func (c *Controller) Stop() error { return c.stop() }

func (c *Controller) end() error {
	return errors.Join(c.endProcess(), os.RemoveAll(c.dir))
}

func (c *Controller) endProcess() error {
	if c.process == nil {
		return nil
	}
	select {
	case <-c.process.Ended():
		return fmt.Errorf("ACK had ended (%v)\n%s", c.process.Cmd.ProcessState, c.Log())
	default:
	}
	if err := errors.Join(c.signal(syscall.SIGTERM), c.Resume()); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping ACK: %w", err)
	}
	select {
	case <-c.process.Ended():
		return nil
	case <-time.After(stopLimit):
	}
	err := fmt.Errorf("ACK did not stop within %s and was killed\n%s", stopLimit, c.Log())
	if killErr := c.process.Cmd.Process.Kill(); killErr != nil && !errors.Is(killErr, os.ErrProcessDone) {
		return errors.Join(err, killErr)
	}
	<-c.process.Ended()
	return err
}
