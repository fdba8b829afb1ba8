// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// nonroot is the user of all images, as in distroless images.
const nonroot = 65532

// Executable is the executable that an image consists of.
type Executable struct {
	// Path is the path of the executable on this machine.
	Path string
	// Name is its name in a container.
	Name string
}

// Images is the kubelet's image service. Its images are the executables that the cluster
// was started with.
type Images struct {
	directory    string
	repositories map[string]Executable
}

var _ internalapi.ImageManagerService = (*Images)(nil)

// NewImages returns the images of repositories. Directory is on the file system
// whose usage is reported.
func NewImages(directory string, repositories map[string]Executable) *Images {
	return &Images{directory: directory, repositories: repositories}
}

// repository returns an image reference without its tag and digest.
func repository(reference string) string {
	reference, _, _ = strings.Cut(reference, "@")
	if colon := strings.LastIndex(reference, ":"); colon > strings.LastIndex(reference, "/") {
		reference = reference[:colon]
	}
	// The kubelet expands short names, but users specify images by their short names.
	return strings.TrimPrefix(strings.TrimPrefix(reference, "docker.io/"), "library/")
}

// find returns the image for a reference or an ID.
func (i *Images) find(reference string) (string, Executable, bool) {
	for name, executable := range i.repositories {
		if repository(name) == repository(reference) || imageID(name) == reference {
			return name, executable, true
		}
	}
	return "", Executable{}, false
}

func imageID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func describe(name, reference string) *runtimeapi.Image {
	return &runtimeapi.Image{
		Id: imageID(name), RepoTags: []string{reference}, Size: 1,
		Uid:  &runtimeapi.Int64Value{Value: nonroot},
		Spec: &runtimeapi.ImageSpec{Image: reference},
	}
}

// ListImages lists all images.
func (i *Images) ListImages(context.Context, *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	var found []*runtimeapi.Image
	for name := range i.repositories {
		found = append(found, describe(name, name+":latest"))
	}
	return found, nil
}

// ImageStatus returns an image, or an empty response if it does not exist.
func (i *Images) ImageStatus(_ context.Context, image *runtimeapi.ImageSpec, _ bool) (*runtimeapi.ImageStatusResponse, error) {
	name, _, ok := i.find(image.GetImage())
	if !ok {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	return &runtimeapi.ImageStatusResponse{Image: describe(name, image.GetImage())}, nil
}

// PullImage succeeds for existing images.
func (i *Images) PullImage(_ context.Context, image *runtimeapi.ImageSpec, _ *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	name, _, ok := i.find(image.GetImage())
	if !ok {
		return "", status.Errorf(codes.NotFound,
			"this cluster has no registry and no executable for the image %s: start it with kube up --image %s=EXECUTABLE",
			image.GetImage(), repository(image.GetImage()))
	}
	return imageID(name), nil
}

// RemoveImage does nothing: the executable does not belong to the cluster.
func (i *Images) RemoveImage(context.Context, *runtimeapi.ImageSpec) error { return nil }

// ImageFsInfo returns the usage of the file system that has the cluster's directory.
func (i *Images) ImageFsInfo(context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(i.directory, &stat); err != nil {
		return nil, fmt.Errorf("reading the file system of %s: %w", i.directory, err)
	}
	usage := []*runtimeapi.FilesystemUsage{{
		Timestamp:  time.Now().UnixNano(),
		FsId:       &runtimeapi.FilesystemIdentifier{Mountpoint: i.directory},
		UsedBytes:  &runtimeapi.UInt64Value{Value: (stat.Blocks - stat.Bfree) * uint64(stat.Bsize)},
		InodesUsed: &runtimeapi.UInt64Value{Value: stat.Files - stat.Ffree},
	}}
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: usage, ContainerFilesystems: usage}, nil
}

// Close does nothing.
func (i *Images) Close(context.Context) error { return nil }
