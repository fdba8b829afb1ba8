// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command images builds FlagCache's container images without a container engine, and
// copies them to a registry or to an engine.
//
//	images build -programs DIR -out DIR -version V -revision COMMIT -created TIME -platforms OS/ARCH,...
//	images push LAYOUT REPOSITORY[:TAG]
//	images archive LAYOUT REPOSITORY:TAG OS/ARCH FILE
//
// Build writes a multi-arch image in an OCI layout for each program, and their digests to
// digests.txt. An image contains the program, CA certificates and a user that is not root;
// there is no base image. The same input results in the same digests.
//
// Push copies an image to a registry, with the credentials of docker login, and prints its
// reference by digest. Archive writes the image of one platform for docker load.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	switch {
	case len(args) > 0 && args[0] == "build":
		o, err := buildOptions(args[1:])
		if err != nil {
			return err
		}
		return build(o)
	case len(args) == 3 && args[0] == "push":
		reference, err := push(args[1], args[2])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(stdout, reference)
		return err
	case len(args) == 5 && args[0] == "archive":
		return archive(args[1], args[2], args[3], args[4])
	default:
		return errors.New("usage: images build FLAGS, images push LAYOUT REPOSITORY[:TAG], or images archive LAYOUT REPOSITORY:TAG OS/ARCH FILE")
	}
}

// options are the input of build.
type options struct {
	// programs is a directory with the programs of each platform, in OS_ARCH.
	programs string
	// out is the directory of the layouts, one for each image.
	out string
	// version and revision describe what the programs were built from.
	version, revision string
	created           time.Time
	platforms         []v1.Platform
}

func buildOptions(args []string) (options, error) {
	var o options
	var created, platforms string
	fs := flag.NewFlagSet("images build", flag.ContinueOnError)
	fs.StringVar(&o.programs, "programs", "", "`directory` with the programs of each platform, in OS_ARCH")
	fs.StringVar(&o.out, "out", "", "`directory` of the layouts")
	fs.StringVar(&o.version, "version", "", "version of the programs")
	fs.StringVar(&o.revision, "revision", "", "commit that the programs were built from")
	fs.StringVar(&created, "created", "", "time of that commit, in RFC 3339")
	fs.StringVar(&platforms, "platforms", "linux/amd64,linux/arm64", "OS/ARCH, separated by commas")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	for name, value := range map[string]string{"programs": o.programs, "out": o.out, "version": o.version, "revision": o.revision} {
		if value == "" {
			return o, fmt.Errorf("-%s is required", name)
		}
	}
	t, err := time.Parse(time.RFC3339, created)
	if err != nil {
		return o, fmt.Errorf("parsing -created: %w", err)
	}
	o.created = t.UTC()
	for text := range strings.SplitSeq(platforms, ",") {
		platform, err := v1.ParsePlatform(text)
		if err != nil {
			return o, fmt.Errorf("parsing -platforms: %w", err)
		}
		o.platforms = append(o.platforms, *platform)
	}
	return o, nil
}
