// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package supplychain

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// emulator runs programs of arm64 on other machines, where it is installed.
const emulator = "qemu-aarch64-static"

// machines are the ELF machines of architectures.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// checkPrograms unpacks the images of each platform, and runs those of this machine's
// architecture as a container engine would: with the image as the root directory, as its
// user. Programs of arm64 run in the emulator, if there is one. Of others, the ELF header
// is checked.
func (r *release) checkPrograms(t *testing.T) {
	for _, name := range imageNames {
		for _, platform := range r.platforms {
			_, arch, _ := strings.Cut(platform, "_")
			root, config := r.unpack(t, name, arch)
			program := config.Entrypoint[0]
			checkMachine(t, filepath.Join(root, program), arch)
			var arguments []string
			if name == "flag-service" {
				arguments = []string{"version"} // the manager states it when it starts
			}
			output, ok := runIn(t, root, arch, program, arguments)
			if ok && !strings.Contains(output, r.version) {
				t.Errorf("%s of %s does not print its version %s:\n%s", program, platform, r.version, output)
			}
		}
	}
}

// runIn runs a program of an unpacked image. It reports whether this machine can.
func runIn(t *testing.T, root, arch, program string, arguments []string) (string, bool) {
	t.Helper()
	var command *exec.Cmd
	if arch == runtime.GOARCH && runtime.GOOS == "linux" {
		command = exec.CommandContext(t.Context(), program, arguments...)
		command.Dir = "/"
		contain(command, root)
	} else {
		path, err := exec.LookPath(emulator)
		if arch != "arm64" || err != nil {
			return "", false
		}
		command = exec.CommandContext(t.Context(), path, append([]string{filepath.Join(root, program)}, arguments...)...)
	}
	command.Env = []string{"PATH=/"}
	output, err := command.CombinedOutput()
	// The manager ends, because there is no cluster.
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("starting %s of %s: %v", program, arch, err)
	}
	return string(output), true
}

func checkMachine(t *testing.T, path, arch string) {
	t.Helper()
	program, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = program.Close() }()
	if program.Machine != machines[arch] || program.Type != elf.ET_EXEC {
		t.Errorf("%s is a %s for %s, want an executable for %s", path, program.Type, program.Machine, arch)
	}
}

// unpack writes the files of an image to a directory.
func (r *release) unpack(t *testing.T, name, arch string) (root string, config v1.Config) {
	t.Helper()
	image := r.image(t, name, arch)
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	root = filepath.Join(t.TempDir(), name+"-"+arch)
	stream := mutate.Extract(image)
	defer stream.Close()
	for entries := tar.NewReader(stream); ; {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag != tar.TypeDir {
			write(t, filepath.Join(root, header.Name), header.FileInfo().Mode(), entries)
		}
	}
	// The directories of the test are those of its user alone.
	for dir := root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root, file.Config
}

func write(t *testing.T, path string, mode os.FileMode, content io.Reader) {
	t.Helper()
	var text bytes.Buffer
	if _, err := io.Copy(&text, content); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text.Bytes(), mode); err != nil {
		t.Fatal(err)
	}
}

// image is the image of an architecture in a layout that was built. The layout has one
// image for all platforms, which has one for each.
func (r *release) image(t *testing.T, name, arch string) v1.Image {
	t.Helper()
	digests := r.digests(t)
	layouts, err := layout.ImageIndexFromPath(filepath.Join(r.root, r.dist, "images", name))
	if err != nil {
		t.Fatal(err)
	}
	platforms, err := layouts.ImageIndex(hash(t, digests[name]))
	if err != nil {
		t.Fatal(err)
	}
	image, err := platforms.Image(hash(t, digests[name+"/linux/"+arch]))
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func hash(t *testing.T, digest string) v1.Hash {
	t.Helper()
	hash, err := v1.NewHash(digest)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}
