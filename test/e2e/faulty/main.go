// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command faulty is a release of the flag service that is no good. It runs the
// real one, which is appended to this executable (see package release), and spoils
// what clients get of it as the environment variable FAULT says:
//
//	errors   2 % of the answers have the status 500
//	slow     one answer in ten takes 250 ms longer
//	nocache  its cache is a port that nobody listens on
//	crash    it ends after a few seconds with the exit code 1
//
// Any other value spoils nothing.
package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/test/e2e/faulty/release"
)

const (
	// inside is where the real flag service listens.
	inside = "127.0.0.1:18080"
	// everyNth answer is an error, 2 %; everySlow is a slow one.
	everyNth  = 50
	everySlow = 10
	delay     = 250 * time.Millisecond
	// lifetime is what a crashing release lives.
	lifetime = 8 * time.Second
)

func main() {
	if err := run(os.Getenv("FAULT")); err != nil {
		slog.Error("A faulty release ends", "error", err)
		os.Exit(1)
	}
}

var errCrash = errors.New("crashing, as asked")

func run(fault string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	service, err := startService(fault)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- service.Wait() }()
	server := &http.Server{Addr: os.Getenv(config.EnvListenAddress), Handler: spoilt(fault), ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServe() }()
	var crash <-chan time.Time
	if fault == "crash" {
		crash = time.After(lifetime)
	}
	select {
	case <-ctx.Done():
		_ = service.Process.Signal(syscall.SIGTERM) // it drains, and ends with that
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
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), config.EnvListenAddress+"="+inside)
	if fault == "nocache" {
		cmd.Env = append(cmd.Env, config.EnvServiceBindingRoot+"=", config.EnvRedisURL+"=redis://127.0.0.1:1")
	}
	return cmd, cmd.Start()
}

// spoilt passes requests on and spoils some of them.
func spoilt(fault string) http.Handler {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: inside})
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	var n atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nth := n.Add(1)
		switch {
		case fault == "errors" && nth%everyNth == 0:
			http.Error(w, "spoilt", http.StatusInternalServerError)
			return
		case fault == "slow" && nth%everySlow == 0:
			late := time.NewTimer(delay)
			defer late.Stop()
			<-late.C
		}
		proxy.ServeHTTP(w, r)
	})
}
