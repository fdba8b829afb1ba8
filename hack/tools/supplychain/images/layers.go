// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"path"
	"runtime/debug"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// rootsModule is the module of the CA certificates: those of Mozilla.
const rootsModule = "golang.org/x/crypto/x509roots/fallback"

// file is a file of an image. It belongs to root, so that the program cannot change it.
type file struct {
	name    string
	mode    int64
	content []byte
}

// baseLayer is what all images have in common: the CA certificates where Go, and other
// programs that run beside, search them first, and names for the users.
func baseLayer() (v1.Layer, error) {
	return layerOf([]file{
		{"etc/group", 0o644, []byte("root:x:0:\nnonroot:x:65532:\n")},
		{"etc/passwd", 0o644, []byte("root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n")},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, certificates()},
	})
}

// certificates are the CA certificates in PEM. Those that Mozilla trusts only under
// conditions are left out, because PEM cannot express the conditions.
func certificates() []byte {
	var text bytes.Buffer
	fmt.Fprintf(&text, "# %s %s\n", rootsModule, versionOf(rootsModule))
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // writes to memory
		}
	}
	return text.Bytes()
}

// versionOf is the version of a module of this program.
func versionOf(module string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				return dependency.Version
			}
		}
	}
	return "(unknown version)"
}

// layerOf is a layer with files, and the directories that they are in. All times are the
// epoch: that of the build, or of a file on disk, would change the digest.
func layerOf(files []file) (v1.Layer, error) {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	made := map[string]bool{".": true}
	for _, f := range files {
		if err := writeDirectories(w, path.Dir(f.name), made); err != nil {
			return nil, err
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: time.Unix(0, 0)}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("writing %s: %w", f.name, err)
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, fmt.Errorf("writing %s: %w", f.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

// writeDirectories writes a directory after those that it is in, once.
func writeDirectories(w *tar.Writer, dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	if err := writeDirectories(w, path.Dir(dir), made); err != nil {
		return err
	}
	made[dir] = true
	header := &tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: time.Unix(0, 0)}
	if err := w.WriteHeader(header); err != nil {
		return fmt.Errorf("writing %s: %w", dir, err)
	}
	return nil
}
