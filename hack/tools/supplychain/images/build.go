// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"debug/elf"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// user runs the programs. Its number is also in the images' /etc/passwd, and it is the one
// that Kubernetes compares with runAsNonRoot.
const user = "65532:65532"

// programs are those that have an image, with its title.
var programs = []struct{ name, title string }{
	{"manager", "FlagCache operator"},
	{"flag-service", "FlagCache flag service"},
}

// build writes a layout for each program, and the digests of all images.
func build(o options) error {
	base, err := baseLayer()
	if err != nil {
		return err
	}
	var digests strings.Builder
	for _, program := range programs {
		index, err := indexOf(base, program.name, program.title, o)
		if err != nil {
			return fmt.Errorf("building the image of %s: %w", program.name, err)
		}
		if err := writeLayout(filepath.Join(o.out, program.name), o.version, index); err != nil {
			return fmt.Errorf("writing the layout of %s: %w", program.name, err)
		}
		if err := listDigests(&digests, program.name, index); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(o.out, "digests.txt"), []byte(digests.String()), 0o600)
}

// indexOf is the image of a program for all platforms.
func indexOf(base v1.Layer, program, title string, o options) (v1.ImageIndex, error) {
	labels := map[string]string{
		"org.opencontainers.image.title":    title,
		"org.opencontainers.image.version":  o.version,
		"org.opencontainers.image.revision": o.revision,
		"org.opencontainers.image.created":  o.created.Format(time.RFC3339),
		"org.opencontainers.image.source":   "https://github.com/flagcache/flagcache",
		"org.opencontainers.image.licenses": "Apache-2.0",
	}
	var index v1.ImageIndex = empty.Index
	for _, platform := range o.platforms {
		image, err := imageOf(base, program, platform, labels, o)
		if err != nil {
			return nil, fmt.Errorf("for %s: %w", platform, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &platform}})
	}
	return mutate.Annotations(index, labels).(v1.ImageIndex), nil
}

// imageOf is the image of a program for one platform.
func imageOf(base v1.Layer, program string, platform v1.Platform, labels map[string]string, o options) (v1.Image, error) {
	path := filepath.Join(o.programs, platform.OS+"_"+platform.Architecture, program)
	if err := checkProgram(path, platform); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the program: %w", err)
	}
	layer, err := layerOf([]file{{name: program, mode: 0o755, content: text}})
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Created: v1.Time{Time: o.created},
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{Entrypoint: []string{"/" + program}, User: user, WorkingDir: "/", Labels: maps.Clone(labels)},
	})
	if err != nil {
		return nil, fmt.Errorf("configuring the image: %w", err)
	}
	created := v1.Time{Time: o.created}
	image, err = mutate.Append(image,
		mutate.Addendum{Layer: base, History: v1.History{Created: created, CreatedBy: "CA certificates and a user"}},
		mutate.Addendum{Layer: layer, History: v1.History{Created: created, CreatedBy: "go build " + program}})
	if err != nil {
		return nil, fmt.Errorf("appending the layers: %w", err)
	}
	return mutate.Annotations(image, labels).(v1.Image), nil
}

// machines are the ELF machines of architectures.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// checkProgram checks that a program is for the platform, and that it is static, because
// the image has no dynamic linker and no libraries.
func checkProgram(path string, platform v1.Platform) error {
	program, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("opening the program: %w", err)
	}
	defer func() { _ = program.Close() }()
	if want, known := machines[platform.Architecture]; !known || program.Machine != want {
		return fmt.Errorf("%s is a program for %s", path, program.Machine)
	}
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is linked dynamically: build it with CGO_ENABLED=0", path)
		}
	}
	return nil
}

// writeLayout replaces an OCI layout by one with the index.
func writeLayout(dir, version string, index v1.ImageIndex) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": version}))
}

// listDigests writes a line for the index, and one for each of its platforms.
func listDigests(w *strings.Builder, program string, index v1.ImageIndex) error {
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s %s\n", program, digest)
	for _, m := range manifest.Manifests {
		fmt.Fprintf(w, "%s/%s %s\n", program, m.Platform, m.Digest)
	}
	return nil
}
