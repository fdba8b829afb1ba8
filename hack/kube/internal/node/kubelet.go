// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/klog/v2"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	"k8s.io/kubernetes/pkg/kubelet"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubeletutil "k8s.io/kubernetes/pkg/kubelet/util"
	"k8s.io/kubernetes/pkg/util/oom"
	"k8s.io/kubernetes/pkg/volume/util/subpath"
	"k8s.io/mount-utils"

	"github.com/flagcache/flagcache/hack/kube/internal/cri"
	"github.com/flagcache/flagcache/hack/kube/internal/network"
)

// startKubelet starts the real kubelet around the process runtime.
func startKubelet(ctx context.Context, config Config, runtime *cri.Runtime, images *cri.Images) error {
	if err := utilfeature.DefaultMutableFeatureGate.Set("KubeletInUserNamespace=true,PodsAPI=false"); err != nil {
		return fmt.Errorf("setting the kubelet's features: %w", err)
	}
	server, err := kubeletServer(config)
	if err != nil {
		return err
	}
	dependencies, err := kubeletDependencies(ctx, config, server)
	if err != nil {
		return err
	}
	dependencies.RemoteRuntimeService, dependencies.RemoteImageService = runtime, images
	if err := kubeletapp.RunKubelet(ctx, server, dependencies); err != nil {
		return fmt.Errorf("starting the kubelet: %w", err)
	}
	return nil
}

// kubeletServer returns the flags and the configuration of the kubelet.
func kubeletServer(config Config) (*options.KubeletServer, error) {
	flags := options.NewKubeletFlags()
	flags.RootDirectory = config.Kubelet
	flags.CertDirectory = filepath.Join(config.Directory, "pki")
	flags.HostnameOverride = Name
	flags.NodeIP = network.NodeAddress
	// Keep the previous container of a crash loop for "kubectl logs --previous".
	flags.MaxPerPodContainerCount = 2
	flags.MaxContainerCount = 1000

	c, err := options.NewKubeletConfiguration()
	if err != nil {
		return nil, fmt.Errorf("creating the kubelet's configuration: %w", err)
	}
	listenOnNode(c)
	withoutCgroups(c)
	forFewPods(c)
	c.PodLogsDir = filepath.Join(config.Directory, "logs")
	c.ClusterDNS = []string{network.DNSAddress}
	c.ClusterDomain = network.Domain
	c.MaxPods = 500
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, fmt.Errorf("reading the limit of open files: %w", err)
	}
	c.MaxOpenFiles = int64(files.Max)   // raising it requires privileges
	c.ImageGCHighThresholdPercent = 100 // never: the images do not belong to the cluster
	c.EvictionHard = map[string]string{}
	c.ResolverConfig = filepath.Join(config.Directory, "resolv.conf")
	if err := os.WriteFile(c.ResolverConfig, nil, 0o644); err != nil {
		return nil, fmt.Errorf("writing the node's resolv.conf: %w", err)
	}
	return &options.KubeletServer{KubeletFlags: *flags, KubeletConfiguration: *c}, nil
}

func listenOnNode(c *kubeletconfig.KubeletConfiguration) {
	c.EnableServer = true
	c.EnableDebuggingHandlers = true // logs, exec and port-forward
	c.Address = network.NodeAddress
	c.Port = 10250
	c.ReadOnlyPort = 0
	c.HealthzPort = 0
	c.RegisterNode = true
	c.EnableControllerAttachDetach = false
	c.MakeIPTablesUtilChains = false
}

// withoutCgroups disables features that require cgroups, swap accounting or quotas.
func withoutCgroups(c *kubeletconfig.KubeletConfiguration) {
	c.CgroupsPerQOS = false
	c.EnforceNodeAllocatable = nil
	c.CgroupRoot = ""
	c.CPUCFSQuota = false
	c.FailSwapOn = false
	c.LocalStorageCapacityIsolation = false
	c.ProtectKernelDefaults = false
}

// forFewPods removes what is expensive, and limits that one busy node would reach. The intervals
// remain the defaults: in particular, volumes of changed ConfigMaps and Secrets are written
// in the next sync of a pod, 60 to 90 seconds after the last one, as in other clusters.
func forFewPods(c *kubeletconfig.KubeletConfiguration) {
	c.VolumeStatsAggPeriod = metav1.Duration{Duration: -1} // volumes are not measured
	c.SerializeImagePulls = false
	c.KubeAPIQPS, c.KubeAPIBurst = 500, 1000
	c.EventRecordQPS, c.EventBurst = 500, 1000
}

// kubeletDependencies returns the kubelet's interfaces to the machine.
func kubeletDependencies(ctx context.Context, config Config, server *options.KubeletServer) (*kubelet.Dependencies, error) {
	client, err := client(config.Kubeconfig)
	if err != nil {
		return nil, err
	}
	tls, err := kubeletapp.InitializeTLS(ctx, &server.KubeletFlags, &server.KubeletConfiguration)
	if err != nil {
		return nil, fmt.Errorf("generating the kubelet's certificate: %w", err)
	}
	// Volumes are directories, never mounts.
	mounter := mount.NewFakeMounter(nil)
	return &kubelet.Dependencies{
		KubeClient:                client,
		HeartbeatClient:           client,
		EventClient:               client.CoreV1(),
		CAdvisorInterface:         machine{directory: config.Directory},
		ContainerManager:          noCgroups{cm.NewStubContainerManager()},
		HostUtil:                  newHost(),
		Mounter:                   mounter,
		Subpather:                 subpath.New(mounter),
		OOMAdjuster:               oom.NewFakeOOMAdjuster(),
		OSInterface:               hostOS{},
		VolumePlugins:             volumePlugins(config.SingleUser),
		TLSOptions:                tls,
		TracerProvider:            noop.NewTracerProvider(),
		PodStartupLatencyTracker:  kubeletutil.NewPodStartupLatencyTracker(),
		NodeStartupLatencyTracker: kubeletutil.NewNodeStartupLatencyTracker(klog.FromContext(ctx)),
	}, nil
}
