// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/time/rate"

	"github.com/flagcache/flagcache/service/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const webToken, appToken = "web-token-0123456789", "app-token-0123456789"

func directory(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		write(t, dir, files[i], files[i+1])
	}
	return dir
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newKeys(dir string, log *bytes.Buffer) *Keys {
	limit := func() *rate.Limiter { return rate.NewLimiter(1, 1) }
	return NewKeys(dir, limit, slog.New(slog.NewTextHandler(log, nil)))
}

func TestFind(t *testing.T) {
	var log bytes.Buffer
	keys := newKeys(directory(t, "web", webToken+"\n", "app", appToken, "..data", "not-a-token-at-all"), &log)
	tests := map[string]struct{ token, client string }{
		"a token":                   {webToken, "web"},
		"another":                   {appToken, "app"},
		"no token":                  {"", ""},
		"the prefix of a token":     {webToken[:10], ""},
		"a token with a suffix":     {webToken + "x", ""},
		"a mount's own entry":       {"not-a-token-at-all", ""},
		"a token in another's case": {strings.ToUpper(webToken), ""},
		"a name instead of a token": {"web", ""},
		"a token with white space":  {webToken + "\n", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			found := ""
			if client := keys.Find(test.token); client != nil {
				found = client.Name
			}
			if found != test.client {
				t.Errorf("the token belongs to %q, not %q", found, test.client)
			}
		})
	}
	if strings.Contains(log.String(), "token-0123456789") {
		t.Errorf("the log contains a token: %s", log.String())
	}
}

func TestStreamTokensAreOnlyValidForStreams(t *testing.T) {
	var log bytes.Buffer
	dir := directory(t, "web", webToken, "app", appToken)
	keys := newKeys(dir, &log)
	web := keys.Find(webToken)
	if found := keys.FindStream(web.StreamToken); found != web {
		t.Errorf("the stream token belongs to %v", found)
	}
	if keys.Find(web.StreamToken) != nil || keys.FindStream(webToken) != nil {
		t.Error("one kind of token is accepted as the other")
	}
	if again := newKeys(dir, &log).Find(webToken); again.StreamToken != web.StreamToken {
		t.Error("another instance has another stream token")
	}
	if keys.Find(appToken).StreamToken == web.StreamToken {
		t.Error("two clients have the same stream token")
	}
}

func TestWithoutTokensAllRequestsAreDenied(t *testing.T) {
	tests := map[string]struct{ dir, problem string }{
		"no directory":       {filepath.Join(t.TempDir(), "absent"), "reading the tokens: "},
		"an empty directory": {t.TempDir(), "no valid token"},
		"an empty token":     {directory(t, "web", "\n"), "no valid token"},
		"a short token":      {directory(t, "web", "0123456789"), "no valid token"},
		"a huge token":       {directory(t, "web", strings.Repeat("x", MaxToken+1)), "no valid token"},
		"a directory in it":  {filepath.Dir(directory(t)), "no valid token"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			keys := newKeys(test.dir, &log)
			if !strings.HasPrefix(keys.Problem(), test.problem) || !strings.Contains(log.String(), "denying all requests") {
				t.Errorf("the error is %q, the log is %s", keys.Problem(), log.String())
			}
			for _, token := range []string{"", "0123456789", "web"} {
				if keys.Find(token) != nil || keys.FindStream(token) != nil {
					t.Errorf("%q is accepted", token)
				}
			}
		})
	}
}

func TestInvalidTokenOnlyAffectsItsClient(t *testing.T) {
	var log bytes.Buffer
	keys := newKeys(directory(t, "web", webToken, "app", "short"), &log)
	if keys.Problem() != "" || keys.Find(webToken) == nil {
		t.Errorf("the valid token is rejected: %s", keys.Problem())
	}
	if !strings.Contains(log.String(), "app: a token must have 16 to 4096 bytes") {
		t.Errorf("the log is %s", log.String())
	}
	before := log.Len()
	keys.read()
	if log.Len() != before {
		t.Errorf("the same is logged again: %s", log.String()[before:])
	}
}

// TestUnusableTokensAreReported checks tokens that no client could send.
func TestUnusableTokensAreReported(t *testing.T) {
	tests := map[string]struct{ content, problem string }{
		"two lines":                  {webToken + "\n" + appToken + "\n", "one line of printable ASCII"},
		"two lines as on Windows":    {webToken + "\r\n" + appToken, "one line of printable ASCII"},
		"a byte order mark":          {"\ufeff" + webToken, "byte order mark"},
		"UTF-16":                     {strings.Join(strings.Split(webToken, ""), "\x00"), "one line of printable ASCII"},
		"a zero width space in it":   {"\u200b" + webToken, "one line of printable ASCII"},
		"bytes that are not UTF-8":   {webToken + "\xff", "one line of printable ASCII"},
		"a tab between two tokens":   {webToken + "\t" + appToken, "one line of printable ASCII"},
		"a token and a stray letter": {webToken + "\nx", "one line of printable ASCII"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			keys := newKeys(directory(t, "web", test.content), &log)
			if keys.Problem() != "no valid token" || !strings.Contains(log.String(), test.problem) {
				t.Errorf("the error is %q, the log is %s", keys.Problem(), log.String())
			}
			if strings.Contains(log.String(), "token-0123456789") {
				t.Errorf("the log contains a token: %s", log.String())
			}
		})
	}
}

func TestKeysAreReloaded(t *testing.T) {
	dir := directory(t, "web", webToken)
	keys := NewKeys(dir, func() *rate.Limiter { return rate.NewLimiter(1, 1) }, slog.New(slog.DiscardHandler))
	limit := keys.Find(webToken).Limit
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); keys.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	write(t, dir, "app", appToken)
	redistest.Eventually(t, 20*time.Second, "a new client is not accepted", func() bool { return keys.Find(appToken) != nil })
	write(t, dir, "web", "another-token-0123456789")
	redistest.Eventually(t, 20*time.Second, "an old token is still accepted", func() bool { return keys.Find(webToken) == nil })
	redistest.Eventually(t, 20*time.Second, "a new token is not accepted", func() bool {
		client := keys.Find("another-token-0123456789")
		return client != nil && client.Limit == limit
	})
	if err := os.Remove(filepath.Join(dir, "app")); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 20*time.Second, "a removed client is still accepted", func() bool { return keys.Find(appToken) == nil })
}

func BenchmarkFind(b *testing.B) {
	dir := b.TempDir()
	for _, name := range []string{"a", "b", "c", "d"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name+webToken), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	keys := NewKeys(dir, func() *rate.Limiter { return nil }, slog.New(slog.DiscardHandler))
	b.ReportAllocs()
	for b.Loop() {
		keys.Find("c" + webToken)
	}
}
