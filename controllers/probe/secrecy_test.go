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

// No trouble makes the prober tell a password, in any spelling, to anyone.
func TestPasswordsStaySecret(t *testing.T) {
	t.Parallel()
	var said record
	var verdicts sync.WaitGroup
	once := map[types.NamespacedName]*sync.Once{}
	p := New(Options{
		Log: funcr.New(said.note, funcr.Options{Verbosity: 10}),
		Changed: func(key types.NamespacedName) {
			once[key].Do(verdicts.Done)
		},
	})
	targets := map[types.NamespacedName]Target{}
	for name, s := range troubles {
		key := types.NamespacedName{Namespace: "test", Name: name}
		targets[key], once[key] = s.prepared(t), &sync.Once{}
		verdicts.Add(1)
	}
	start(t, p)
	for key, target := range targets {
		p.Watch(key, target)
	}
	verdicts.Wait()

	for key := range targets {
		result, _ := p.Last(key)
		inJSON, err := json.Marshal(result)
		if err != nil {
			t.Fatal(err)
		}
		said.note("", fmt.Sprintf("%+v %s", result, inJSON))
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(p.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	said.note("", fmt.Sprint(families))
	expectNoCanary(t, "what the prober said", said.String())
	if text := said.String(); !strings.Contains(text, "TLSRequired") || !strings.Contains(text, "flagcache_probe_failures_total") {
		t.Errorf("want the reasons and the metrics in what the prober said, got:\n%s", text)
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

func expectNoCanary(t *testing.T, where, text string) {
	t.Helper()
	raw := []byte(canary)
	inJSON, err := json.Marshal(canary)
	if err != nil {
		t.Fatal(err)
	}
	for _, spelling := range []string{
		canary, strings.Trim(strconv.Quote(canary), `"`), strings.Trim(string(inJSON), `"`),
		url.QueryEscape(canary), url.PathEscape(canary), hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)),
		base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw), "c4n4ry",
	} {
		if strings.Contains(text, spelling) {
			t.Errorf("%s holds the password as %s:\n%s", where, spelling, text)
		}
	}
}
