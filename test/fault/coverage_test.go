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

// excludedFunctions have calls that no plan fails, because they are not part of a reconciliation.
var excludedFunctions = map[string]string{
	"usersOf": "maps an event to FlagCaches, from a synced cache",
}

// TestEveryCallSiteIsReached compares the client calls in the source with those of reference runs,
// each of which is failed in every way.
func TestEveryCallSiteIsReached(t *testing.T) {
	reached := map[string]bool{}
	for _, s := range scenarios {
		for _, c := range referenceOf(t, s.name).trace {
			reached[c.site] = true
		}
	}
	for site, function := range callSites(t) {
		if excludedFunctions[function] == "" && !reached[site] {
			t.Errorf("controllers/%s, in %s: no scenario reaches this client call", site, function)
		}
	}
	if sites := slices.Sorted(maps.Keys(reached)); slices.Contains(sites, "unknown") {
		t.Errorf("some calls are not from controllers/: %v", sites)
	}
}

// verbs are the methods of a client that make requests.
var verbs = []string{"Get", "List", "Create", "Update", "Patch", "Apply", "Delete", "DeleteAllOf"}

// callSites returns the locations in the operator's source that call a client, with their
// functions.
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

// isRequest recognizes a client call by its method name and its first argument, the context.
func isRequest(call *ast.CallExpr) bool {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains(verbs, method.Sel.Name) || len(call.Args) == 0 {
		return false
	}
	first, ok := call.Args[0].(*ast.Ident)
	return ok && first.Name == "ctx"
}
