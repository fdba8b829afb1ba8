// Command testserver is what the self-test runs in pods: an HTTP server that tells
// about where it runs. It uses the standard library only.
//
//	/            the pod's name
//	/env/NAME    an environment variable
//	/file/PATH   the content of a file
//	/dial/ADDR   what this pod gets from http://ADDR/
//	/write/PATH  tries to write a file
//	/id          user and group ids
//	/unready     makes /ready fail until /reready is asked
//	/exit/CODE   ends the program
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	address := ":8080"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	server := &http.Server{Addr: address, Handler: routes(), ReadHeaderTimeout: 5 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() {
		log.Print("asked to end")
		if os.Getenv("IGNORE_TERM") == "" {
			server.Close()
		}
	})
	log.Printf("serving on %s", address)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

func routes() http.Handler {
	var unready atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		name, _ := os.Hostname()
		fmt.Fprintln(w, name)
	})
	mux.HandleFunc("/env/{name}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, os.Getenv(r.PathValue("name")))
	})
	mux.HandleFunc("/file/{path...}", func(w http.ResponseWriter, r *http.Request) {
		content, err := os.ReadFile("/" + r.PathValue("path"))
		answer(w, string(content), err)
	})
	mux.HandleFunc("/write/{path...}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, "written\n", os.WriteFile("/"+r.PathValue("path"), []byte("x"), 0o600))
	})
	mux.HandleFunc("/dial/{address}", func(w http.ResponseWriter, r *http.Request) {
		content, err := get(r.Context(), "http://"+r.PathValue("address")+"/")
		answer(w, content, err)
	})
	mux.HandleFunc("/id", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, os.Getuid(), os.Getgid())
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

func get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	// A connection each, so that each is sent to an endpoint of its own.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return string(content), err
}

func answer(w http.ResponseWriter, content string, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(w, content)
}
