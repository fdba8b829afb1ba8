// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/flagcache/flagcache/service/redistest"
)

func TestCluster(t *testing.T) {
	server := redistest.StartCluster(t)
	for name, options := range map[string]Options{
		"by URL":     {URL: "redis+cluster://" + server.Addr},
		"by binding": {BindingDir: boundTo(t, map[string]string{"host": "127.0.0.1", "port": server.Port(), "mode": "cluster"})},
	} {
		t.Run(name, func(t *testing.T) {
			server.Client().FlushAll(t.Context())
			r := runCache(t, options)
			r.awaitChange(t, 1)
			r.mustStore(t, Entry{State: number(1), Data: []byte("one")})
			r.mustRead(t, "one")
			seen := r.changes.Load()
			if err := r.Invalidate(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.awaitChange(t, seen)
			fill := func(context.Context) (Entry, error) { return Entry{State: number(2), Data: []byte("two")}, nil }
			if err := r.Refill(t.Context(), atLeast(number(2)), fill); err != nil {
				t.Fatalf("refilling: %v", err)
			}
			r.mustRead(t, "two")
			if server.Client().Exists(t.Context(), "feature_flags_lock:test").Val() != 0 {
				t.Error("the lock was not released")
			}
		})
	}
}

func boundTo(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	binding(t, dir, files)
	return dir
}

// TestSentinelFailover is C5 and C6 with a real sentinel: the primary is
// killed, and its replica takes over.
func TestSentinelFailover(t *testing.T) {
	primary := redistest.Start(t)
	replica := redistest.StartReplica(t, primary)
	sentinel := redistest.StartSentinel(t, primary, 1)
	r := runCache(t, Options{URL: sentinel.SentinelURL()})
	r.awaitChange(t, 1)
	r.mustStore(t, Entry{State: number(1), Data: []byte("one")})
	r.mustRead(t, "one")

	primary.Kill()
	redistest.Eventually(t, 30*time.Second, "the sentinel did not fail over", func() bool { return sentinel.Primary() == replica.Addr })
	redistest.Eventually(t, recovery, "the new primary was not used", func() bool {
		return r.Store(t.Context(), Entry{State: number(2), Data: []byte("two")}) == nil
	})
	if got := replica.Client().Get(t.Context(), testKey).Val(); !strings.HasSuffix(got, "two") {
		t.Errorf("the new primary holds %q", got)
	}
}

// TestCABundleIsReloaded is C8: the server's certificate and its CA are
// replaced at run time, and then the CA bundle in the file.
func TestCABundleIsReloaded(t *testing.T) {
	old, renewed := t.TempDir(), t.TempDir()
	oldCA, renewedCA := certificate(t, old), certificate(t, renewed)
	port := freePort(t)
	server := redistest.Start(t, "--tls-port", port, "--tls-cert-file", filepath.Join(old, "cert.pem"), "--tls-key-file",
		filepath.Join(old, "key.pem"), "--tls-ca-cert-file", filepath.Join(old, "cert.pem"), "--tls-auth-clients", "no")
	file := filepath.Join(t.TempDir(), "ca.pem")
	write := func(content string) {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(oldCA)
	r := runCache(t, Options{URL: "rediss://127.0.0.1:" + port, CAFile: file})
	r.awaitChange(t, 1)
	r.mustStore(t, Entry{State: number(1), Data: []byte("one")})

	mustDo(t, server.Client(), "CONFIG", "SET", "tls-cert-file", filepath.Join(renewed, "cert.pem"),
		"tls-key-file", filepath.Join(renewed, "key.pem"), "tls-ca-cert-file", filepath.Join(renewed, "cert.pem"))
	mustDo(t, server.Client(), "CLIENT", "KILL", "TYPE", "pubsub")
	mustDo(t, server.Client(), "CLIENT", "KILL", "TYPE", "normal")
	// Nothing is sent in plain text, nor to an untrusted server.
	r.awaitBreaker(t, true)
	write(oldCA + renewedCA)
	r.readsSoon(t, "one")
}

func TestParseURL(t *testing.T) {
	sentinel, err := parseURL("rediss+sentinel://su:sp@a:1/2?master_name=m&addr=b:2&username=u&password=p")
	if err != nil {
		t.Fatal(err)
	}
	if len(sentinel.Addrs) != 2 || sentinel.MasterName != "m" || sentinel.SentinelUsername != "su" || sentinel.SentinelPassword != "sp" ||
		sentinel.Username != "u" || sentinel.Password != "p" || sentinel.DB != 2 || sentinel.TLSConfig == nil || sentinel.TLSConfig.ServerName != "" {
		t.Errorf("unexpected options: %+v", sentinel)
	}
	cluster, err := parseURL("rediss+cluster://u:p@a:1?addr=b:2")
	if err != nil {
		t.Fatal(err)
	}
	if len(cluster.Addrs) != 2 || !cluster.IsClusterMode || cluster.Username != "u" || cluster.Password != "p" || cluster.TLSConfig == nil {
		t.Errorf("unexpected options: %+v", cluster)
	}
	for _, bad := range []string{"redis+sentinel://a:1", "redis+other://a:1", "http+cluster://a", "redis+cluster://u:secret@a:1?addr=secret",
		"redis://u:12#secret@a:1", "redis://u:12/secret@a:1", "redis://u:12?secret@a:1", "redis+cluster://u:12#secret@a:1", "redis+cluster://u:12/secret@a:1",
	} {
		if _, err := parseURL(bad); !errors.Is(err, errInvalidURL) {
			t.Errorf("parsing %s returns %v", bad, err)
		}
	}
}

// testAuthenticator returns an authenticator with test credentials.
func testAuthenticator(iam IAM, now func() time.Time) *authenticator {
	return &authenticator{iam: iam, now: now, load: func(context.Context) (aws.Config, error) {
		return aws.Config{Region: "eu-west-1", Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI"}, nil
		})}, nil
	}}
}

