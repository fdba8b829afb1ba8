// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Building a test binary takes longer than detecting a bug with it, so one binary has all the bugs
// that are within functions. Each of these functions begins with a switch:
//
//	func f(n int) error { switch seededBug { case "07-name": return f_bug7(n); }; ...
//
// and f_bug7, the patched function, is added at the end of the file. The environment variable
// FAULT_MUTANT selects the active bug. The original source keeps its line numbers.

// selector is the content of a file that is added to each package with seeded bugs.
const selector = `package %s

import "os"

var seededBug = os.Getenv("FAULT_MUTANT")
`

// errNotInFunctions is the reason for which a mutant gets a binary of its own.
var errNotInFunctions = errors.New("it changes more than function bodies")

// combiner combines mutants in one set of sources.
type combiner struct {
	files map[string]*combined
	// number of mutants so far.
	number int
}

// combined is a source file with the mutants of its functions.
type combined struct {
	source []byte
	syntax *ast.File
	set    *token.FileSet
	pkg    string
	// bugs has the alternatives of each function.
	bugs map[string][]alternative
	// added is appended to the file, imports are the packages it imports.
	added   []string
	imports map[string]bool
	// declared are the names of added functions.
	declared map[string]bool
}

// alternative is a mutant's version of a function.
type alternative struct {
	mutant string
	name   string
}

// edit replaces source between two offsets.
type edit struct {
	from, to int
	text     string
}

// add adds a mutant. If it returns an error, the mutant was not added and needs a binary of its own.
func (c *combiner) add(m mutant) error {
	c.number++
	changes := map[string]*change{}
	for name, text := range m.files {
		file, err := c.file(name)
		if err != nil {
			return err
		}
		if changes[name], err = file.compare(text); err != nil {
			return err
		}
	}
	for name, change := range changes {
		c.files[name].take(m.name, fmt.Sprintf("_bug%d", c.number), change)
	}
	return nil
}

func (c *combiner) file(name string) (*combined, error) {
	if file := c.files[name]; file != nil {
		return file, nil
	}
	source, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	file := &combined{source: source, bugs: map[string][]alternative{}, imports: map[string]bool{}, declared: map[string]bool{}}
	file.set = token.NewFileSet()
	if file.syntax, err = parser.ParseFile(file.set, name, source, parser.SkipObjectResolution); err != nil {
		return nil, err
	}
	for _, o := range file.syntax.Imports {
		file.imports[importText(o)] = true
	}
	file.pkg = file.syntax.Name.Name
	c.files[name] = file
	return file, nil
}

// change is a mutant's change of a file.
type change struct {
	// changed has the functions that differ, added the new ones.
	changed, added map[string]string
	imports        []string
}

// compare returns the functions in which a mutant's file differs.
func (f *combined) compare(mutated []byte) (*change, error) {
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, "", mutated, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	ours, ourRest := split(f.set, f.syntax, f.source)
	theirs, theirRest := split(set, syntax, mutated)
	if !slices.Equal(ourRest, theirRest) {
		return nil, errNotInFunctions
	}
	diff := &change{changed: map[string]string{}, added: map[string]string{}}
	for name, text := range theirs {
		switch own, exists := ours[name]; {
		case !exists && f.declared[name]:
			return nil, errNotInFunctions
		case !exists:
			diff.added[name] = text
		case own != text:
			diff.changed[name] = text
		}
	}
	for name, text := range diff.changed {
		if signature(text) != signature(ours[name]) {
			return nil, errNotInFunctions
		}
	}
	for _, o := range syntax.Imports {
		diff.imports = append(diff.imports, importText(o))
	}
	return diff, nil
}

// split returns the texts of a file's functions, by receiver and name, and of its other
// declarations except imports.
func split(set *token.FileSet, file *ast.File, source []byte) (functions map[string]string, rest []string) {
	functions = map[string]string{}
	for _, declaration := range file.Decls {
		from, to := set.Position(declaration.Pos()).Offset, set.Position(declaration.End()).Offset
		text := string(source[from:to])
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			functions[functionName(d)] = text
		case *ast.GenDecl:
			if d.Tok != token.IMPORT {
				rest = append(rest, text)
			}
		}
	}
	return functions, rest
}

// functionName returns a name that is unique within a file.
func functionName(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	receiver := d.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	if generic, ok := receiver.(*ast.IndexExpr); ok {
		receiver = generic.X
	}
	if name, ok := receiver.(*ast.Ident); ok {
		return name.Name + "." + d.Name.Name
	}
	return "?." + d.Name.Name
}

// signature returns the first line of a function up to its body.
func signature(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	declaration, _, _ := strings.Cut(line, " {")
	return declaration
}

func importText(o *ast.ImportSpec) string {
	if o.Name != nil {
		return o.Name.Name + " " + o.Path.Value
	}
	return o.Path.Value
}

