// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package providers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// binary is the real flag-service, built for these tests.
var binary string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "providers")
	if err != nil {
		fmt.Fprintln(os.Stderr, "creating a directory for the binary:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "flag-service")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/flag-service").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building flag-service: %v\n%s", err, out)
		return 1
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

const timeout = 30 * time.Second

// document is a document in which two flags have a value of their own.
func document(static, targeted string) string {
	return `{"metadata":{"team":"shop"},"$evaluators":{"staff":{"ends_with":[{"var":"email"},"@corp.com"]}},"flags":{
		"static":{"state":"ENABLED","variants":{"a":"` + static + `"},"defaultVariant":"a"},
		"targeted":{"state":"ENABLED","variants":{"on":` + targeted + `,"off":0},"defaultVariant":"off","targeting":{"if":[{"$ref":"staff"},"on"]}},
		"object":{"state":"ENABLED","variants":{"x":{"k":[1,null,"z"]}},"defaultVariant":"x"},
		"disabled":{"state":"DISABLED","variants":{"on":true},"defaultVariant":"on"},
		"no-default":{"state":"ENABLED","variants":{"on":true}}}}`
}

// process is a running program that writes lines of JSON.
type process struct {
	t       *testing.T
	command *exec.Cmd
	input   io.WriteCloser
	lines   chan map[string]any
	reading sync.WaitGroup
}

// launch starts a program.
func launch(t *testing.T, environ []string, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, command: exec.Command(program, args...), lines: make(chan map[string]any, 1000)}
	p.command.Env = append(os.Environ(), environ...)
	p.command.Stderr = t.Output()
	input, err := p.command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.input = input
	output, err := p.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatalf("%v; the tests of providers require Node.js and npm", err)
	}
	p.reading.Go(func() { p.read(output) })
	t.Cleanup(func() { _ = p.command.Process.Kill(); p.wait() })
	return p
}

func (p *process) read(from io.Reader) {
	defer close(p.lines)
	for lines := bufio.NewScanner(from); lines.Scan(); {
		var line map[string]any
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			p.t.Errorf("the line %q is not JSON: %v", lines.Text(), err)
		}
		p.lines <- line
	}
}

// wait waits for the end of the program, and drops what it still writes.
func (p *process) wait() {
	for range p.lines {
	}
	p.reading.Wait()
	_ = p.command.Wait()
}

// next returns the next line that matches.
func (p *process) next(what string, matches func(map[string]any) bool) map[string]any {
	p.t.Helper()
	deadline := time.After(timeout)
	for {
		select {
		case line, ok := <-p.lines:
			switch {
			case !ok:
				p.t.Fatalf("the program ended without %s", what)
			case matches(line):
				return line
			}
		case <-deadline:
			p.t.Fatalf("there is no %s", what)
		}
	}
}

// event waits for an event of the provider, with a flag that changed unless it is empty.
func (p *process) event(name, flag string) {
	p.t.Helper()
	p.next(name+" "+flag, func(line map[string]any) bool {
		changed, _ := line["flags"].([]any)
		return line["event"] == name && (flag == "" || slices.Contains(changed, any(flag)))
	})
}

// evaluate evaluates a flag.
func (p *process) evaluate(kind, key string, fallback any, context map[string]any) string {
	p.t.Helper()
	request, err := json.Marshal(map[string]any{"type": kind, "key": key, "fallback": fallback, "context": context})
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.input.Write(append(request, '\n')); err != nil {
		p.t.Fatal(err)
	}
	answer, err := json.Marshal(p.next("answer", func(line map[string]any) bool { return line["answer"] != nil })["answer"])
	if err != nil {
		p.t.Fatal(err)
	}
	return string(answer)
}

// freeAddresses returns addresses that nothing listens on.
func freeAddresses(t *testing.T, count int) []string {
	t.Helper()
	var addresses []string
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses
}

