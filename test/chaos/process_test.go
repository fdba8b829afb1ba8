// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/flagcache/flagcache/service/redistest"
	"github.com/flagcache/flagcache/test/child"
)

// binary is the real flag-service, built for these tests.
var binary string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "chaos")
	if err != nil {
		fmt.Fprintln(os.Stderr, "making a directory for the binary:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "flag-service")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "github.com/flagcache/flagcache/cmd/flag-service")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building flag-service: %v\n%s", err, out)
		return 1
	}
	// Silenced: the Redis client of the tests logs that a Redis was killed, the proxies
	// log the faults that they inject.
	redis.SetLogger(silent{})
	zerolog.SetGlobalLevel(zerolog.Disabled)
	return m.Run()
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// instance is a running flag-service.
type instance struct {
	t       testing.TB
	command *exec.Cmd
	// ofrep and telemetry are URLs.
	ofrep, telemetry string
	environ          []string
	logs             *logs
	reading          sync.WaitGroup
	client           *http.Client
}

// launch starts an instance on free ports, which it keeps when it is started
// again.
func launch(t testing.TB, environ ...string) *instance {
	t.Helper()
	i := &instance{
		t: t, environ: environ, logs: &logs{started: make(chan addresses, 1)}, ofrep: "http://127.0.0.1:0", telemetry: "http://127.0.0.1:0",
		client: &http.Client{Transport: &http.Transport{}, Timeout: 5 * time.Second},
	}
	t.Cleanup(i.end)
	i.start()
	return i
}

// start runs the program and waits until it listens.
func (i *instance) start() {
	i.t.Helper()
	i.command = exec.Command(binary)
	i.command.Env = append([]string{
		"LISTEN_ADDRESS=" + strings.TrimPrefix(i.ofrep, "http://"), "TELEMETRY_ADDRESS=" + strings.TrimPrefix(i.telemetry, "http://"),
		"DRAIN_DELAY=500ms",
	}, i.environ...)
	i.command.SysProcAttr = child.Attributes(syscall.SIGKILL)
	i.command.Stderr = i.logs
	output, err := i.command.StdoutPipe()
	if err != nil {
		i.t.Fatal(err)
	}
	if err := i.command.Start(); err != nil {
		i.t.Fatalf("starting flag-service: %v", err)
	}
	shrink(i.t, output)
	i.reading.Go(func() { i.logs.read(output) })
	select {
	case at := <-i.logs.started:
		i.ofrep, i.telemetry = "http://"+at.OFREP, "http://"+at.Telemetry
	case <-time.After(20 * time.Second):
		i.t.Fatalf("flag-service did not log its address:\n%s", i.logs)
	}
}

// end kills the instance, and shows its log if the test failed.
func (i *instance) end() {
	i.client.CloseIdleConnections()
	_ = i.command.Process.Kill()
	i.reading.Wait()
	_ = i.command.Wait()
	if i.t.Failed() {
		i.t.Logf("the log of %s ends with\n%s", i.ofrep, i.logs)
	}
}

// kill ends the instance as a crash would.
func (i *instance) kill() {
	_ = i.command.Process.Kill()
	i.reading.Wait()
	_ = i.command.Wait()
}

// terminate ends the instance as Kubernetes does and returns its exit code.
func (i *instance) terminate() int {
	_ = i.command.Process.Signal(syscall.SIGTERM)
	i.reading.Wait()
	_ = i.command.Wait()
	return i.command.ProcessState.ExitCode()
}

func (i *instance) ready() bool {
	response, err := i.client.Get(i.telemetry + "/readyz")
	if err != nil {
		return false
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK
}

func (i *instance) awaitReady() {
	i.t.Helper()
	redistest.Eventually(i.t, 20*time.Second, "the instance did not become ready", i.ready)
}

// metric is the sum of a metric's values over its labels, 0 if there is none.
func (i *instance) metric(name string) float64 {
	response, err := i.client.Get(i.telemetry + "/metrics")
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	sum := 0.0
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			i.t.Errorf("the metric line %q has no value", lines.Text())
		}
		sum += value
	}
	return sum
}

// marker is the variant of the flag called marker, empty for none.
func (i *instance) marker() string {
	response, err := i.client.Post(i.ofrep+"/ofrep/v1/evaluate/flags/marker", "application/json", strings.NewReader(`{"context":{"targetingKey":"u"}}`))
	if err != nil {
		return ""
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct{ Variant string }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return ""
	}
	return answer.Variant
}

// addresses are in the first line of an instance's log.
type addresses struct{ Msg, OFREP, Telemetry string }

// logs keeps the end of a log and finds the addresses in it.
type logs struct {
	started chan addresses
	mu      sync.Mutex
	lines   [][]byte
	// reading is held by whoever keeps the log from being read.
	reading sync.Mutex
}

// mostLines is how much of a log is kept.
const mostLines = 60

func (l *logs) read(output io.Reader) {
	for lines := bufio.NewScanner(output); lines.Scan(); {
		var line addresses
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "starting" {
			l.started <- line
		}
		l.reading.Lock()
		_, _ = l.Write(append(lines.Bytes(), '\n'))
		l.reading.Unlock()
	}
}

// Write keeps what the program writes besides its log.
func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, bytes.Clone(line))
	l.lines = l.lines[max(0, len(l.lines)-mostLines):]
	return len(line), nil
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(bytes.Join(l.lines, nil))
}
