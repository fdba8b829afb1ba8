// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	lua "github.com/yuin/gopher-lua"
	"sigs.k8s.io/yaml"
)

// Argo CD's files of a health check, in the layout of its resource_customizations.
const (
	customization = "../../config/argocd/resource_customizations/flagcache.dev/FlagCache"
	servingCheck  = "../../config/argocd/serving/health.lua"
)

// scriptTimeout is how long Argo CD lets a script run.
const scriptTimeout = time.Second

// health is the result of a health check.
type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// TestArgoCDHealth runs the tests in health_test.yaml as Argo CD does in its own repository.
func TestArgoCDHealth(t *testing.T) {
	var file struct {
		Tests []struct {
			HealthStatus health `json:"healthStatus"`
			InputPath    string `json:"inputPath"`
		} `json:"tests"`
	}
	read(t, filepath.Join(customization, "health_test.yaml"), &file)
	tested := map[string]bool{}
	for _, test := range file.Tests {
		tested[filepath.Base(test.InputPath)] = true
		t.Run(filepath.Base(test.InputPath), func(t *testing.T) {
			var object map[string]any
			read(t, filepath.Join(customization, test.InputPath), &object)
			if got := healthOf(t, filepath.Join(customization, "health.lua"), object); got != test.HealthStatus {
				t.Errorf("got %+v, want %+v", got, test.HealthStatus)
			}
		})
	}
	for _, path := range fixtures(t) {
		if !tested[filepath.Base(path)] {
			t.Errorf("health_test.yaml lacks %s", path)
		}
	}
}

// read decodes a YAML file.
func read(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("decoding %s: %v", path, err)
	}
}

// fixtures are the files with a FlagCache of each phase.
func fixtures(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(customization, "testdata", "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("there are no fixtures: %v", err)
	}
	return paths
}

// healthOf runs a health check with the libraries that Argo CD opens without useOpenLibs: no
// string, no io and no os.
func healthOf(t *testing.T, script string, object map[string]any) health {
	t.Helper()
	vm := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer vm.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}} {
		if err := vm.CallByParam(lua.P{Fn: vm.NewFunction(library.open), Protect: true}, lua.LString(library.name)); err != nil {
			t.Fatalf("opening library %s: %v", library.name, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), scriptTimeout)
	defer cancel()
	vm.SetContext(ctx)
	vm.SetGlobal("obj", toLua(vm, object))
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	if err := vm.DoString(string(text)); err != nil {
		t.Fatalf("running %s: %v", script, err)
	}
	result, ok := vm.Get(-1).(*lua.LTable)
	if !ok {
		t.Fatalf("%s returned no table", script)
	}
	return health{Status: lua.LVAsString(result.RawGetString("status")), Message: lua.LVAsString(result.RawGetString("message"))}
}

// toLua converts a value of JSON.
func toLua(vm *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case float64:
		return lua.LNumber(value)
	case string:
		return lua.LString(value)
	case []any:
		list := vm.CreateTable(len(value), 0)
		for _, item := range value {
			list.Append(toLua(vm, item))
		}
		return list
	case map[string]any:
		table := vm.CreateTable(0, len(value))
		for key, item := range value {
			table.RawSetString(key, toLua(vm, item))
		}
		return table
	default:
		return lua.LNil
	}
}
