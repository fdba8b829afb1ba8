// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package supplychain

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"sigs.k8s.io/yaml"
)

// TestRelease runs the scripts of the release workflow in its order. They push to a
// registry of the test; docker, cosign and gh are replaced by programs that record how
// they are called.
//
// The images of RELEASE_PLATFORMS are built, by default those of this machine's
// architecture, because another one takes minutes to compile.
func TestRelease(t *testing.T) {
	r := newRelease(t)
	r.script(t, "build.sh", r.version)
	first := r.read(t, "release/checksums.txt") + r.read(t, "images/digests.txt")
	t.Run("a second build has the same checksums and digests", func(t *testing.T) {
		r.script(t, "build.sh", r.version)
		if diff := cmp.Diff(first, r.read(t, "release/checksums.txt")+r.read(t, "images/digests.txt")); diff != "" {
			t.Errorf("the builds differ (-first +second):\n%s", diff)
		}
	})
	t.Run("everything is built", r.checkBuild)
	t.Run("manifests name the images by digest", r.checkManifests)
	t.Run("the programs of the images run", r.checkPrograms)
	t.Run("images are pushed by digest", r.checkPush)
	t.Run("images and their SBOMs are signed", r.checkSignatures)
	t.Run("signed images are tagged", r.checkTags)
	t.Run("the release is published", r.checkPublish)
	t.Run("a changed file is not published", r.checkTampering)
}

func (r *release) checkBuild(t *testing.T) {
	want := []string{"flagcache.yaml", "install.yaml"}
	for _, platform := range r.platforms {
		want = append(want, "manager_"+platform+".spdx.json", "flag-service_"+platform+".spdx.json",
			"kubectl-flagcache_"+platform+".spdx.json", "kubectl-flagcache_"+r.version+"_"+platform+".tar.gz")
	}
	slices.Sort(want)
	var got []string
	for line := range strings.Lines(r.read(t, "release/checksums.txt")) {
		sum, file, _ := strings.Cut(strings.TrimSpace(line), "  ")
		got = append(got, file)
		if actual := sha256.Sum256([]byte(r.read(t, "release/"+file))); hex.EncodeToString(actual[:]) != sum {
			t.Errorf("%s has another checksum than checksums.txt states", file)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the files of the release differ (-want +got):\n%s", diff)
	}
	if notes := r.read(t, "notes.md"); !strings.Contains(notes, "/releases/download/"+r.version+"/install.yaml") {
		t.Errorf("the notes do not state how the release is installed:\n%s", notes)
	}
}

func (r *release) checkManifests(t *testing.T) {
	var images []string
	for document := range strings.SplitSeq(r.read(t, "release/install.yaml"), "\n---\n") {
		var deployment struct {
			Kind string `json:"kind"`
			Spec struct {
				Template struct {
					Spec struct {
						Containers []struct {
							Image string `json:"image"`
							Env   []struct{ Name, Value string }
						} `json:"containers"`
					} `json:"spec"`
				} `json:"template"`
			} `json:"spec"`
		}
		if err := yaml.Unmarshal([]byte(document), &deployment); err != nil {
			t.Fatal(err)
		}
		if deployment.Kind != "Deployment" {
			continue
		}
		container := deployment.Spec.Template.Spec.Containers[0]
		images = append(images, container.Image)
		for _, variable := range container.Env {
			if variable.Name == "FLAG_SERVICE_IMAGE" {
				images = append(images, variable.Value)
			}
		}
	}
	var want []string
	for _, image := range imageNames {
		want = append(want, "ghcr.io/flagcache/"+image+":"+r.version+"@"+r.digests(t)[image])
	}
	if diff := cmp.Diff(want, images); diff != "" {
		t.Errorf("the images of install.yaml differ (-want +got):\n%s", diff)
	}
}

// imageNames are the names of the images.
var imageNames = []string{"manager", "flag-service"}

func (r *release) checkPush(t *testing.T) {
	output := filepath.Join(t.TempDir(), "output")
	calls := r.script(t, "push.sh", "", "REGISTRY_USER=somebody", "REGISTRY_TOKEN=secret", "GITHUB_OUTPUT="+output)
	host, _, _ := strings.Cut(r.registry, "/")
	if want := []string{"docker login " + host + " --username somebody --password-stdin"}; !slices.Equal(calls, want) {
		t.Errorf("the calls are %q, want %q", calls, want)
	}
	text, err := os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	var want string
	for _, image := range imageNames {
		digest := r.digests(t)[image]
		want += image + "=" + digest + "\n"
		if got := r.pushed(t, image+"@"+digest); got != digest {
			t.Errorf("the registry has %s of %s, want %s", got, image, digest)
		}
		repository, err := name.NewRepository(r.registry + "/" + image)
		if err != nil {
			t.Fatal(err)
		}
		if tags, err := remote.List(repository); err != nil || len(tags) > 0 {
			t.Errorf("before it is signed, %s has the tags %v, %v", image, tags, err)
		}
	}
	if string(text) != want {
		t.Errorf("the step's outputs are %q, want %q", text, want)
	}
}

func (r *release) checkSignatures(t *testing.T) {
	calls := r.script(t, "sign-images.sh", "")
	var want []string
	for _, image := range imageNames {
		want = append(want, "cosign sign --yes --recursive "+r.registry+"/"+image+"@"+r.digests(t)[image])
		for _, platform := range r.platforms {
			bill := "release/" + image + "_" + platform + ".spdx.json"
			digest := r.digests(t)[image+"/"+strings.Replace(platform, "_", "/", 1)]
			want = append(want, "cosign attest --yes --type spdxjson --predicate "+r.dist+"/"+bill+" "+r.registry+"/"+image+"@"+digest)
			if text := r.read(t, bill); !strings.Contains(text, `"spdxVersion": "SPDX-2.3"`) || !strings.Contains(text, `"versionInfo": "`+r.version+`"`) {
				t.Errorf("%s is not an SBOM of %s", bill, r.version)
			}
			r.pushed(t, image+"@"+digest)
		}
	}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Errorf("the calls differ (-want +got):\n%s", diff)
	}
}

