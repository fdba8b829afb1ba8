// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// created is the time of the commit in these tests.
var created = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// testOptions builds images of small programs for both platforms in dir.
func testOptions(t *testing.T, dir string) options {
	t.Helper()
	o := options{
		programs: filepath.Join(dir, "programs"), out: filepath.Join(dir, "images"),
		version: "v1.2.3", revision: "0123abc", created: created,
	}
	for _, arch := range []string{"amd64", "arm64"} {
		o.platforms = append(o.platforms, v1.Platform{OS: "linux", Architecture: arch})
		for _, p := range programs {
			compile(t, arch, filepath.Join(o.programs, "linux_"+arch, p.name))
		}
	}
	return o
}

// compiled are the programs that were built, by architecture and flags.
var compiled = map[string][]byte{}

// compile builds a program that does nothing, once, and writes it to path.
func compile(t *testing.T, arch, path string, flags ...string) {
	t.Helper()
	key := strings.Join(append(flags, arch), " ")
	if compiled[key] == nil {
		compiled[key] = compileFor(t, arch, flags)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, compiled[key], 0o600); err != nil {
		t.Fatal(err)
	}
}

func compileFor(t *testing.T, arch string, flags []string) []byte {
	t.Helper()
	source, out := filepath.Join(t.TempDir(), "main.go"), filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command("go", append(append([]string{"build", "-trimpath", "-o", out}, flags...), source)...)
	command.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("building a program: %v\n%s", err, output)
	}
	program, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func TestImagesAreReproducible(t *testing.T) {
	first := testOptions(t, t.TempDir())
	second := testOptions(t, filepath.Join(t.TempDir(), "a", "longer", "path"))
	for _, p := range second.platforms {
		old := filepath.Join(second.programs, "linux_"+p.Architecture, "manager")
		if err := os.Chtimes(old, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(old, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []options{first, second, second} { // a build replaces the previous one
		if err := build(o); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(sums(t, first.out), sums(t, second.out)); diff != "" {
		t.Errorf("two builds differ (-first +second):\n%s", diff)
	}
}

// sums are the checksums of all files of a directory.
func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		sums[name] = fmt.Sprintf("%x", sha256.Sum256(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

func TestImages(t *testing.T) {
	o := testOptions(t, t.TempDir())
	if err := build(o); err != nil {
		t.Fatal(err)
	}
	var digests []string
	for _, p := range programs {
		index, err := readLayout(filepath.Join(o.out, p.name))
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Index(index); err != nil {
			t.Errorf("the image of %s is not valid: %v", p.name, err)
		}
		digest, err := index.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, p.name+" "+digest.String())
		manifest, err := index.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range manifest.Manifests {
			image, err := index.Image(m.Digest)
			if err != nil {
				t.Fatal(err)
			}
			checkImage(t, image, p.name, p.title, o.platforms[i])
			digests = append(digests, p.name+"/linux/"+o.platforms[i].Architecture+" "+m.Digest.String())
		}
	}
	text, err := os.ReadFile(filepath.Join(o.out, "digests.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Join(digests, "\n")+"\n", string(text)); diff != "" {
		t.Errorf("digests.txt differs from the images (-images +file):\n%s", diff)
	}
}

func checkImage(t *testing.T, image v1.Image, program, title string, platform v1.Platform) {
	t.Helper()
	got, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got.OS != platform.OS || got.Architecture != platform.Architecture || !got.Created.Equal(created) {
		t.Errorf("the image is for %s/%s and of %s", got.OS, got.Architecture, got.Created)
	}
	want := v1.Config{
		User: "65532:65532", Entrypoint: []string{"/" + program}, WorkingDir: "/",
		Labels: map[string]string{
			"org.opencontainers.image.title":    title,
			"org.opencontainers.image.version":  "v1.2.3",
			"org.opencontainers.image.revision": "0123abc",
			"org.opencontainers.image.created":  "2026-11-30T12:00:00Z",
			"org.opencontainers.image.source":   "https://github.com/flagcache/flagcache",
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	if diff := cmp.Diff(want, got.Config); diff != "" {
		t.Errorf("the configuration differs (-want +got):\n%s", diff)
	}
	files := filesOf(t, image)
	names := slices.Sorted(maps.Keys(files))
	if diff := cmp.Diff([]string{"etc", "etc/group", "etc/passwd", "etc/ssl", "etc/ssl/certs", "etc/ssl/certs/ca-certificates.crt", program}, names); diff != "" {
		t.Errorf("the files differ (-want +got):\n%s", diff)
	}
	if !strings.Contains(files["etc/passwd"], "\nnonroot:x:65532:65532:") {
		t.Errorf("the user is not in /etc/passwd: %q", files["etc/passwd"])
	}
}

// filesOf reads the files of an image, and checks that only root can change them.
func filesOf(t *testing.T, image v1.Image) map[string]string {
	t.Helper()
	stream := mutate.Extract(image)
	defer stream.Close()
	files := map[string]string{}
	for r := tar.NewReader(stream); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Uid != 0 || header.Gid != 0 || header.Mode&0o022 != 0 || !header.ModTime.Equal(time.Unix(0, 0)) {
			t.Errorf("%s belongs to %d:%d, has the mode %o and the time %s", header.Name, header.Uid, header.Gid, header.Mode, header.ModTime)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimSuffix(header.Name, "/")] = string(text)
	}
}

func TestCertificates(t *testing.T) {
	text := certificates()
	if !bytes.HasPrefix(text, []byte("# golang.org/x/crypto/x509roots/fallback ")) {
		t.Errorf("the origin of the certificates is not stated: %.80s", text)
	}
	var subjects []string
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		subjects = append(subjects, certificate.Subject.CommonName)
	}
	// AWS, ElastiCache included, and GitHub.
	for _, name := range []string{"Amazon Root CA 1", "ISRG Root X1"} {
		if !slices.Contains(subjects, name) {
			t.Errorf("%s is missing among %d certificates", name, len(subjects))
		}
	}
}

func TestProgramsMustFit(t *testing.T) {
	for name, test := range map[string]struct {
		arch  string
		flags []string
		want  string
	}{
		"another architecture": {arch: "amd64", want: "is a program for EM_X86_64"},
		"a dynamic executable": {arch: "arm64", flags: []string{"-buildmode=pie"}, want: "is linked dynamically"},
	} {
		t.Run(name, func(t *testing.T) {
			o := testOptions(t, t.TempDir())
			compile(t, test.arch, filepath.Join(o.programs, "linux_arm64", "flag-service"), test.flags...)
			if err := build(o); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
		})
	}
}

func TestOptionsAreChecked(t *testing.T) {
	valid := []string{"-programs=p", "-out=o", "-version=v1.2.3", "-revision=0123abc", "-created=2026-11-30T13:00:00+01:00"}
	o, err := buildOptions(valid)
	if err != nil {
		t.Fatal(err)
	}
	if len(o.platforms) != 2 || !o.created.Equal(created) || o.created.Location() != time.UTC {
		t.Errorf("the options are %+v", o)
	}
	for _, invalid := range []string{"-revision=", "-version=", "-created=yesterday", "-platforms=a/b/c/d"} {
		if _, err := buildOptions(append(slices.Clone(valid), invalid)); err == nil {
			t.Errorf("%s is accepted", invalid)
		}
	}
}
