// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/flagcache/flagcache/hack/kube/internal/network"
)

// sandbox is the state that the containers of a pod share.
type sandbox struct {
	id      string
	config  *runtimeapi.PodSandboxConfig
	handler string
	created time.Time
	network *network.Pod // nil in the network of the node

	mu      sync.Mutex
	stopped bool
}

func (s *sandbox) usesNodeNetwork() bool {
	return s.config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() == runtimeapi.NamespaceMode_NODE
}

// enter moves the calling thread into the sandbox's network.
func (s *sandbox) enter() error {
	if s.network == nil {
		return nil
	}
	return s.network.Enter()
}

func (s *sandbox) state() runtimeapi.PodSandboxState {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
	}
	return runtimeapi.PodSandboxState_SANDBOX_READY
}

// resolvConf is the content of /etc/resolv.conf in the sandbox.
func (s *sandbox) resolvConf() string {
	dns := s.config.GetDnsConfig()
	var text strings.Builder
	if len(dns.GetSearches()) > 0 {
		fmt.Fprintf(&text, "search %s\n", strings.Join(dns.GetSearches(), " "))
	}
	for _, server := range dns.GetServers() {
		fmt.Fprintf(&text, "nameserver %s\n", server)
	}
	if len(dns.GetOptions()) > 0 {
		fmt.Fprintf(&text, "options %s\n", strings.Join(dns.GetOptions(), " "))
	}
	return text.String()
}

// RunPodSandbox creates the network of a pod.
func (r *Runtime) RunPodSandbox(_ context.Context, config *runtimeapi.PodSandboxConfig, handler string) (string, error) {
	s := &sandbox{id: newID(), config: config, handler: handler, created: time.Now()}
	if err := os.MkdirAll(config.GetLogDirectory(), 0o755); err != nil {
		return "", fmt.Errorf("creating the directory of the pod's logs: %w", err)
	}
	if !s.usesNodeNetwork() {
		pod, err := r.pods.Add()
		if err != nil {
			return "", fmt.Errorf("creating the network of pod %s: %w", config.GetMetadata().GetName(), err)
		}
		s.network = pod
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sandboxes[s.id] = s
	return s.id, nil
}

// StopPodSandbox kills the running containers of the pod and removes its network.
func (r *Runtime) StopPodSandbox(ctx context.Context, id string) error {
	s, err := r.sandbox(id)
	if err != nil {
		return nil // stopping what does not exist is not an error
	}
	var failures []error
	for _, c := range r.containersOf(id) {
		failures = append(failures, c.stop(ctx, 0))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped && s.network != nil {
		failures = append(failures, s.network.Remove())
	}
	s.stopped = true
	return errors.Join(failures...)
}

// RemovePodSandbox forgets a pod and its containers.
func (r *Runtime) RemovePodSandbox(ctx context.Context, id string) error {
	if err := r.StopPodSandbox(ctx, id); err != nil {
		return err
	}
	for _, c := range r.containersOf(id) {
		if err := r.RemoveContainer(ctx, c.id); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sandboxes, id)
	return nil
}

// PodSandboxStatus returns the status of a pod.
func (r *Runtime) PodSandboxStatus(_ context.Context, id string, _ bool) (*runtimeapi.PodSandboxStatusResponse, error) {
	s, err := r.sandbox(id)
	if err != nil {
		return nil, err
	}
	answer := &runtimeapi.PodSandboxStatus{
		Id: s.id, Metadata: s.config.GetMetadata(), State: s.state(), CreatedAt: s.created.UnixNano(),
		Labels: s.config.GetLabels(), Annotations: s.config.GetAnnotations(), RuntimeHandler: s.handler,
		Network: &runtimeapi.PodSandboxNetworkStatus{},
		Linux: &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{
			Options: s.config.GetLinux().GetSecurityContext().GetNamespaceOptions(),
		}},
	}
	if s.network != nil {
		answer.Network.Ip = s.network.Address.String()
	}
	return &runtimeapi.PodSandboxStatusResponse{Status: answer}, nil
}

// ListPodSandbox lists pods.
func (r *Runtime) ListPodSandbox(_ context.Context, filter *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*runtimeapi.PodSandbox
	for _, s := range r.sandboxes {
		state := s.state()
		if id := filter.GetId(); id != "" && id != s.id {
			continue
		}
		if want := filter.GetState(); want != nil && want.GetState() != state {
			continue
		}
		if !selects(filter.GetLabelSelector(), s.config.GetLabels()) {
			continue
		}
		found = append(found, &runtimeapi.PodSandbox{
			Id: s.id, Metadata: s.config.GetMetadata(), State: state, CreatedAt: s.created.UnixNano(),
			Labels: s.config.GetLabels(), Annotations: s.config.GetAnnotations(), RuntimeHandler: s.handler,
		})
	}
	return found, nil
}

// UpdatePodSandboxResources accepts limits, which are not enforced.
func (r *Runtime) UpdatePodSandboxResources(context.Context, *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}

// CheckpointPod is not supported.
func (r *Runtime) CheckpointPod(context.Context, *runtimeapi.CheckpointPodRequest) error {
	return unsupported("checkpoints")
}

// RestorePod is not supported.
func (r *Runtime) RestorePod(context.Context, *runtimeapi.RestorePodRequest) (*runtimeapi.RestorePodResponse, error) {
	return nil, unsupported("checkpoints")
}

// containerDirectory is where a container keeps files while it exists.
func (r *Runtime) containerDirectory(id string) string {
	return filepath.Join(r.directory, "containers", id)
}
