// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
)

// No failure reveals the password in any encoding.
func TestPasswordsStaySecret(t *testing.T) {
	t.Parallel()
	var output record
	var results sync.WaitGroup
	once := map[types.NamespacedName]*sync.Once{}
	p := New(Options{
		Rules: loopback,
		Log:   funcr.New(output.note, funcr.Options{Verbosity: 10}),
		Changed: func(key types.NamespacedName) {
			once[key].Do(results.Done)
		},
	})
	targets := map[types.NamespacedName]Target{}
	for name, s := range failureScenarios {
		key := types.NamespacedName{Namespace: "test", Name: name}
		targets[key], once[key] = s.prepared(t), &sync.Once{}
		results.Add(1)
	}
	start(t, p)
	for key, target := range targets {
		p.Watch(key, target)
	}
	results.Wait()

	for key := range targets {
		result, _ := p.Last(key)
		inJSON, err := json.Marshal(result)
		if err != nil {
			t.Fatal(err)
		}
		output.note("", fmt.Sprintf("%+v %s", result, inJSON))
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(p.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	output.note("", fmt.Sprint(families))
	expectNoPassword(t, "the output of the prober", output.String())
	if text := output.String(); !strings.Contains(text, "TLSRequired") || !strings.Contains(text, "flagcache_probe_failures_total") {
		t.Errorf("want the reasons and the metrics in the output, got:\n%s", text)
	}
}

// record collects lines from many goroutines.
type record struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (r *record) note(prefix, line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines.WriteString(prefix + line + "\n")
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines.String()
}

func expectNoPassword(t *testing.T, where, text string) {
	t.Helper()
	raw := []byte(secretPassword)
	inJSON, err := json.Marshal(secretPassword)
	if err != nil {
		t.Fatal(err)
	}
	for _, encoding := range []string{
		secretPassword, strings.Trim(strconv.Quote(secretPassword), `"`), strings.Trim(string(inJSON), `"`),
		url.QueryEscape(secretPassword), url.PathEscape(secretPassword), hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)),
		base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw), "c4n4ry",
	} {
		if strings.Contains(text, encoding) {
			t.Errorf("%s contains the password as %s:\n%s", where, encoding, text)
		}
	}
}
