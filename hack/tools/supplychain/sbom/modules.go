// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/google/licensecheck"
	xmodule "golang.org/x/mod/module"
)

// module is a module that a program contains.
type module struct {
	path, version string
	// sum is the checksum in go.sum.
	sum string
	// download is the address of the module's archive.
	download string
	// license is an SPDX license expression.
	license string
}

// modulesOf lists the modules of a program: the standard library, and those that it
// requires.
func modulesOf(info *debug.BuildInfo) ([]module, error) {
	cache, err := goEnv("GOMODCACHE")
	if err != nil {
		return nil, err
	}
	version := strings.TrimPrefix(strings.Fields(info.GoVersion)[0], "go")
	modules := []module{{path: "std", version: version, download: "https://go.dev/dl/go" + version + ".src.tar.gz", license: "BSD-3-Clause"}}
	for _, dependency := range info.Deps {
		if dependency.Replace != nil {
			dependency = dependency.Replace
		}
		m, err := moduleIn(cache, dependency)
		if err != nil {
			return nil, fmt.Errorf("describing %s: %w", dependency.Path, err)
		}
		modules = append(modules, m)
	}
	return modules, nil
}

// moduleIn describes a module of the module cache.
func moduleIn(cache string, d *debug.Module) (module, error) {
	path, err := xmodule.EscapePath(d.Path)
	if err != nil {
		return module{}, err
	}
	version, err := xmodule.EscapeVersion(d.Version)
	if err != nil {
		return module{}, err
	}
	license, err := licenseOf(filepath.Join(cache, path+"@"+version))
	if err != nil {
		return module{}, err
	}
	return module{
		path: d.Path, version: d.Version, sum: d.Sum, license: license,
		download: "https://proxy.golang.org/" + path + "/@v/" + version + ".zip",
	}, nil
}

// licenseFiles are the names of files with licenses, without their extensions.
var licenseFiles = []string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"}

// covered is the percentage of a text that licenses must cover, for the text to be one.
const covered = 75

// licenseOf reads the licenses in the root of a module as an SPDX expression. It is an
// error if there is none: somebody has to read the module.
func licenseOf(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("reading the module (run go mod download): %w", err)
	}
	var licenses []string
	for _, entry := range entries {
		name, _, _ := strings.Cut(strings.ToUpper(entry.Name()), ".")
		name, _, _ = strings.Cut(name, "-")
		if entry.IsDir() || !slices.Contains(licenseFiles, name) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return "", fmt.Errorf("reading a license: %w", err)
		}
		found := licensecheck.Scan(text)
		for _, match := range found.Match {
			if found.Percent >= covered && !match.IsURL && !slices.Contains(licenses, match.ID) {
				licenses = append(licenses, match.ID)
			}
		}
	}
	if len(licenses) == 0 {
		return "", fmt.Errorf("no license found in %s", dir)
	}
	slices.Sort(licenses)
	return strings.Join(licenses, " AND "), nil
}

func goEnv(name string) (string, error) {
	value, err := exec.Command("go", "env", name).Output()
	if err != nil {
		return "", fmt.Errorf("running go env %s: %w", name, err)
	}
	return strings.TrimSpace(string(value)), nil
}
