// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Handler controls a player in another process: it exposes the methods of Player, with
// their arguments as query parameters.
//
//	POST /refuse?on=Create&id=ID&code=CODE&times=1
//	POST /failover?id=ID    /cut?id=ID    /delete?id=ID    /snapshotting?id=ID&for=10s
//	POST /pause    /resume    /resync    /slow?by=2s
//	GET  /groups   /calls     /ca.crt
func (p *Player) Handler() http.Handler {
	mux := http.NewServeMux()
	do := func(path string, act func(*http.Request) error) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if err := act(r); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
		})
	}
	do("/refuse", p.refuseByHTTP)
	do("/failover", func(r *http.Request) error { return p.Failover(r.Context(), r.FormValue("id")) })
	do("/cut", func(r *http.Request) error { return p.Cut(r.FormValue("id")) })
	do("/delete", func(r *http.Request) error { return p.DeleteOutOfBand(r.FormValue("id")) })
	do("/snapshotting", func(r *http.Request) error {
		d, err := time.ParseDuration(r.FormValue("for"))
		if err != nil {
			return fmt.Errorf("for: %w", err)
		}
		return p.Snapshotting(r.FormValue("id"), d)
	})
	do("/pause", func(*http.Request) error { p.Pause(); return nil })
	do("/resume", func(*http.Request) error { p.Resume(); return nil })
	do("/resync", func(r *http.Request) error { return p.Resync(r.Context()) })
	do("/slow", func(r *http.Request) error {
		d, err := time.ParseDuration(r.FormValue("by"))
		if err != nil {
			return fmt.Errorf("by: %w", err)
		}
		p.Slow(d)
		return nil
	})
	mux.HandleFunc("GET /groups", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, p.Groups()) })
	mux.HandleFunc("GET /calls", func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, p.Calls()) })
	mux.HandleFunc("GET /ca.crt", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(p.CA()) })
	return mux
}

func (p *Player) refuseByHTTP(r *http.Request) error {
	times, err := strconv.Atoi(cmp.Or(r.FormValue("times"), "1"))
	if err != nil {
		return fmt.Errorf("times: %w", err)
	}
	op, id, code := Operation(r.FormValue("on")), r.FormValue("id"), r.FormValue("code")
	switch {
	case op != Create && op != Modify && op != Delete:
		return fmt.Errorf("on is %q, not Create, Modify or Delete", op)
	case id == "" || code == "":
		return fmt.Errorf("id and code are required")
	}
	p.Refuse(op, id, code, times)
	return nil
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client may have disconnected
}
