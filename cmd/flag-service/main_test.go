// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/flagcache/flagcache/service/postgrestest"
	"github.com/flagcache/flagcache/service/redistest"
)

// binary is the real flag-service, built for these tests.
var binary string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "flag-service")
	if err != nil {
		fmt.Fprintln(os.Stderr, "creating a directory for the binary:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "flag-service")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building flag-service: %v\n%s", err, out)
		return 1
	}
	code := postgrestest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

const validFlags = `{"flags":{"flag":{"state":"ENABLED","variants":{"v":1},"defaultVariant":"v"}}}`

// process is a running flag-service.
type process struct {
	t         *testing.T
	command   *exec.Cmd
	ofrep     string
	telemetry string
	admin     string
	// flagd and flagdSync are empty if these protocols are not served.
	flagd, flagdSync string
	client           *http.Client
	output           sync.WaitGroup
	logs             bytes.Buffer
}

// launch starts the service on free ports and waits until it listens.
func launch(t *testing.T, environ ...string) *process {
	t.Helper()
	p := &process{t: t, command: exec.Command(binary), client: &http.Client{Transport: &http.Transport{}, Timeout: 5 * time.Second}}
	p.command.Env = append([]string{"LISTEN_ADDRESS=127.0.0.1:0", "TELEMETRY_ADDRESS=127.0.0.1:0", "DRAIN_DELAY=0s"}, environ...)
	stdout, err := p.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.command.Stderr = t.Output()
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	p.output.Go(func() { p.readLogs(stdout, started) })
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		_ = p.command.Process.Kill()
		p.output.Wait()
		_ = p.command.Wait()
	})
	select {
	case <-started:
	case <-time.After(10 * time.Second):
		t.Fatal("flag-service did not log its addresses")
	}
	return p
}

// readLogs keeps the log and reads the addresses from its first line.
func (p *process) readLogs(from io.Reader, started chan<- struct{}) {
	lines := bufio.NewScanner(from)
	for lines.Scan() {
		p.logs.Write(append(lines.Bytes(), '\n'))
		var line struct{ Msg, OFREP, Telemetry, Admin, Flagd, FlagdSync string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			p.t.Errorf("the log line %q is not JSON: %v", lines.Text(), err)
		}
		if line.Msg == "starting" {
			p.ofrep, p.telemetry, p.admin = "http://"+line.OFREP, "http://"+line.Telemetry, "http://"+line.Admin
			p.flagd, p.flagdSync = line.Flagd, line.FlagdSync
			close(started)
		}
	}
}

// evaluate evaluates the flag and returns status and body; status 0 is a failed
// request.
func (p *process) evaluate() (int, string) {
	response, err := p.client.Post(p.ofrep+"/ofrep/v1/evaluate/flags/flag", "application/json", strings.NewReader(`{"context":{"targetingKey":"u"}}`))
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(body)
}

func (p *process) get(path string) (int, string) {
	p.t.Helper()
	response, err := p.client.Get(p.telemetry + path)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}

func (p *process) awaitReady(want bool) {
	p.t.Helper()
	redistest.Eventually(p.t, 10*time.Second, fmt.Sprintf("readiness did not become %t", want), func() bool {
		status, _ := p.get("/readyz")
		return status == http.StatusOK == want
	})
}

// terminate sends SIGTERM and returns the exit code.
func (p *process) terminate() int {
	p.t.Helper()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	p.output.Wait()
	_ = p.command.Wait()
	return p.command.ProcessState.ExitCode()
}

func flagsFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flags.json")
	if content != "" {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestServes(t *testing.T) {
	p := launch(t, "FLAGS_FILE="+flagsFile(t, validFlags), "FLAGCACHE_REVISION=rev-1")
	p.awaitReady(true)
	if status, body := p.evaluate(); status != 200 || body != `{"key":"flag","reason":"STATIC","variant":"v","value":1}` {
		t.Errorf("the evaluation is answered with %d %s", status, body)
	}
	if _, body := p.get("/readyz"); !strings.HasPrefix(body, "ready: 1 flags, generation 1 from source, confirmed ") {
		t.Errorf("/readyz answers %s", body)
	}
	_, metrics := p.get("/metrics")
	for _, name := range []string{"ofrep_requests_total", "ofrep_request_duration_seconds_bucket", "flag_evaluations_total",
		"flag_config_age_seconds", "flag_config_generation", "go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(metrics, "\n"+name) {
			t.Errorf("the metric %s is missing", name)
		}
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("it exits with %d", code)
	}
}