// service starts the flag service at addresses for flagd's protocols.
func service(t *testing.T, file string, addresses []string) *process {
	t.Helper()
	p := launch(t, []string{
		"FLAGS_FILE=" + file, "LISTEN_ADDRESS=127.0.0.1:0", "TELEMETRY_ADDRESS=127.0.0.1:0", "DRAIN_DELAY=0s",
		"FLAGD_ADDRESS=" + addresses[0], "FLAGD_SYNC_ADDRESS=" + addresses[1], "EVENT_STREAMS_SPREAD=0s", "EVENT_STREAMS_HEARTBEAT=1s",
	}, binary)
	p.next("log that flags are served", func(line map[string]any) bool { return line["msg"] == "serving flags" })
	return p
}

// replace replaces a file atomically, like a mount.
func replace(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestFlagdProvider changes flags under the provider and restarts the service.
func TestFlagdProvider(t *testing.T) {
	for i, resolver := range []string{"rpc", "in-process"} {
		t.Run(resolver, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "flags.json")
			replace(t, file, document("one", "1"))
			addresses := freeAddresses(t, 2)
			flagService := service(t, file, addresses)
			_, port, err := net.SplitHostPort(addresses[i])
			if err != nil {
				t.Fatal(err)
			}
			provider := launch(t, nil, "node", filepath.Join("testdata", "npm", "flagd.mjs"), resolver, port)
			provider.event("PROVIDER_READY", "")

			checkAnswers(t, provider)
			replace(t, file, document("two", "1"))
			provider.event("PROVIDER_CONFIGURATION_CHANGED", "static")
			expect(t, provider, "String", "static", "x", nil, `"value":"two"`)
			replace(t, file, strings.Replace(document("two", "1"), "@corp.com", "@corp.example", 1))
			provider.event("PROVIDER_CONFIGURATION_CHANGED", "targeted")
			expect(t, provider, "Number", "targeted", 9, map[string]any{"email": "x@corp.example"}, `"value":1`)

			if err := flagService.command.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			flagService.wait()
			provider.event("PROVIDER_STALE", "")
			replace(t, file, document("three", "3"))
			service(t, file, addresses)
			provider.event("PROVIDER_READY", "")
			expect(t, provider, "String", "static", "x", nil, `"value":"three"`)
			expect(t, provider, "Number", "targeted", 9, map[string]any{"email": "x@corp.com"}, `"value":3`)
		})
	}
}

// checkAnswers evaluates each kind of flag.
func checkAnswers(t *testing.T, p *process) {
	t.Helper()
	expect(t, p, "String", "static", "x", nil, `{"metadata":{"team":"shop"},"reason":"STATIC","value":"one","variant":"a"}`)
	expect(t, p, "Number", "targeted", 9, map[string]any{"email": "x@corp.com", "list": []any{1, nil, "a"}}, `"reason":"TARGETING_MATCH","value":1,"variant":"on"`)
	expect(t, p, "Number", "targeted", 9, map[string]any{"email": "x@example.com"}, `"reason":"DEFAULT","value":0,"variant":"off"`)
	expect(t, p, "Object", "object", map[string]any{}, nil, `"value":{"k":[1,null,"z"]}`)
	expect(t, p, "Boolean", "disabled", true, nil, `"reason":"DISABLED","value":true`)
	expect(t, p, "Boolean", "no-default", true, nil, `"reason":"DEFAULT","value":true`)
	expect(t, p, "Boolean", "absent", true, nil, `"errorCode":"FLAG_NOT_FOUND"`)
	// Of a flag that the provider has in its cache, it does not notice the type.
	expect(t, p, "Boolean", "targeted", true, nil, `"errorCode":"TYPE_MISMATCH"`)
}

// expect evaluates a flag and compares a part of the answer.
func expect(t *testing.T, p *process, kind, key string, fallback any, context map[string]any, part string) {
	t.Helper()
	if answer := p.evaluate(kind, key, fallback, context); !strings.Contains(answer, part) {
		t.Errorf("%s is answered with %s", key, cmp.Diff(part, answer))
	}
}
