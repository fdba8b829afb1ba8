// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func TestPush(t *testing.T) {
	o := testOptions(t, t.TempDir())
	if err := build(o); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	repository := strings.TrimPrefix(server.URL, "http://") + "/flagcache/manager"
	layout := filepath.Join(o.out, "manager")

	reference, err := push(layout, repository)
	if err != nil {
		t.Fatal(err)
	}
	tags, err := remote.List(mustRepository(t, repository))
	if err != nil || len(tags) != 0 {
		t.Errorf("pushed by digest, the image has the tags %v, %v", tags, err)
	}
	digest, err := name.NewDigest(reference)
	if err != nil {
		t.Fatal(err)
	}
	checkRemote(t, digest, digest)

	tagged, err := push(layout, repository+":v1.2.3")
	if err != nil || tagged != reference {
		t.Fatalf("with a tag, the reference is %s, %v, want %s", tagged, err, reference)
	}
	checkRemote(t, mustRepository(t, repository).Tag("v1.2.3"), digest)
}

// checkRemote checks that the reference is a whole image with the digest.
func checkRemote(t *testing.T, reference name.Reference, want name.Digest) {
	t.Helper()
	index, err := remote.Index(reference)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if digest.String() != want.DigestStr() {
		t.Errorf("%s has the digest %s, want %s", reference, digest, want.DigestStr())
	}
	if err := validate.Index(index); err != nil {
		t.Errorf("%s is not valid: %v", reference, err)
	}
}

func mustRepository(t *testing.T, text string) name.Repository {
	t.Helper()
	repository, err := name.NewRepository(text)
	if err != nil {
		t.Fatal(err)
	}
	return repository
}

func TestPushReportsErrors(t *testing.T) {
	o := testOptions(t, t.TempDir())
	if err := build(o); err != nil {
		t.Fatal(err)
	}
	for destination, want := range map[string]string{
		"registry.example/":              "parsing",
		"registry.example/manager:":      "parsing",
		"registry.example/MANAGER":       "parsing",
		"127.0.0.1:1/manager:v1":         "pushing 127.0.0.1:1/manager@sha256:",
		"localhost:1/flagcache/manager":  "pushing localhost:1/flagcache/manager@sha256:",
		"registry.example/manager@sha25": "parsing",
	} {
		if _, err := push(filepath.Join(o.out, "manager"), destination); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error of %s is %v, want %q", destination, err, want)
		}
	}
	if _, err := push(o.programs, "registry.example/manager"); err == nil || !strings.Contains(err.Error(), "run make images") {
		t.Errorf("without a layout, the error is %v", err)
	}
}

func TestArchive(t *testing.T) {
	o := testOptions(t, t.TempDir())
	if err := build(o); err != nil {
		t.Fatal(err)
	}
	layout, file := filepath.Join(o.out, "manager"), filepath.Join(t.TempDir(), "manager.tar")
	if err := archive(layout, "registry.example/manager:dev", "linux/arm64", file); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("registry.example/manager:dev")
	if err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(file, &tag)
	if err != nil {
		t.Fatal(err)
	}
	checkImage(t, image, "manager", "FlagCache operator", v1.Platform{OS: "linux", Architecture: "arm64"})
	if err := archive(layout, "registry.example/manager:dev", "linux/s390x", file); err == nil {
		t.Error("an image of a platform that was not built is archived")
	}
}
