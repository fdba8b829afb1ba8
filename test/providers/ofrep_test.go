// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package providers

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// instance is a flag service for OFREP with a file of its own.
type instance struct {
	*process
	file, ofrep, telemetry string
}

func startInstance(t *testing.T) *instance {
	t.Helper()
	i := &instance{file: filepath.Join(t.TempDir(), "flags.json")}
	replace(t, i.file, document("0", "1"))
	i.process = launch(t, []string{
		"FLAGS_FILE=" + i.file, "FLAGS_STORE=shop", "LISTEN_ADDRESS=127.0.0.1:0", "TELEMETRY_ADDRESS=127.0.0.1:0", "DRAIN_DELAY=0s",
		"EVENT_STREAMS_SPREAD=0s",
	}, binary)
	line := i.next("log of the addresses", func(line map[string]any) bool { return line["msg"] == "starting" })
	i.ofrep, i.telemetry = fmt.Sprintf("http://%v", line["ofrep"]), fmt.Sprintf("http://%v", line["telemetry"])
	i.next("log that flags are served", func(line map[string]any) bool { return line["msg"] == "serving flags" })
	return i
}

// waits reports whether a request of the instance waits for more recent flags.
func (i *instance) waits() bool {
	response, err := http.Get(i.telemetry + "/metrics")
	if err != nil {
		return false
	}
	defer func() { _ = response.Body.Close() }()
	metrics, err := io.ReadAll(response.Body)
	return err == nil && strings.Contains(string(metrics), "\nofrep_freshness_waiting 1\n")
}

// within reports whether a condition holds within two seconds, which is longer than a
// request waits.
func within(condition func() bool) bool {
	deadline := time.After(2 * time.Second)
	for !condition() {
		select {
		case <-deadline:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	return true
}

// TestOFREPProviderWaitsForTheFlagsOfAnEvent has the provider request flags from an instance
// that gets each change later than the one whose events it receives. Nothing but
// the event makes it request them. On a busy machine, some changes take longer than
// a request waits.
func TestOFREPProviderWaitsForTheFlagsOfAnEvent(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	first, second := startInstance(t), startInstance(t)
	provider := launch(t, nil, "node", filepath.Join("testdata", "npm", "ofrep.mjs"), first.ofrep, second.ofrep)
	provider.event("PROVIDER_READY", "")
	expect(t, provider, "String", "static", "x", nil, `{"metadata":{"team":"shop"},"reason":"STATIC","value":"0","variant":"a"}`)
	followed := 0
	for value := 1; value <= 10 && followed < 3; value++ {
		text, want := document(fmt.Sprint(value), "1"), fmt.Sprintf(`"value":"%d"`, value)
		replace(t, first.file, text)
		waited := within(second.waits)
		replace(t, second.file, text)
		if waited && within(func() bool { return strings.Contains(provider.evaluate("String", "static", "x", nil), want) }) {
			followed++
		}
	}
	if followed < 3 {
		t.Errorf("the provider has only %d of the changes that its events were about", followed)
	}
}
