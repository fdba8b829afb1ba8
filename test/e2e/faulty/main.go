// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command faulty is a bad release of the flag service. It runs the real one, which is
// appended to this executable (see package release), and degrades its answers according
// to the environment variable FAULT:
//
//	errors   2 % of the answers have the status 500
//	slow     one answer in ten takes 250 ms longer
//	late     every answer takes 2 s longer
//	nocache  its cache is a closed port
//	crash    it exits after a few seconds with code 1
//
// Any other value degrades nothing. Its metrics are those of the real one, with the
// errors added.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/test/child"
	"github.com/flagcache/flagcache/test/e2e/faulty/release"
)

const (
	// inside is the address of the real flag service, insideTelemetry that of its
	// telemetry.
	inside          = "127.0.0.1:18080"
	insideTelemetry = "127.0.0.1:18081"
	// everyNth answer is an error, 2 %; everySlow is a slow one.
	everyNth  = 50
	everySlow = 10
	delay     = 250 * time.Millisecond
	longDelay = 2 * time.Second
	// lifetime is the time until a crashing release exits.
	lifetime = 8 * time.Second
)

func main() {
	if err := run(os.Getenv("FAULT")); err != nil {
		slog.Error("Exiting", "error", err)
		os.Exit(1)
	}
}

var errCrash = errors.New("crashing, as FAULT requests")

func run(fault string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	service, err := startService(fault)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- service.Wait() }()
	f := &faulty{fault: fault}
	served := make(chan error, 2)
	for address, handler := range map[string]http.Handler{
		os.Getenv(config.EnvListenAddress):       f.degraded(),
		":" + strconv.Itoa(config.PortTelemetry): f.telemetry(),
	} {
		server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 5 * time.Second}
		go func() { served <- server.ListenAndServe() }()
	}
	var crash <-chan time.Time
	if fault == "crash" {
		crash = time.After(lifetime)
	}
	select {
	case <-ctx.Done():
		_ = service.Process.Signal(syscall.SIGTERM) // it drains and exits
		return <-ended
	case err := <-ended:
		return err
	case err := <-served:
		_ = service.Process.Kill()
		return err
	case <-crash:
		_ = service.Process.Kill()
		return errCrash
	}
}

// startService starts the real flag service behind this one.
func startService(fault string) (*exec.Cmd, error) {
	program, err := release.Unpack()
	if err != nil {
		return nil, err
	}
	defer func() { _ = program.Close() }()
	cmd := exec.Command(release.Path(program))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = child.Attributes(syscall.SIGKILL)
	cmd.Env = append(os.Environ(), config.EnvListenAddress+"="+inside, config.EnvTelemetryAddress+"="+insideTelemetry)
	if fault == "nocache" {
		cmd.Env = append(cmd.Env, config.EnvServiceBindingRoot+"=", config.EnvRedisURL+"=redis://127.0.0.1:1")
	}
	return cmd, cmd.Start()
}

// faulty is a running release.
type faulty struct {
	fault string
	// requests received, and failures among them.
	requests, failures atomic.Int64
}

// degraded forwards requests and degrades some of the answers.
func (f *faulty) degraded() http.Handler {
	proxy := forward(inside)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nth := f.requests.Add(1)
		switch {
		case f.fault == "errors" && nth%everyNth == 0:
			f.failures.Add(1)
			http.Error(w, "injected failure", http.StatusInternalServerError)
			return
		case f.fault == "slow" && nth%everySlow == 0:
			wait(delay)
		case f.fault == "late":
			wait(longDelay)
		}
		proxy.ServeHTTP(w, r)
	})
}

func wait(delay time.Duration) {
	late := time.NewTimer(delay)
	defer late.Stop()
	<-late.C
}

// telemetry forwards the metrics of the real service, and adds the failures that it
// does not know of.
func (f *faulty) telemetry() http.Handler {
	proxy := forward(insideTelemetry)
	proxy.ModifyResponse = func(r *http.Response) error {
		if n := f.failures.Load(); n > 0 && r.Request.URL.Path == config.PathMetrics {
			line := fmt.Sprintf("%s{endpoint=\"single\",code=\"500\",track=%q} %d\n", config.MetricRequests, config.TrackOwn, n)
			r.Body = withMore{io.MultiReader(r.Body, strings.NewReader(line)), r.Body}
			r.ContentLength = -1
			r.Header.Del("Content-Length")
		}
		return nil
	}
	return proxy
}

// withMore is a body with a suffix.
type withMore struct {
	io.Reader
	io.Closer
}

// forward proxies to a server, whose metrics it requests without compression so that a
// line can be appended.
func forward(address string) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: address})
			if address == insideTelemetry {
				p.Out.Header.Set("Accept-Encoding", "identity")
			}
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
}
