// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	cadvisorapi "github.com/google/cadvisor/lib/model"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/volume/util/hostutil"
)

// machine provides information on the host to the kubelet instead of cAdvisor, which needs
// cgroups.
type machine struct {
	directory string
}

// Start does nothing: nothing is observed in the background.
func (machine) Start() error { return nil }

// ContainerInfoV2 returns no containers: the runtime reports them.
func (machine) ContainerInfoV2(string, cadvisorapi.RequestOptions) (map[string]cadvisorapi.ContainerInfo, error) {
	return map[string]cadvisorapi.ContainerInfo{}, nil
}

// GetRequestedContainersInfo returns no containers: the runtime reports them.
func (machine) GetRequestedContainersInfo(string, cadvisorapi.RequestOptions) (map[string]*cadvisorapi.ContainerInfo, error) {
	return map[string]*cadvisorapi.ContainerInfo{}, nil
}

// MachineInfo returns the capacity of the host.
func (machine) MachineInfo(klog.Logger) (*cadvisorapi.MachineInfo, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return nil, fmt.Errorf("reading the memory of the machine: %w", err)
	}
	return &cadvisorapi.MachineInfo{
		NumCores:       runtime.NumCPU(),
		MemoryCapacity: uint64(info.Totalram) * uint64(info.Unit),
		MachineID:      Name, SystemUUID: Name, BootID: Name,
	}, nil
}

// VersionInfo returns the version of the host's kernel.
func (machine) VersionInfo() (*cadvisorapi.VersionInfo, error) {
	var names unix.Utsname
	if err := unix.Uname(&names); err != nil {
		return nil, fmt.Errorf("reading the kernel version: %w", err)
	}
	return &cadvisorapi.VersionInfo{
		KernelVersion:      unix.ByteSliceToString(names.Release[:]),
		ContainerOsVersion: "processes of this machine",
	}, nil
}

// ImagesFsInfo returns the usage of the file system of images.
func (m machine) ImagesFsInfo(context.Context) (cadvisorapi.FsInfo, error) {
	return m.GetDirFsInfo(m.directory)
}

// RootFsInfo returns the usage of the file system of the cluster.
func (m machine) RootFsInfo() (cadvisorapi.FsInfo, error) { return m.GetDirFsInfo(m.directory) }

// ContainerFsInfo returns the usage of the file system of containers.
func (m machine) ContainerFsInfo(context.Context) (cadvisorapi.FsInfo, error) {
	return m.GetDirFsInfo(m.directory)
}

// GetDirFsInfo returns the usage of the file system of a directory.
func (machine) GetDirFsInfo(path string) (cadvisorapi.FsInfo, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		return cadvisorapi.FsInfo{}, fmt.Errorf("reading the file system of %s: %w", path, err)
	}
	size := uint64(stat.Bsize)
	inodes, free := stat.Files, stat.Ffree
	return cadvisorapi.FsInfo{
		Mountpoint: path, Capacity: stat.Blocks * size, Available: stat.Bavail * size,
		Usage: (stat.Blocks - stat.Bfree) * size, Inodes: &inodes, InodesFree: &free,
	}, nil
}

// host prevents the kubelet from changing mounts of the machine.
type host struct {
	*hostutil.HostUtil
}

func newHost() host { return host{hostutil.NewHostUtil()} }

// MakeRShared does nothing: no mounts are shared with containers.
func (host) MakeRShared(string) error { return nil }

// hostOS is the operating system without write access to /var/log, which does not belong
// to the cluster.
type hostOS struct {
	kubecontainer.RealOS
}

const systemLogs = "/var/log"

var errSystemLogs = errors.New("the logs of the machine are not modified")

// MkdirAll creates a directory. In the machine's logs it does nothing and succeeds.
func (o hostOS) MkdirAll(path string, mode os.FileMode) error {
	if strings.HasPrefix(path, systemLogs) {
		return nil
	}
	return o.RealOS.MkdirAll(path, mode)
}

// Symlink creates a link. In the machine's logs it does nothing and succeeds.
func (o hostOS) Symlink(target, name string) error {
	if strings.HasPrefix(name, systemLogs) {
		return nil
	}
	return o.RealOS.Symlink(target, name)
}

// Remove removes a file outside the machine's logs.
func (o hostOS) Remove(path string) error {
	if strings.HasPrefix(path, systemLogs) {
		return errSystemLogs
	}
	return o.RealOS.Remove(path)
}

// Glob finds files outside the machine's logs.
func (o hostOS) Glob(pattern string) ([]string, error) {
	if strings.HasPrefix(pattern, systemLogs) {
		return nil, nil
	}
	return o.RealOS.Glob(pattern)
}
