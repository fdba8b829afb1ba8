// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"

	"github.com/flagcache/flagcache/hack/kube/internal/network"
)

const (
	name    = "process"
	version = "1.0.0"
)

// Runtime runs pods as processes. It is the kubelet's RuntimeService.
type Runtime struct {
	directory  string // for the containers' files
	images     *Images
	pods       *network.Pods
	singleUser bool
	streaming  streaming.Server

	mu         sync.Mutex
	sandboxes  map[string]*sandbox
	containers map[string]*container
}

var _ internalapi.RuntimeService = (*Runtime)(nil)

// New returns a runtime that keeps its files in directory. With singleUser, all programs
// run as the only user of the user namespace.
func New(directory string, images *Images, pods *network.Pods, singleUser bool) (*Runtime, error) {
	r := &Runtime{
		directory: directory, images: images, pods: pods, singleUser: singleUser,
		sandboxes: map[string]*sandbox{}, containers: map[string]*container{},
	}
	var err error
	r.streaming, err = newStreaming(r)
	return r, err
}

// ServeStreams serves the streams of exec, attach and port-forward until the
// context ends.
func (r *Runtime) ServeStreams(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { r.streaming.Stop() })
	defer stop()
	if err := r.streaming.Start(true); err != nil && err != http.ErrServerClosed {
		return fmt.Errorf("serving the streams of containers: %w", err)
	}
	return nil
}

// newID returns an identifier in the format of other runtimes.
func newID() string {
	id := make([]byte, 32)
	rand.Read(id) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(id)
}

func (r *Runtime) sandbox(id string) (*sandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.sandboxes[id]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "there is no sandbox %s", id)
	}
	return s, nil
}

func (r *Runtime) container(id string) (*container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.containers[id]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "there is no container %s", id)
	}
	return c, nil
}

// containersOf returns the containers of a sandbox.
func (r *Runtime) containersOf(sandboxID string) []*container {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*container
	for _, c := range r.containers {
		if c.sandbox.id == sandboxID {
			found = append(found, c)
		}
	}
	return found
}

// selects reports whether labels match selector.
func selects(selector, labels map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}

// Version returns the name and version of the runtime.
func (r *Runtime) Version(context.Context, string) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{
		Version: "0.1.0", RuntimeName: name, RuntimeVersion: version, RuntimeApiVersion: "v1",
	}, nil
}

// Status reports that the runtime is ready, which it always is.
func (r *Runtime) Status(context.Context, bool) (*runtimeapi.StatusResponse, error) {
	return &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true},
		{Type: runtimeapi.NetworkReady, Status: true},
	}}}, nil
}

// UpdateRuntimeConfig ignores the range of pod addresses, which is fixed.
func (r *Runtime) UpdateRuntimeConfig(context.Context, *runtimeapi.RuntimeConfig) error { return nil }

// RuntimeConfig returns the cgroup driver, which is not used.
func (r *Runtime) RuntimeConfig(context.Context) (*runtimeapi.RuntimeConfigResponse, error) {
	return &runtimeapi.RuntimeConfigResponse{
		Linux: &runtimeapi.LinuxRuntimeConfiguration{CgroupDriver: runtimeapi.CgroupDriver_CGROUPFS},
	}, nil
}

// Close does nothing: the runtime ends with its process.
func (r *Runtime) Close(context.Context) error { return nil }

func unsupported(what string) error {
	return status.Errorf(codes.Unimplemented, "the process runtime does not support %s", what)
}
