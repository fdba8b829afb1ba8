// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os/exec"

	"github.com/flagcache/flagcache/test/ackcontroller"
	"github.com/flagcache/flagcache/test/programs"
)

// Image repositories in FlagCache's manifests.
const (
	ImageManager     = "ghcr.io/flagcache/manager"
	ImageFlagService = "ghcr.io/flagcache/flag-service"
	ImageRedis       = "docker.io/library/redis"
	ImageAWSPlayer   = "ghcr.io/flagcache/awsplayer"
	// ImageACK is the image in the manifests of ACK's elasticache-controller.
	ImageACK = "public.ecr.aws/aws-controllers-k8s/elasticache-controller"
)

// Programs are the executables for a cluster.
type Programs struct {
	// Kube is hack/kube.
	Kube string
	// Manager is cmd/manager.
	Manager string
	// FlagService is cmd/flag-service.
	FlagService string
	// Redis is redis-server, "" if it is not installed.
	Redis string
	// AWSPlayer is test/awsplayer/cmd, "" if it was not built.
	AWSPlayer string
	// ACK is ACK's elasticache-controller, which polls every second, "" if it was not
	// built.
	ACK string
}

// FindPrograms finds the programs: at the paths in the environment variables KUBE,
// MANAGER, FLAG_SERVICE, AWS_PLAYER and ACK_1S, which make sets, or else in bin. Redis is
// searched in PATH. It is an error if one of the first three is missing.
func FindPrograms() (Programs, error) {
	var p Programs
	var err error
	find := func(variable, name string) string {
		found, lookErr := programs.Find(variable, name)
		if lookErr != nil {
			err = errors.Join(err, fmt.Errorf("%w: run make kube build", lookErr))
		}
		return found
	}
	p.Kube = find("KUBE", "kube")
	p.Manager = find("MANAGER", "manager")
	p.FlagService = find("FLAG_SERVICE", "flag-service")
	p.Redis, _ = exec.LookPath("redis-server")
	p.AWSPlayer, _ = programs.Find("AWS_PLAYER", "awsplayer")
	p.ACK, _ = ackcontroller.Quick.Program()
	return p, err
}

// Images maps image repositories to programs, for Options.
func (p Programs) Images() map[string]string {
	images := map[string]string{
		ImageManager:     p.Manager,
		ImageFlagService: p.FlagService,
		ImageRedis:       p.Redis,
	}
	if p.AWSPlayer != "" {
		images[ImageAWSPlayer] = p.AWSPlayer
	}
	if p.ACK != "" {
		images[ImageACK] = p.ACK
	}
	return images
}