func (r *release) checkTags(t *testing.T) {
	r.script(t, "push.sh", r.version)
	for _, image := range imageNames {
		if got, want := r.pushed(t, image+":"+r.version), r.digests(t)[image]; got != want {
			t.Errorf("%s:%s has the digest %s, want %s", image, r.version, got, want)
		}
	}
}

func (r *release) checkPublish(t *testing.T) {
	calls := r.script(t, "publish.sh", r.version)
	if len(calls) != 2 {
		t.Fatalf("the calls are %q", calls)
	}
	sums := r.dist + "/release/checksums.txt"
	if want := "cosign sign-blob --yes --bundle " + sums + ".sigstore.json " + sums; calls[0] != want {
		t.Errorf("the first call is %q, want %q", calls[0], want)
	}
	want := "gh release create " + r.version + " --verify-tag --title " + r.version + " --notes-file " + r.dist + "/notes.md "
	files, ok := strings.CutPrefix(calls[1], want)
	if !ok || !strings.Contains(files, sums) || !strings.Contains(files, "/install.yaml") || strings.Contains(files, "prerelease") {
		t.Errorf("the second call is %q, want %q and all files", calls[1], want)
	}
	if calls := r.script(t, "publish.sh", "v1.0.0-rc.1"); !strings.Contains(calls[1], " --prerelease ") {
		t.Errorf("a release candidate is published as a release: %q", calls[1])
	}
}

