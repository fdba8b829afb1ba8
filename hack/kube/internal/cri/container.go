// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/flagcache/flagcache/hack/kube/internal/stage"
)

// container is a process that will be started, is running, or has exited.
type container struct {
	id         string
	sandbox    *sandbox
	config     *runtimeapi.ContainerConfig
	image      string
	executable Executable
	created    time.Time
	log        *logFile
	exited     chan struct{} // closed when the process has ended and its output is written

	mu       sync.Mutex
	command  *exec.Cmd
	input    *os.File // write end of the program's standard input, when it has one
	started  time.Time
	finished time.Time
	exitCode int32
	reason   string
	message  string
}

// CreateContainer prepares a container without starting it.
func (r *Runtime) CreateContainer(_ context.Context, sandboxID string, config *runtimeapi.ContainerConfig, sandboxConfig *runtimeapi.PodSandboxConfig) (string, error) {
	s, err := r.sandbox(sandboxID)
	if err != nil {
		return "", err
	}
	image, executable, ok := r.images.find(config.GetImage().GetImage())
	if !ok {
		return "", status.Errorf(codes.NotFound, "there is no image %s", config.GetImage().GetImage())
	}
	c := &container{
		id: newID(), sandbox: s, config: config, image: image, executable: executable,
		created: time.Now(), exited: make(chan struct{}),
	}
	if err := os.MkdirAll(r.rootOf(c.id), 0o755); err != nil {
		return "", fmt.Errorf("creating the container's directory: %w", err)
	}
	path := filepath.Join(sandboxConfig.GetLogDirectory(), config.GetLogPath())
	if c.log, err = openLog(path); err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.containers[c.id] = c
	return c.id, nil
}

func (r *Runtime) rootOf(id string) string { return filepath.Join(r.containerDirectory(id), "root") }

// StartContainer starts the program.
func (r *Runtime) StartContainer(_ context.Context, id string) error {
	c, err := r.container(id)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.command != nil {
		return status.Errorf(codes.FailedPrecondition, "container %s was started before", id)
	}
	streams, err := c.openStreams()
	if err != nil {
		return err
	}
	c.command, err = stage.Launch(r.specOf(c), c.sandbox.enter, streams.stdin, streams.stdout, streams.stderr)
	streams.closeChildEnds()
	if err != nil {
		streams.closeOwnEnds()
		c.finishUnstarted(err)
		return err
	}
	c.started = time.Now()
	c.input = streams.input
	go c.await(streams)
	return nil
}

// finishUnstarted records that the program could not be started.
func (c *container) finishUnstarted(err error) {
	c.command = nil
	c.started, c.finished = time.Now(), time.Now()
	c.exitCode, c.reason, c.message = 128, "StartError", err.Error()
	close(c.exited)
}

// await records the end of the program.
func (c *container) await(streams *streams) {
	err := c.command.Wait()
	streams.wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finished = time.Now()
	c.exitCode, c.reason = exitCode(c.command.ProcessState), "Completed"
	if c.exitCode != 0 {
		c.reason = "Error"
	}
	if err != nil && c.exitCode == 0 {
		c.exitCode, c.reason, c.message = 255, "Error", err.Error()
	}
	c.log.Close()
	close(c.exited)
}

// exitCode follows the convention of shells for signals.
func exitCode(state *os.ProcessState) int32 {
	if s, ok := state.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return 128 + int32(s.Signal())
	}
	return int32(state.ExitCode())
}

// process returns the running process, nil when there is none.
func (c *container) process() *os.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.command == nil || !c.finished.IsZero() {
		return nil
	}
	return c.command.Process
}

// StopContainer terminates the program and kills it after timeout seconds.
func (r *Runtime) StopContainer(ctx context.Context, id string, timeout int64) error {
	c, err := r.container(id)
	if err != nil {
		return nil // stopping what does not exist is not an error
	}
	return c.stop(ctx, time.Duration(timeout)*time.Second)
}