func TestStartsWithNothingReachable(t *testing.T) {
	file := flagsFile(t, "")
	p := launch(t, "FLAGS_FILE="+file, "REDIS_URL=redis://:canary-password@127.0.0.1:1", "SERVICE_BINDING_ROOT="+t.TempDir())
	if status, _ := p.get("/livez"); status != 200 {
		t.Errorf("/livez answers %d", status)
	}
	if status, body := p.get("/readyz"); status != 503 || !strings.Contains(body, "not ready: no flags yet: ") {
		t.Errorf("/readyz answers %d %s", status, body)
	}
	if status, body := p.evaluate(); status != 503 {
		t.Errorf("an evaluation is answered with %d %s", status, body)
	}
	if err := os.WriteFile(file, []byte(validFlags), 0o600); err != nil {
		t.Fatal(err)
	}
	p.awaitReady(true)
	if status, body := p.evaluate(); status != 200 {
		t.Errorf("with flags an evaluation is answered with %d %s", status, body)
	}
	if code := p.terminate(); code != 0 {
		t.Errorf("it exits with %d", code)
	}
	if strings.Contains(p.logs.String(), "canary-password") {
		t.Error("the log contains the password of Redis")
	}
}

// TestDrainLosesNoRequest sends requests on reused connections while the
// service stops, as clients do until its endpoint is removed.
func TestDrainLosesNoRequest(t *testing.T) {
	p := launch(t, "FLAGS_FILE="+flagsFile(t, validFlags), "DRAIN_DELAY=1s")
	p.awaitReady(true)
	var asking sync.WaitGroup
	var answered atomic.Int64
	withdrawn := make(chan struct{})
	for range 8 {
		asking.Go(func() {
			for {
				select {
				case <-withdrawn:
					return
				default:
				}
				if status, body := p.evaluate(); status != 200 {
					t.Errorf("a request is answered with %d %s", status, body)
					return
				}
				answered.Add(1)
			}
		})
	}
	redistest.Eventually(t, 10*time.Second, "the clients did not start", func() bool { return answered.Load() > 100 })
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.awaitReady(false)
	if _, body := p.get("/readyz"); body != "not ready: draining\n" {
		t.Errorf("/readyz answers %s", body)
	}
	during := answered.Load()
	redistest.Eventually(t, time.Second, "nothing was answered while draining", func() bool { return answered.Load() > during+100 })
	close(withdrawn)
	asking.Wait()
	p.output.Wait()
	_ = p.command.Wait()
	if code := p.command.ProcessState.ExitCode(); code != 0 {
		t.Errorf("it exits with %d", code)
	}
}

func TestSecondSignalEndsTheProcess(t *testing.T) {
	p := launch(t, "FLAGS_FILE="+flagsFile(t, validFlags), "DRAIN_DELAY=10m")
	p.awaitReady(true)
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.awaitReady(false)
	if code := p.terminate(); code == 0 {
		t.Error("it exits with 0 although it was interrupted")
	}
}

func TestInvalidSettingsAreRejected(t *testing.T) {
	tests := map[string]string{
		"LOG_LEVEL=loud":                `LOG_LEVEL is "loud"; it must be debug, info, warn or error`,
		"CACHE_TTL=300":                 `CACHE_TTL is "300"; it must be a duration from 1s to 24h0m0s, such as 5m0s`,
		"REDIS_POOL_SIZE=many":          `REDIS_POOL_SIZE is "many"; it must be an integer from 1 to 1000`,
		"REDIS_DIAL_TIMEOUT=1m":         `REDIS_DIAL_TIMEOUT is "1m"; it must be a duration from 1ms to 30s, such as 2s`,
		"DRAIN_DELAY=-1s":               `DRAIN_DELAY is "-1s"; it must be a duration from 0s to 10m0s, such as 5s`,
		"LISTEN_ADDRESS=8080":           `LISTEN_ADDRESS is "8080"; it must be an address such as :8080 or 127.0.0.1:8080`,
		"TELEMETRY_ADDRESS=:http":       `TELEMETRY_ADDRESS is ":http"; it must be an address such as :8080 or 127.0.0.1:8080`,
		"FLAG_ENVIRONMENT=a b":          `FLAG_ENVIRONMENT is "a b"; it must be up to 253 letters, digits, dots, underscores, slashes and dashes`,
		"FLAGCACHE_REVISION=a\nb":       `FLAGCACHE_REVISION is "a\nb"; it must be up to 253 letters, digits, dots, underscores and dashes`,
		"RATE_LIMIT=1.5":                `RATE_LIMIT is "1.5"; it must be an integer from 0 to 10000000`,
		"RATE_LIMIT_BURST=0":            `RATE_LIMIT_BURST is "0"; it must be an integer from 1 to 10000000`,
		"CLIENT_RATE_LIMIT=5":           `CLIENT_RATE_LIMIT is "5"; it must be unset unless AUTH_TOKENS_DIR is set: clients are identified by their tokens`,
		"CORS_ALLOWED_ORIGINS=shop":     `CORS_ALLOWED_ORIGINS is "shop"; it must be "*", "none" or comma-separated origins such as https://shop.example`,
		"EVENT_STREAMS=yes":             `EVENT_STREAMS is "yes"; it must be an integer from 0 to 100000`,
		"MAX_STALENESS=-1s":             `MAX_STALENESS is "-1s"; it must be a duration from 0s to 8760h0m0s, such as 0s`,
		"PPROF_ADDRESS=6060":            `PPROF_ADDRESS is "6060"; it must be an address such as :8080 or 127.0.0.1:8080`,
		"REDIS_URL=http://:secret@host": `REDIS_URL (19 characters, not shown) is not a URL like redis://user:password@host:6379/0, rediss://host:6379, redis+sentinel://host:26379?master_name=name or rediss+cluster://host:6379`,
	}
	for setting, want := range tests {
		t.Run(strings.SplitN(setting, "=", 2)[0], func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), nil, []string{setting}, &stdout, &stderr)
			if got := strings.TrimSpace(stderr.String()); code != exitUsage || got != "flag-service: "+want {
				t.Errorf("it exits with %d and prints %s", code, got)
			}
		})
	}
}