func (r *release) checkTampering(t *testing.T) {
	path := filepath.Join(r.root, r.dist, "release/install.yaml")
	if err := os.WriteFile(path, []byte("kind: Other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	calls, _, err := r.run(t, "publish.sh", r.version)
	if err == nil || len(calls) > 0 {
		t.Errorf("it was published: %v, %q", err, calls)
	}
}

func TestBuildRefusesOtherVersions(t *testing.T) {
	r := newRelease(t)
	for version, want := range map[string]string{
		"latest":   "is not a version",
		"v1":       "is not a version",
		"v999.0.0": "the manifests name " + r.version,
	} {
		if _, output, err := r.run(t, "build.sh", version); err == nil || !strings.Contains(output, want) {
			t.Errorf("the result for %s is %v, want %q:\n%s", version, err, want, output)
		}
	}
}

// TestNotes makes a repository with two releases.
func TestNotes(t *testing.T) {
	r := newRelease(t)
	dir := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		args = append([]string{"-C", dir, "-c", "user.name=A", "-c", "user.email=a@example", "-c", "commit.gpgsign=false"}, args...)
		if output, err := command(t, r.root, nil, "git", args...); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
	}
	notes := func(version string) string {
		t.Helper()
		output, err := command(t, dir, nil, filepath.Join(r.root, "hack/release/notes.sh"), version)
		if err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		return output
	}
	git("init", "--quiet")
	git("commit", "--quiet", "--allow-empty", "--message", "plan: one")
	git("tag", "v0.1.0")
	if got := notes("v0.1.0"); !strings.Contains(got, "This is the first release.") || strings.Contains(got, "plan: one") {
		t.Errorf("the notes of the first release are\n%s", got)
	}
	git("commit", "--quiet", "--allow-empty", "--message", "probe: two")
	git("commit", "--quiet", "--allow-empty", "--message", "cache: three")
	git("tag", "v0.2.0")
	got := regexp.MustCompile(`\([0-9a-f]{7,}\)`).ReplaceAllString(notes("v0.2.0"), "(0123abc)")
	if _, changes, _ := strings.Cut(got, "## Changes\n"); changes != "\n- probe: two (0123abc)\n- cache: three (0123abc)\n\n"+
		"All changes: https://github.com/flagcache/flagcache/compare/v0.1.0...v0.2.0\n" {
		t.Errorf("the notes of the second release are\n%s", got)
	}
}

// TestScriptsOfTheWorkflow checks that the steps of the release workflow are the scripts
// that the tests above run.
func TestScriptsOfTheWorkflow(t *testing.T) {
	r := newRelease(t)
	text, err := os.ReadFile(filepath.Join(r.root, ".github/workflows/release.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var workflow struct {
		Jobs map[string]struct {
			Steps []struct{ Run string }
		}
	}
	if err := yaml.Unmarshal(text, &workflow); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, job := range []string{"build", "images", "publish"} {
		for _, step := range workflow.Jobs[job].Steps {
			if step.Run != "" {
				got = append(got, strings.TrimPrefix(step.Run, "hack/release/"))
			}
		}
	}
	want := []string{`build.sh "$GITHUB_REF_NAME"`, "push.sh", "sign-images.sh", `push.sh "$GITHUB_REF_NAME"`, `publish.sh "$GITHUB_REF_NAME"`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the steps differ (-want +got):\n%s", diff)
	}
}

// newRegistry starts a registry in memory, and returns its address with a path.
func newRegistry(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://") + "/flagcache"
}

// pushed is the digest of what the registry has.
func (r *release) pushed(t *testing.T, image string) string {
	t.Helper()
	reference, err := name.ParseReference(r.registry + "/" + image)
	if err != nil {
		t.Fatal(err)
	}
	descriptor, err := remote.Get(reference)
	if err != nil {
		t.Fatalf("reading %s of the registry: %v", image, err)
	}
	if !bytes.Contains(descriptor.Manifest, []byte("org.opencontainers.image.version")) {
		t.Errorf("%s has no version", image)
	}
	return descriptor.Digest.String()
}
