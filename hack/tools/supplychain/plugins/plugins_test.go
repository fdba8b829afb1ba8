// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"}

// packAll packs programs that consist of the name of their platform.
func packAll(t *testing.T) string {
	t.Helper()
	dir, out := t.TempDir(), t.TempDir()
	write(t, filepath.Join(dir, "LICENSE"), "the license")
	for _, platform := range platforms {
		system, arch, _ := strings.Cut(platform, "/")
		program := "kubectl-flagcache"
		if system == "windows" {
			program += ".exe"
		}
		write(t, filepath.Join(dir, system+"_"+arch, program), platform)
	}
	err := run([]string{"-programs", dir, "-license", filepath.Join(dir, "LICENSE"), "-version", "v1.2.3", "-platforms", strings.Join(platforms, ","), "-out", out})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestArchivesAndManifest(t *testing.T) {
	out := packAll(t)
	text, err := os.ReadFile(filepath.Join(out, "flagcache.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest krewPlugin
	if err := yaml.UnmarshalStrict(text, &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Metadata["name"] != "flagcache" || manifest.Spec.Version != "v1.2.3" || strings.Contains(manifest.Spec.ShortDescription, "\n") {
		t.Errorf("the manifest is of %s %s: %q", manifest.Metadata["name"], manifest.Spec.Version, manifest.Spec.ShortDescription)
	}
	var got []string
	for _, p := range manifest.Spec.Platforms {
		system, arch := p.Selector.MatchLabels["os"], p.Selector.MatchLabels["arch"]
		got = append(got, system+"/"+arch)
		file, ok := strings.CutPrefix(p.URI, "https://github.com/flagcache/flagcache/releases/download/v1.2.3/")
		if !ok {
			t.Errorf("%s/%s is downloaded from %s", system, arch, p.URI)
		}
		archive, err := os.ReadFile(filepath.Join(out, file))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(archive); hex.EncodeToString(sum[:]) != p.SHA256 {
			t.Errorf("%s has another checksum than %s", file, p.SHA256)
		}
		want := map[string]string{p.Bin: "-rwxr-xr-x " + system + "/" + arch, "LICENSE": "-rw-r--r-- the license"}
		if diff := cmp.Diff(want, unpack(t, file, archive)); diff != "" {
			t.Errorf("the files of %s differ (-want +got):\n%s", file, diff)
		}
	}
	if diff := cmp.Diff(platforms, got); diff != "" {
		t.Errorf("the platforms differ (-want +got):\n%s", diff)
	}
}

// unpack reads the files of an archive, with their modes.
func unpack(t *testing.T, name string, archive []byte) map[string]string {
	t.Helper()
	files := map[string]string{}
	if strings.HasSuffix(name, ".zip") {
		r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.File {
			content, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			files[f.Name] = f.Mode().String() + " " + read(t, content)
		}
		return files
	}
	compressed, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(compressed); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = header.FileInfo().Mode().String() + " " + read(t, r)
	}
}

func read(t *testing.T, r io.Reader) string {
	t.Helper()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestArchivesAreReproducible(t *testing.T) {
	first, second := packAll(t), packAll(t)
	entries, err := os.ReadDir(first)
	if err != nil || len(entries) != len(platforms)+1 {
		t.Fatalf("there are %d files, %v", len(entries), err)
	}
	for _, entry := range entries {
		a, err := os.ReadFile(filepath.Join(first, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(second, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("two archives %s differ", entry.Name())
		}
	}
}

func TestAMissingProgramIsAnError(t *testing.T) {
	license := filepath.Join(t.TempDir(), "LICENSE")
	write(t, license, "the license")
	for platform, want := range map[string]string{"plan9/386": "reading the program", "linux": "OS/ARCH"} {
		err := run([]string{"-programs", t.TempDir(), "-license", license, "-version", "v1.2.3", "-platforms", platform, "-out", t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error for %s is %v, want %q", platform, err, want)
		}
	}
}
