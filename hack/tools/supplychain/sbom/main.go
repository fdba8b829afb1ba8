// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command sbom writes the software bill of materials of a Go program, in SPDX 2.3: the
// modules that it is built from, as its build information lists them, and their licenses,
// as the files in the module cache state them.
//
//	sbom [-version V] [-created TIME] PROGRAM > PROGRAM.spdx.json
//
// The version and the time, in RFC 3339, are those of the commit, unless they are given.
// The same input results in the same document.
package main

import (
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

func main() {
	version := flag.String("version", "", "version of the program")
	created := flag.String("created", "", "time that the document states, in RFC 3339")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: sbom [-version V] [-created TIME] PROGRAM")
		os.Exit(2)
	}
	if err := write(os.Stdout, flag.Arg(0), *version, *created); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// write writes the document of a program.
func write(w io.Writer, program, version, created string) error {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return fmt.Errorf("reading the build information: %w", err)
	}
	digest, err := digestOf(program)
	if err != nil {
		return err
	}
	modules, err := modulesOf(info)
	if err != nil {
		return err
	}
	doc := document(filepath.Base(program), digest, modules)
	doc.Packages[0].PackageVersion = cmp.Or(version, setting(info, "vcs.revision"))
	doc.CreationInfo.Created, err = createdAt(cmp.Or(created, setting(info, "vcs.time")))
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(doc)
}

// digestOf is the SHA-256 of a file, in hexadecimal.
func digestOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("opening the program: %w", err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", fmt.Errorf("reading the program: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// document describes a program that contains modules.
func document(name, digest string, modules []module) *spdx.Document {
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName:      name,
		DocumentNamespace: "https://flagcache.dev/spdx/" + name + "-" + digest,
		CreationInfo: &spdx.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "github.com/flagcache/flagcache/hack/tools/supplychain/sbom"}},
		},
	}
	program := &spdx.Package{
		PackageName: name, PackageSPDXIdentifier: "Program", PackageFileName: name,
		PackageDownloadLocation: "NOASSERTION", PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: "Apache-2.0",
		PackageCopyrightText:  "Copyright The FlagCache Authors.",
		PackageChecksums:      []common.Checksum{{Algorithm: common.SHA256, Value: digest}},
		PrimaryPackagePurpose: "APPLICATION",
	}
	doc.Packages = append(doc.Packages, program)
	doc.Relationships = append(doc.Relationships, relation("DOCUMENT", common.TypeRelationshipDescribe, "Program"))
	for i, m := range modules {
		id := common.ElementID(fmt.Sprintf("Module-%d", i+1))
		doc.Packages = append(doc.Packages, m.describe(id))
		doc.Relationships = append(doc.Relationships, relation("Program", common.TypeRelationshipContains, id))
	}
	return doc
}

func relation(from common.ElementID, kind string, to common.ElementID) *spdx.Relationship {
	return &spdx.Relationship{
		RefA: common.DocElementID{ElementRefID: from}, Relationship: kind, RefB: common.DocElementID{ElementRefID: to},
	}
}

// createdAt is the time that the document states. That of the build would make each
// document another one; without any, it is the epoch.
func createdAt(text string) (string, error) {
	if text == "" {
		return time.Unix(0, 0).UTC().Format(time.RFC3339), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return "", fmt.Errorf("parsing the time of the document: %w", err)
	}
	return t.UTC().Format(time.RFC3339), nil
}

// setting is a build setting, "" if it is not recorded.
func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// describe describes a module as a package of a document.
func (m module) describe(id common.ElementID) *spdx.Package {
	return &spdx.Package{
		PackageName: m.path, PackageSPDXIdentifier: id, PackageVersion: m.version,
		PackageDownloadLocation: m.download,
		PackageSourceInfo:       strings.TrimSpace("go.sum " + m.sum),
		PackageLicenseConcluded: "NOASSERTION", PackageLicenseDeclared: m.license,
		PackageCopyrightText:  "NOASSERTION",
		PrimaryPackagePurpose: "LIBRARY",
		PackageExternalReferences: []*spdx.PackageExternalReference{{
			Category: "PACKAGE-MANAGER", RefType: "purl", Locator: "pkg:golang/" + m.path + "@" + m.version,
		}},
	}
}
