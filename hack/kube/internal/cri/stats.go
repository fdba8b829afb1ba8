package cri

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ticksPerSecond is the unit of times in /proc, the same on all architectures.
const ticksPerSecond = 100

// ContainerStats tells what a container's program uses. Processes that it has
// started are not counted.
func (r *Runtime) ContainerStats(_ context.Context, id string) (*runtimeapi.ContainerStats, error) {
	c, err := r.container(id)
	if err != nil {
		return nil, err
	}
	return c.stats(), nil
}

// ListContainerStats tells what running containers use.
func (r *Runtime) ListContainerStats(_ context.Context, filter *runtimeapi.ContainerStatsFilter) ([]*runtimeapi.ContainerStats, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*runtimeapi.ContainerStats
	for _, c := range r.containers {
		if id := filter.GetId(); id != "" && id != c.id {
			continue
		}
		if id := filter.GetPodSandboxId(); id != "" && id != c.sandbox.id {
			continue
		}
		if selects(filter.GetLabelSelector(), c.config.GetLabels()) && c.process() != nil {
			found = append(found, c.stats())
		}
	}
	return found, nil
}

func (c *container) stats() *runtimeapi.ContainerStats {
	stats := &runtimeapi.ContainerStats{Attributes: &runtimeapi.ContainerAttributes{
		Id: c.id, Metadata: c.config.GetMetadata(), Labels: c.config.GetLabels(), Annotations: c.config.GetAnnotations(),
	}}
	process := c.process()
	if process == nil {
		return stats
	}
	nanoseconds, resident, err := usage(process.Pid)
	if err != nil {
		return stats // it has just ended
	}
	now := time.Now().UnixNano()
	stats.Cpu = &runtimeapi.CpuUsage{Timestamp: now, UsageCoreNanoSeconds: &runtimeapi.UInt64Value{Value: nanoseconds}}
	stats.Memory = &runtimeapi.MemoryUsage{Timestamp: now,
		WorkingSetBytes: &runtimeapi.UInt64Value{Value: resident}, RssBytes: &runtimeapi.UInt64Value{Value: resident}}
	return stats
}

// usage returns the processor time and the resident memory of a process.
func usage(pid int) (nanoseconds, resident uint64, err error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, fmt.Errorf("reading what a process uses: %w", err)
	}
	// The name in parentheses may hold anything. Fields after it count from 3.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 22 {
		return 0, 0, fmt.Errorf("reading what a process uses: %d fields", len(fields))
	}
	number := func(field int) uint64 {
		n, _ := strconv.ParseUint(fields[field-3], 10, 64) // the kernel writes numbers
		return n
	}
	ticks := number(14) + number(15)
	return ticks * uint64(time.Second) / ticksPerSecond, number(24) * uint64(os.Getpagesize()), nil
}

// PodSandboxStats tells what a pod uses.
func (r *Runtime) PodSandboxStats(ctx context.Context, id string) (*runtimeapi.PodSandboxStats, error) {
	s, err := r.sandbox(id)
	if err != nil {
		return nil, err
	}
	return r.podStats(ctx, s)
}

// ListPodSandboxStats tells what pods use.
func (r *Runtime) ListPodSandboxStats(ctx context.Context, filter *runtimeapi.PodSandboxStatsFilter) ([]*runtimeapi.PodSandboxStats, error) {
	pods, err := r.ListPodSandbox(ctx, &runtimeapi.PodSandboxFilter{Id: filter.GetId(), LabelSelector: filter.GetLabelSelector()})
	if err != nil {
		return nil, err
	}
	var found []*runtimeapi.PodSandboxStats
	for _, pod := range pods {
		if stats, err := r.PodSandboxStats(ctx, pod.Id); err == nil { // it may be gone by now
			found = append(found, stats)
		}
	}
	return found, nil
}

func (r *Runtime) podStats(ctx context.Context, s *sandbox) (*runtimeapi.PodSandboxStats, error) {
	containers, err := r.ListContainerStats(ctx, &runtimeapi.ContainerStatsFilter{PodSandboxId: s.id})
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixNano()
	var nanoseconds, resident uint64
	for _, c := range containers {
		nanoseconds += c.GetCpu().GetUsageCoreNanoSeconds().GetValue()
		resident += c.GetMemory().GetWorkingSetBytes().GetValue()
	}
	return &runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{
			Id: s.id, Metadata: s.config.GetMetadata(), Labels: s.config.GetLabels(), Annotations: s.config.GetAnnotations(),
		},
		Linux: &runtimeapi.LinuxPodSandboxStats{
			Cpu:        &runtimeapi.CpuUsage{Timestamp: now, UsageCoreNanoSeconds: &runtimeapi.UInt64Value{Value: nanoseconds}},
			Memory:     &runtimeapi.MemoryUsage{Timestamp: now, WorkingSetBytes: &runtimeapi.UInt64Value{Value: resident}},
			Containers: containers,
		},
	}, nil
}

// ListMetricDescriptors lists no metrics.
func (r *Runtime) ListMetricDescriptors(context.Context) ([]*runtimeapi.MetricDescriptor, error) {
	return nil, nil
}

// ListPodSandboxMetrics lists no metrics.
func (r *Runtime) ListPodSandboxMetrics(context.Context) ([]*runtimeapi.PodSandboxMetrics, error) {
	return nil, nil
}
