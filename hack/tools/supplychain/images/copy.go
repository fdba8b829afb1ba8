// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// push copies the image of a layout to a repository by its digest, and tags it if a tag
// is given. It returns the image's reference by digest.
func push(dir, destination string) (string, error) {
	index, err := readLayout(dir)
	if err != nil {
		return "", err
	}
	digest, err := index.Digest()
	if err != nil {
		return "", err
	}
	repository, tagged, err := parseDestination(destination)
	if err != nil {
		return "", err
	}
	auth := remote.WithAuthFromKeychain(authn.DefaultKeychain)
	reference := repository.Digest(digest.String())
	if err := remote.WriteIndex(reference, index, auth); err != nil {
		return "", fmt.Errorf("pushing %s: %w", reference, err)
	}
	if tagged != nil {
		if err := remote.Tag(*tagged, index, auth); err != nil {
			return "", fmt.Errorf("tagging %s: %w", tagged, err)
		}
	}
	return reference.String(), nil
}

// parseDestination parses REPOSITORY or REPOSITORY:TAG. A tag is nil if there is none:
// there is no default one.
func parseDestination(destination string) (name.Repository, *name.Tag, error) {
	if strings.Contains(destination[strings.LastIndex(destination, "/")+1:], ":") {
		tag, err := name.NewTag(destination, name.StrictValidation)
		if err != nil {
			return name.Repository{}, nil, fmt.Errorf("parsing %q: %w", destination, err)
		}
		return tag.Context(), &tag, nil
	}
	repository, err := name.NewRepository(destination, name.StrictValidation)
	if err != nil {
		return name.Repository{}, nil, fmt.Errorf("parsing %q: %w", destination, err)
	}
	return repository, nil, nil
}

// archive writes the image of one platform to a file, in the format of docker save.
func archive(dir, destination, platform, path string) error {
	index, err := readLayout(dir)
	if err != nil {
		return err
	}
	tag, err := name.NewTag(destination, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("parsing %q: %w", destination, err)
	}
	wanted, err := v1.ParsePlatform(platform)
	if err != nil {
		return fmt.Errorf("parsing %q: %w", platform, err)
	}
	images, err := partial.FindImages(index, match.Platforms(*wanted))
	if err != nil {
		return fmt.Errorf("searching the image of %s: %w", platform, err)
	}
	if len(images) != 1 {
		return fmt.Errorf("%s has %d images for %s", dir, len(images), platform)
	}
	if err := tarball.WriteToFile(path, tag, images[0]); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	return nil
}

// readLayout reads the multi-arch image of a layout.
func readLayout(dir string) (v1.ImageIndex, error) {
	all, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the layout (run make images): %w", err)
	}
	manifest, err := all.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("reading the layout: %w", err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("the layout %s has %d images", dir, len(manifest.Manifests))
	}
	return all.ImageIndex(manifest.Manifests[0].Digest)
}
