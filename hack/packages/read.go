// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// goPackage is the size of a package of this module, without its tests and
// generated files.
type goPackage struct {
	// path is relative to the module.
	path string
	// imports are the packages of this module that it imports, sorted.
	imports []string
	// files and lines count the Go files and their lines, including comments and blank
	// lines.
	files, lines int
	// methods counts the methods by receiver type.
	methods map[string]int
	// longFiles are the files with more than 500 lines.
	longFiles []string
}

const longFile = 500

// largestReceiver returns the type with the most methods, "" if none has any.
func (p goPackage) largestReceiver() (name string, methods int) {
	for receiver, n := range p.methods {
		if n > methods || n == methods && receiver < name {
			name, methods = receiver, n
		}
	}
	return name, methods
}

// readModule reads the packages of the module in a directory, sorted by path.
func readModule(dir string) ([]goPackage, error) {
	list := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,Module", "./...")
	list.Dir = dir
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("listing the packages: %w", err)
	}
	var all []goPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var listed struct {
			ImportPath, Dir  string
			GoFiles, Imports []string
			Module           struct{ Path string }
		}
		if err := decoder.Decode(&listed); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("decoding the list of packages: %w", err)
		}
		p := goPackage{path: strings.TrimPrefix(listed.ImportPath, listed.Module.Path+"/"), methods: map[string]int{}}
		for _, i := range listed.Imports {
			if own, ok := strings.CutPrefix(i, listed.Module.Path+"/"); ok {
				p.imports = append(p.imports, own)
			}
		}
		slices.Sort(p.imports)
		for _, file := range listed.GoFiles {
			if err := p.readFile(filepath.Join(listed.Dir, file)); err != nil {
				return nil, err
			}
		}
		if p.files > 0 {
			all = append(all, p)
		}
	}
}

func (p *goPackage) readFile(path string) error {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("parsing: %w", err)
	}
	if ast.IsGenerated(file) {
		return nil
	}
	lines := files.File(file.Pos()).LineCount()
	p.files, p.lines = p.files+1, p.lines+lines
	if lines > longFile {
		p.longFiles = append(p.longFiles, filepath.Base(path))
	}
	for _, declared := range file.Decls {
		if f, ok := declared.(*ast.FuncDecl); ok && f.Recv != nil {
			p.methods[receiver(f.Recv.List[0].Type)]++
		}
	}
	return nil
}

// receiver returns the name of a receiver's type without pointer and type parameters.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	default:
		return ""
	}
}