// The files of a directory of tokens are tokens, so that no other file may be in it.
func TestTokensNeedADirectoryOfTheirOwn(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "cache"), 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "tokens")
	if err := os.Symlink(filepath.Join(root, "cache"), link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ADMIN_TOKENS_DIR", "AUTH_TOKENS_DIR"} {
		for dir, accepted := range map[string]bool{
			root: false, filepath.Join(root, "cache"): false, filepath.Join(root, "other", "..", "cache"): false, link: false,
			"/uri": false, "/uri/tokens": true, "/hmac/": false, "/etc/flagcache/flags": false, root + "-tokens": true, "/tokens": true,
		} {
			_, err := readSettings([]string{
				"SERVICE_BINDING_ROOT=" + root, "FLAGS_POSTGRES_URI_FILE=/uri/uri", "CACHE_HMAC_KEY_FILE=/hmac/key", name + "=" + dir,
			})
			if (err == nil) != accepted {
				t.Errorf("%s=%s: %v, want accepted: %t", name, dir, err, accepted)
			}
		}
	}
}

func TestDefaults(t *testing.T) {
	got, err := readSettings([]string{"LOG_LEVEL=", "SERVICE_BINDING_ROOT=/bindings", "UNRELATED=x"})
	if err != nil {
		t.Fatal(err)
	}
	want := settings{
		environment: "default", flagsFile: "/etc/flagcache/flags/flags.json", listenAddress: ":8080", telemetryAddress: ":8081",
		bindingDir: "/bindings/cache", cacheTTL: 5 * time.Minute, poolSize: 10, dialTimeout: 2 * time.Second, drainDelay: 5 * time.Second,
		http: httpSettings{
			rate: rateSetting{0, 1}, clientRate: rateSetting{0, 1}, maxInFlight: 1024, maxConnections: 4096, maxBytesInFlight: 32 << 20, origins: []string{"*"}, compressFrom: 1500,
			maxStreams: 1000, streamsInactivity: 2 * time.Minute, streamsHeartbeat: 15 * time.Second, streamsSpread: time.Second,
		},
	}
	if diff := cmp.Diff(want, got, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		t.Errorf("unexpected settings (-want +got):\n%s", diff)
	}
}

func TestUsage(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"version"}, nil, &stdout, &stderr); code != exitOK || stdout.String() != "dev\n" {
		t.Errorf("version exits with %d and prints %s", code, stdout.String())
	}
	if code := run(t.Context(), []string{"help"}, nil, &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), "SERVICE_BINDING_ROOT") {
		t.Errorf("help exits with %d and prints %s", code, stdout.String())
	}
	if code := run(t.Context(), []string{"linf", "x"}, nil, &stdout, &stderr); code != exitUsage || !strings.Contains(stderr.String(), "Usage") {
		t.Errorf("a misspelt command exits with %d and prints %s", code, stderr.String())
	}
}

func TestAddressInUseIsReported(t *testing.T) {
	p := launch(t, "FLAGS_FILE="+flagsFile(t, validFlags))
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), nil, []string{"LISTEN_ADDRESS=" + strings.TrimPrefix(p.ofrep, "http://")}, &stdout, &stderr)
	if code != exitFailure || !strings.Contains(stderr.String(), "listening for ofrep") {
		t.Errorf("it exits with %d and prints %s", code, stderr.String())
	}
}
