// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command testserver is the server and the client of the self-test, which run in pods.
// It uses the standard library only.
//
//	testserver               serves on :8080 until SIGTERM:
//	  /                        the pod's name
//	  /ready                   fails from /unready on, until /reready
//	  /exit/CODE               exits the program
//	testserver get URL       prints the response of a server
//	testserver lookup NAME   prints the number of addresses of a name
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "get":
		err = get(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "lookup":
		err = lookup(os.Args[2])
	default:
		err = serve()
	}
	if err != nil {
		log.Fatal(err)
	}
}

// serve answers until SIGTERM, which it ignores if IGNORE_TERM is set.
func serve() error {
	server := &http.Server{Addr: ":8080", Handler: routes(), ReadHeaderTimeout: 5 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() {
		log.Print("received SIGTERM")
		if os.Getenv("IGNORE_TERM") == "" {
			server.Close()
		}
	})
	log.Print("serving")
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func routes() http.Handler {
	var unready atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		name, _ := os.Hostname()
		fmt.Fprintln(w, name)
	})
	mux.HandleFunc("/exit/{code}", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		log.Printf("exiting with %d", code)
		os.Exit(code)
	})
	mux.HandleFunc("/unready", func(http.ResponseWriter, *http.Request) { unready.Store(true) })
	mux.HandleFunc("/reready", func(http.ResponseWriter, *http.Request) { unready.Store(false) })
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if unready.Load() {
			http.Error(w, "unready", http.StatusServiceUnavailable)
		}
	})
	return mux
}

// get prints what the server at the URL answers within five seconds.
func get(url string) error {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}

// lookup prints how many addresses a name has.
func lookup(name string) error {
	addresses, err := net.LookupHost(name)
	if err != nil {
		return err
	}
	fmt.Println(len(addresses))
	return nil
}