func (c *container) stop(ctx context.Context, grace time.Duration) error {
	process := c.process()
	if process == nil {
		return nil
	}
	if grace > 0 {
		// It may have exited already, which is the desired result.
		_ = process.Signal(c.stopSignal())
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-c.exited:
			return nil
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// The kernel kills all other processes in the PID namespace with its first one.
	_ = process.Kill()
	select {
	case <-c.exited:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *container) stopSignal() os.Signal {
	name, _ := strings.CutPrefix(c.config.GetStopSignal().String(), "SIGNAL_")
	if number := unix.SignalNum(name); number != 0 {
		return number
	}
	return unix.SIGTERM // also for RUNTIME_DEFAULT
}

// RemoveContainer forgets a container.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	c, err := r.container(id)
	if err != nil {
		return nil // removing what does not exist is not an error
	}
	if err := c.stop(ctx, 0); err != nil {
		return err
	}
	c.log.Close()
	r.mu.Lock()
	delete(r.containers, id)
	r.mu.Unlock()
	if err := os.RemoveAll(r.containerDirectory(id)); err != nil {
		return fmt.Errorf("removing the container's directory: %w", err)
	}
	return nil
}

func (c *container) state() runtimeapi.ContainerState {
	switch {
	case !c.finished.IsZero():
		return runtimeapi.ContainerState_CONTAINER_EXITED
	case c.command != nil:
		return runtimeapi.ContainerState_CONTAINER_RUNNING
	default:
		return runtimeapi.ContainerState_CONTAINER_CREATED
	}
}

// ListContainers lists containers.
func (r *Runtime) ListContainers(_ context.Context, filter *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*runtimeapi.Container
	for _, c := range r.containers {
		if described := c.describe(); matches(described, filter) {
			found = append(found, described)
		}
	}
	return found, nil
}

func matches(c *runtimeapi.Container, filter *runtimeapi.ContainerFilter) bool {
	if id := filter.GetId(); id != "" && id != c.Id {
		return false
	}
	if id := filter.GetPodSandboxId(); id != "" && id != c.PodSandboxId {
		return false
	}
	if state := filter.GetState(); state != nil && state.GetState() != c.State {
		return false
	}
	return selects(filter.GetLabelSelector(), c.Labels)
}

func (c *container) describe() *runtimeapi.Container {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &runtimeapi.Container{
		Id: c.id, PodSandboxId: c.sandbox.id, Metadata: c.config.GetMetadata(), Image: c.config.GetImage(),
		ImageRef: imageID(c.image), ImageId: imageID(c.image), State: c.state(), CreatedAt: c.created.UnixNano(),
		Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
	}
}

// ContainerStatus returns the status of a container.
func (r *Runtime) ContainerStatus(_ context.Context, id string, _ bool) (*runtimeapi.ContainerStatusResponse, error) {
	c, err := r.container(id)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	image := &runtimeapi.ImageSpec{Image: c.config.GetImage().GetImage()}
	if specified := c.config.GetImage().GetUserSpecifiedImage(); specified != "" {
		image.Image = specified
	}
	answer := &runtimeapi.ContainerStatus{
		Id: c.id, Metadata: c.config.GetMetadata(), State: c.state(), CreatedAt: c.created.UnixNano(),
		ExitCode: c.exitCode, Image: image, ImageRef: imageID(c.image), ImageId: imageID(c.image),
		Reason: c.reason, Message: c.message, Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
		Mounts: c.config.GetMounts(), LogPath: c.log.path,
	}
	if !c.started.IsZero() {
		answer.StartedAt = c.started.UnixNano()
	}
	if !c.finished.IsZero() {
		answer.FinishedAt = c.finished.UnixNano()
	}
	return &runtimeapi.ContainerStatusResponse{Status: answer}, nil
}

// UpdateContainerResources accepts limits, which are not enforced.
func (r *Runtime) UpdateContainerResources(context.Context, string, *runtimeapi.ContainerResources) error {
	return nil
}

// ReopenContainerLog starts a new log file after the kubelet has renamed the old.
func (r *Runtime) ReopenContainerLog(_ context.Context, id string) error {
	c, err := r.container(id)
	if err != nil {
		return err
	}
	return c.log.reopen()
}

// CheckpointContainer is not supported.
func (r *Runtime) CheckpointContainer(context.Context, *runtimeapi.CheckpointContainerRequest) error {
	return unsupported("checkpoints")
}

// GetContainerEvents is not supported: the kubelet lists containers every second.
func (r *Runtime) GetContainerEvents(context.Context, chan *runtimeapi.ContainerEventResponse, func(runtimeapi.RuntimeService_GetContainerEventsClient)) error {
	return unsupported("events")
}
