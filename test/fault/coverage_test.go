// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// outside are the functions whose calls no plan fails. Each says why: it serves
// the manager and is not part of a look.
var outside = map[string]string{
	"usersOf": "maps an event to FlagCaches, from a cache that is synced by then",
	"Collect": "reads for metrics, decides nothing",
	"wake":    "tells of kinds that came or went, tried again until it works",

	// Of ackClient, by which calls of a look reach the client of their kind:
	"Get":    "passes a call on",
	"List":   "passes a call on",
	"Create": "passes a call on",
	"Patch":  "passes a call on",
	"Delete": "passes a call on",
}

// TestEveryCallSiteIsFaulted compares the calls that the source makes with those
// that reference runs made: every one of the latter is failed in every way.
func TestEveryCallSiteIsFaulted(t *testing.T) {
	reached := map[string]bool{}
	for _, s := range scenarios {
		for _, c := range referenceOf(t, s.name).trace {
			reached[c.site] = true
		}
	}
	for site, function := range callSites(t) {
		if outside[function] == "" && !reached[site] {
			t.Errorf("controllers/%s, in %s: no scenario reaches this call of the client, so no plan fails it", site, function)
		}
	}
	if sites := slices.Sorted(maps.Keys(reached)); slices.Contains(sites, "unknown") {
		t.Errorf("some calls come from nowhere in controllers/: %v", sites)
	}
}

// verbs are the methods of a client that are requests.
var verbs = []string{"Get", "List", "Create", "Update", "Patch", "Apply", "Delete", "DeleteAllOf"}

// callSites are the places in the operator's source that call a client, with
// the functions that they are in.
func callSites(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("../../controllers/*.go")
	if err != nil || len(paths) == 0 {
		t.Fatalf("finding the operator's source: %v, %d files", err, len(paths))
	}
	sites := map[string]string{}
	files := token.NewFileSet()
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			t.Fatalf("parsing %s: %v", path, err)
		}
		for _, declaration := range file.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(function, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok && isRequest(call) {
					sites[fmt.Sprintf("%s:%d", filepath.Base(path), files.Position(call.Pos()).Line)] = function.Name.Name
				}
				return true
			})
		}
	}
	return sites
}

// isRequest tells a call of a client by its method's name and its first
// argument, the context.
func isRequest(call *ast.CallExpr) bool {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains(verbs, method.Sel.Name) || len(call.Args) == 0 {
		return false
	}
	first, ok := call.Args[0].(*ast.Ident)
	return ok && first.Name == "ctx"
}
