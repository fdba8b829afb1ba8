// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/flags"
)

// TestRejectedFlagIsAnError requests a flag that exists but is invalid: that is
// not the same as a flag that does not exist.
func TestRejectedFlagIsAnError(t *testing.T) {
	set, _, err := flags.Parse([]byte(`{"flags":[
		{"key":"good","state":"ENABLED","variants":{"on":true},"defaultVariant":"on"},
		{"key":"bad","state":"ENABLED","variants":{"on":true},"defaultVariant":"secret-rule"},
		{"key":"twice","state":"ENABLED","variants":{"on":true}},
		{"key":"twice","state":"ENABLED","variants":{"on":true}},
		{"key":"a-number","state":1}]}`))
	if err != nil {
		t.Fatal(err)
	}
	core := NewCore(NewMetrics(prometheus.NewRegistry(), slog.New(slog.DiscardHandler)), time.Now)
	core.Serve(set)
	for key, want := range map[string]string{
		"good": `"value":true`, "bad": `"errorCode":"GENERAL"`, "twice": `"errorCode":"GENERAL"`, "a-number": `"errorCode":"GENERAL"`,
		"nobody": `"errorCode":"FLAG_NOT_FOUND"`, "secret-rule": `"errorCode":"FLAG_NOT_FOUND"`,
	} {
		status, answer := core.Single(nil, key, []byte(`{"context":{}}`))
		wantStatus := map[bool]int{true: http.StatusBadRequest, false: status}[strings.Contains(want, "GENERAL")]
		if !strings.Contains(string(answer), want) || status != wantStatus || key != "secret-rule" && strings.Contains(string(answer), "secret") {
			t.Errorf("%s is answered with %d %s", key, status, answer)
		}
	}
}
