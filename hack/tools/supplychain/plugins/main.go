// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command plugins packs kubectl's plugin for each platform, and writes the manifest that
// krew installs it by.
//
//	plugins -programs DIR -license FILE -version V -platforms OS/ARCH,... -out DIR
//
// The same input results in the same archives.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// name is the program's; kubectl flagcache runs it.
const name = "kubectl-flagcache"

// downloads is where the archives of a version can be had.
const downloads = "https://github.com/flagcache/flagcache/releases/download/"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "plugins:", err)
		os.Exit(1)
	}
}

// packed is the archive of a platform.
type packed struct {
	os, arch string
	// file is the archive's name, and program that of the program in it.
	file, program string
	digest        string
}

func run(args []string) error {
	fs := flag.NewFlagSet("plugins", flag.ContinueOnError)
	programs := fs.String("programs", "", "`directory` with the programs of each platform, in OS_ARCH")
	license := fs.String("license", "", "`file` with the license")
	version := fs.String("version", "", "version of the programs, such as v1.2.3")
	platforms := fs.String("platforms", "", "OS/ARCH, separated by commas")
	out := fs.String("out", "", "`directory` of the archives and of the manifest")
	if err := fs.Parse(args); err != nil {
		return err
	}
	text, err := os.ReadFile(*license)
	if err != nil {
		return fmt.Errorf("reading the license: %w", err)
	}
	var all []packed
	for platform := range strings.SplitSeq(*platforms, ",") {
		p, err := pack(*programs, *out, *version, platform, text)
		if err != nil {
			return fmt.Errorf("packing the plugin for %s: %w", platform, err)
		}
		all = append(all, p)
	}
	manifest, err := krewManifest(*version, all)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(*out, "flagcache.yaml"), manifest, 0o644)
}

// pack packs the program of one platform: a zip archive for Windows, else a tarball.
func pack(programs, out, version, platform string, license []byte) (packed, error) {
	system, arch, ok := strings.Cut(platform, "/")
	if !ok {
		return packed{}, fmt.Errorf("a platform has the form OS/ARCH")
	}
	p := packed{os: system, arch: arch, program: name, file: fmt.Sprintf("%s_%s_%s_%s.tar.gz", name, version, system, arch)}
	write := tarball
	if system == "windows" {
		p.program, p.file, write = name+".exe", fmt.Sprintf("%s_%s_%s_%s.zip", name, version, system, arch), zipped
	}
	program, err := os.ReadFile(filepath.Join(programs, system+"_"+arch, p.program))
	if err != nil {
		return packed{}, fmt.Errorf("reading the program: %w", err)
	}
	archive, err := write([]file{{p.program, 0o755, program}, {"LICENSE", 0o644, license}})
	if err != nil {
		return packed{}, err
	}
	sum := sha256.Sum256(archive)
	p.digest = hex.EncodeToString(sum[:])
	return p, os.WriteFile(filepath.Join(out, p.file), archive, 0o644)
}