// TestIAMTokenIsSignedForElastiCache compares the token with an independent
// implementation of Signature Version 4.
func TestIAMTokenIsSignedForElastiCache(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a := testAuthenticator(IAM{CacheName: "My-Cache", User: "app", Serverless: true}, func() time.Time { return at })
	user, token, err := a.credentials(t.Context())
	if err != nil || user != "app" {
		t.Fatalf("the user is %q, error %v", user, err)
	}
	request, signature, _ := strings.Cut(token, "&X-Amz-Signature=")
	host, query, _ := strings.Cut(request, "/?")
	values, err := url.ParseQuery(query)
	if err != nil || host != "my-cache" || strings.Contains(token, "://") {
		t.Fatalf("unexpected token %q: %v", token, err)
	}
	for name, want := range map[string]string{"Action": "connect", "User": "app", "ResourceType": "ServerlessCache", "X-Amz-Expires": "900",
		"X-Amz-Date": "20260301T120000Z", "X-Amz-Credential": "AKIDEXAMPLE/20260301/eu-west-1/elasticache/aws4_request"} {
		if got := values.Get(name); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	sum := sha256.Sum256([]byte("GET\n/\n" + query + "\nhost:my-cache\n\nhost\n" + emptyPayload))
	toSign := "AWS4-HMAC-SHA256\n20260301T120000Z\n20260301/eu-west-1/elasticache/aws4_request\n" + hex.EncodeToString(sum[:])
	key := []byte("AWS4wJalrXUtnFEMI")
	for _, part := range []string{"20260301", "eu-west-1", "elasticache", "aws4_request", toSign} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	if signature != hex.EncodeToString(key) {
		t.Errorf("the signature is %s, not %x", signature, key)
	}
}

// TestEachConnectionGetsANewIAMToken: a connection that is opened after the
// first token has expired gets a new one.
func TestEachConnectionGetsANewIAMToken(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	a := testAuthenticator(IAM{CacheName: "c", User: "app"}, func() time.Time { return now })
	_, first, err := a.credentials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(tokenLife)
	if _, second, _ := a.credentials(t.Context()); second == first || !strings.Contains(second, "20260301T121500Z") {
		t.Errorf("after %s the token is %q", tokenLife, second)
	}
	if err := (IAM{CacheName: "c"}).check(); err == nil {
		t.Error("a missing user is accepted")
	}
}
