// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/redistest"
	"github.com/flagcache/flagcache/service/source"
)

// publishedStore is the store of published flags.
const publishedStore = "flagcache:shop/demo"

// publish updates the mount of published flags in a directory.
func publish(dir string, number int) error {
	text := []byte(fmt.Sprintf(`{"flags":{"number":{"state":"ENABLED","variants":{"v":%d},"defaultVariant":"v"}}}`, number))
	var document bytes.Buffer
	w := gzip.NewWriter(&document)
	_, err := w.Write(text)
	manifest := fmt.Sprintf(`{"version":1,"store":%q,"current":{"number":%d,"digest":%q,"publishedAt":%q}}`,
		publishedStore, number, source.Digest(text), time.Now().UTC().Format(time.RFC3339))
	version := filepath.Join(dir, fmt.Sprintf("..%d", number))
	return errors.Join(err, w.Close(), os.Mkdir(version, 0o755),
		os.WriteFile(filepath.Join(version, config.FlagsDocumentKey), document.Bytes(), 0o600),
		os.WriteFile(filepath.Join(version, config.FlagsManifestKey), []byte(manifest), 0o600),
		os.Symlink(filepath.Base(version), filepath.Join(dir, "..data_tmp")),
		os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")),
	)
}

// mounted starts an instance with published flags in a mount, and without Redis.
func mounted(t *testing.T) (dir string, i *instance) {
	t.Helper()
	dir = t.TempDir()
	if err := publish(dir, 1); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{config.FlagsManifestKey, config.FlagsDocumentKey} {
		if err := os.Symlink(filepath.Join("..data", key), filepath.Join(dir, key)); err != nil {
			t.Fatal(err)
		}
	}
	i = launch(t, "FLAGS_MANIFEST="+filepath.Join(dir, config.FlagsManifestKey), "FLAGS_STORE="+publishedStore)
	i.awaitReady()
	return dir, i
}

// browser is a client that follows the event stream of one instance, and requests flags
// from any, as pages do behind a Service.
type browser struct {
	services [instances]*instance
	client   *http.Client
	// value is the value of the flag, failed and behind count failed requests, and answers
	// that said that they were behind.
	value          atomic.Int64
	failed, behind *atomic.Int64
	etag           string
}

// follow reads events until ctx ends, and requests the flags after each.
func (b *browser) follow(ctx context.Context, from *instance, opened func()) {
	opened = sync.OnceFunc(opened)
	defer opened()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from.ofrep+config.PathEvents, nil)
	if err != nil {
		return
	}
	response, err := b.client.Do(request)
	if err != nil {
		return
	}
	defer func() { _ = response.Body.Close() }()
	b.fetch(ctx, "")
	opened()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var event struct{ Etag string }
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			b.failed.Add(1)
			return
		}
		b.fetch(ctx, "?flagConfigEtag="+url.QueryEscape(event.Etag))
	}
}

// fetch requests all flags from any instance.
func (b *browser) fetch(ctx context.Context, query string) {
	service := b.services[rand.N(len(b.services))]
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, service.ofrep+config.PathEvaluate+query, strings.NewReader(`{"context":{}}`))
	if err != nil {
		return
	}
	if b.etag != "" {
		request.Header.Set("If-None-Match", b.etag)
	}
	response, err := b.client.Do(request)
	if err != nil {
		if ctx.Err() == nil {
			b.failed.Add(1)
		}
		return
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if response.Header.Get(config.HeaderBehind) != "" {
		b.behind.Add(1)
	}
	var all struct{ Flags []struct{ Value int64 } }
	switch {
	case err == nil && response.StatusCode == http.StatusNotModified:
	case err == nil && response.StatusCode == http.StatusOK && json.Unmarshal(body, &all) == nil && len(all.Flags) == 1:
		b.etag = response.Header.Get("ETag")
		b.value.Store(all.Flags[0].Value)
	case ctx.Err() == nil:
		b.failed.Add(1)
	}
}

// TestNoClientStaysOnOldFlags has one of three mounts updated later than the others, with each
// change: clients that were notified of it reach an instance that does not have it yet.
// Nothing but events makes a client request flags again. CHAOS_SECONDS=20 has 100 changes and
// 1,000 clients.
func TestNoClientStaysOnOldFlags(t *testing.T) {
	seconds := setting("CHAOS_SECONDS", 2)
	changes, number := 5*seconds, min(1000, 150*seconds)
	var dirs [instances]string
	var services [instances]*instance
	for n := range services {
		dirs[n], services[n] = mounted(t)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: number}}
	ctx, cancel := context.WithCancel(t.Context())
	var failed, behind atomic.Int64
	var following, opening sync.WaitGroup
	browsers := make([]*browser, number)
	for n := range browsers {
		b := &browser{services: services, client: client, failed: &failed, behind: &behind}
		browsers[n] = b
		opening.Add(1)
		following.Go(func() { b.follow(ctx, services[n%instances], opening.Done) })
	}
	defer client.CloseIdleConnections()
	defer following.Wait()
	defer cancel()
	opening.Wait()

	var late sync.WaitGroup
	var lateErr error
	for change := range changes {
		late.Wait()
		slow := change % instances
		for n, dir := range dirs {
			if n == slow {
				continue
			}
			if err := publish(dir, change+2); err != nil {
				t.Fatal(err)
			}
		}
		late.Go(func() {
			<-time.After(time.Duration(100+rand.N(200)) * time.Millisecond)
			lateErr = errors.Join(lateErr, publish(dirs[slow], change+2))
		})
	}
	late.Wait()
	if lateErr != nil {
		t.Fatal(lateErr)
	}
	changed := time.Now()
	// On a machine that is too busy, an instance may be behind for longer than clients wait.
	// They are told so.
	old := func() (n int) {
		for _, b := range browsers {
			if b.value.Load() != int64(changes+1) {
				n++
			}
		}
		return n
	}
	redistest.Eventually(t, 30*time.Second, "clients stay on old flags", func() bool { return int64(old()) <= behind.Load() })
	waited := 0.0
	for _, service := range services {
		waited += service.metric(config.MetricFreshnessWaits)
	}
	t.Logf("%d changes reached all of %d clients %s after the last; %.0f requests waited, %d were answered from older flags", changes, number,
		time.Since(changed).Round(time.Millisecond), waited, behind.Load())
	if n := failed.Load(); n > 0 {
		t.Errorf("%d requests failed", n)
	}
	if waited == 0 {
		t.Error("no request waited")
	}
}