// take adds the functions of a mutant with a suffix.
func (f *combined) take(mutant, suffix string, diff *change) {
	for _, name := range slices.Sorted(maps.Keys(diff.changed)) {
		own := name[strings.LastIndex(name, ".")+1:]
		f.bugs[name] = append(f.bugs[name], alternative{mutant, own + suffix})
		f.added = append(f.added, renamed(diff.changed[name], own, own+suffix))
	}
	for _, name := range slices.Sorted(maps.Keys(diff.added)) {
		f.declared[name] = true
		f.added = append(f.added, diff.added[name])
	}
	for _, o := range diff.imports {
		f.imports[o] = true
	}
}

// renamed changes the name in a function's declaration.
func renamed(text, name, other string) string {
	receiver := ""
	rest := strings.TrimPrefix(text, "func ")
	if strings.HasPrefix(rest, "(") {
		end := strings.Index(rest, ") ") + 2
		receiver, rest = rest[:end], rest[end:]
	}
	return "func " + receiver + other + strings.TrimPrefix(rest, name)
}

// sources returns the files to build, with a selector for each package.
func (c *combiner) sources() map[string][]byte {
	all := map[string][]byte{}
	for name, file := range c.files {
		if len(file.bugs) == 0 {
			continue
		}
		all[name] = file.render()
		all[path.Join(filepath.ToSlash(filepath.Dir(name)), "seeded_bug.go")] = fmt.Appendf(nil, selector, file.pkg)
	}
	return all
}

// render returns a file with its mutants.
func (f *combined) render() []byte {
	var edits []edit
	for _, declaration := range f.syntax.Decls {
		d, ok := declaration.(*ast.FuncDecl)
		if !ok || len(f.bugs[functionName(d)]) == 0 {
			continue
		}
		edits = append(edits, f.choose(d, f.bugs[functionName(d)])...)
	}
	for _, o := range f.syntax.Imports {
		delete(f.imports, importText(o))
	}
	if len(f.imports) > 0 {
		at := f.set.Position(f.syntax.Name.End()).Offset
		edits = append(edits, edit{at, at, "; import (" + strings.Join(slices.Sorted(maps.Keys(f.imports)), "; ") + ")"})
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.from - b.from })
	var out bytes.Buffer
	done := 0
	for _, e := range edits {
		out.Write(f.source[done:e.from])
		out.WriteString(e.text)
		done = e.to
	}
	out.Write(f.source[done:])
	for _, text := range f.added {
		out.WriteString("\n" + text + "\n")
	}
	return out.Bytes()
}

// choose returns the edits that insert the switch at the beginning of a function.
func (f *combined) choose(d *ast.FuncDecl, bugs []alternative) []edit {
	arguments, edits := f.arguments(d)
	receiver := ""
	edits = append(edits, f.nameReceiver(d)...)
	if d.Recv != nil {
		receiver = receiverName(d) + "."
	}
	types := ""
	if d.Type.TypeParams != nil {
		var names []string
		for _, field := range d.Type.TypeParams.List {
			for _, name := range field.Names {
				names = append(names, name.Name)
			}
		}
		types = "[" + strings.Join(names, ", ") + "]"
	}
	var text strings.Builder
	text.WriteString(" switch seededBug {")
	for _, bug := range bugs {
		call := receiver + bug.name + types + "(" + arguments + ")"
		if d.Type.Results != nil {
			fmt.Fprintf(&text, " case %s: return %s;", strconv.Quote(bug.mutant), call)
		} else {
			fmt.Fprintf(&text, " case %s: %s; return;", strconv.Quote(bug.mutant), call)
		}
	}
	text.WriteString(" };")
	at := f.set.Position(d.Body.Lbrace).Offset + 1
	return append(edits, edit{at, at, text.String()})
}

// unnamed is the name for a receiver without a name.
const unnamed = "self_"

func receiverName(d *ast.FuncDecl) string {
	if names := d.Recv.List[0].Names; len(names) > 0 && names[0].Name != "_" {
		return names[0].Name
	}
	return unnamed
}

// nameReceiver returns the edit that names a receiver without a name.
func (f *combined) nameReceiver(d *ast.FuncDecl) []edit {
	if d.Recv == nil || receiverName(d) != unnamed {
		return nil
	}
	return []edit{f.name(d.Recv.List[0], 0, unnamed)}
}

// name returns the edit that names a field.
func (f *combined) name(field *ast.Field, i int, name string) edit {
	if len(field.Names) > 0 {
		return edit{f.set.Position(field.Names[i].Pos()).Offset, f.set.Position(field.Names[i].End()).Offset, name}
	}
	at := f.set.Position(field.Type.Pos()).Offset
	return edit{at, at, name + " "}
}

// arguments returns a function's parameters as arguments of a call, and the edits that name those
// without a name.
func (f *combined) arguments(d *ast.FuncDecl) (list string, edits []edit) {
	var arguments []string
	for _, field := range d.Type.Params.List {
		for i := range max(1, len(field.Names)) {
			name := fmt.Sprintf("argument%d_", len(arguments))
			if len(field.Names) > 0 && field.Names[i].Name != "_" {
				name = field.Names[i].Name
			} else {
				edits = append(edits, f.name(field, i, name))
			}
			if _, variadic := field.Type.(*ast.Ellipsis); variadic {
				name += "..."
			}
			arguments = append(arguments, name)
		}
	}
	return strings.Join(arguments, ", "), edits
}
