// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/flagcache/flagcache/service/redistest"
)

// binding writes a Service Binding; files with an empty value are removed.
func binding(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, value := range files {
		path := filepath.Join(dir, name)
		if value == "" {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBindingChangesAreApplied(t *testing.T) {
	first := redistest.Start(t, "--requirepass", "first-password")
	second := redistest.Start(t)
	dir := filepath.Join(t.TempDir(), "cache")
	r := runCache(t, Options{BindingDir: dir})

	redistest.Eventually(t, 5*time.Second, "the missing binding was not logged", func() bool {
		return strings.Contains(r.logs.String(), "reading the service binding")
	})
	binding(t, dir, map[string]string{"type": "redis", "host": "127.0.0.1", "port": first.Port(), "password": "first-password", "tls": "false"})
	redistest.Eventually(t, 10*time.Second, "the new binding was not used", func() bool { return r.changes.Load() > 1 })
	r.mustStore(t, Entry{State: number(1), Data: []byte("one")})

	binding(t, dir, map[string]string{"host": "", "port": "", "password": "", "uri": second.URL()})
	redistest.Eventually(t, 10*time.Second, "the changed binding was not used", func() bool {
		_, err := r.Read(t.Context())
		return errors.Is(err, ErrMiss)
	})
	if strings.Contains(r.logs.String(), "first-password") {
		t.Error("the password is in the log")
	}
	redistest.Eventually(t, 5*time.Second, "the old connections were not closed", func() bool {
		client := redis.NewClient(&redis.Options{Addr: first.Addr, Password: "first-password", ClientName: "redistest"})
		defer func() { _ = client.Close() }()
		return first.Connections(client) == 0
	})
}

func TestURLIsUsedWithoutABinding(t *testing.T) {
	server := redistest.Start(t)
	r := runCache(t, Options{BindingDir: filepath.Join(t.TempDir(), "none"), URL: server.URL()})
	r.awaitChange(t, 0)
	r.mustStore(t, Entry{State: number(1), Data: []byte("one")})
}

func TestInvalidBindings(t *testing.T) {
	tests := map[string]struct {
		files map[string]string
		want  string
	}{
		"another type":       {map[string]string{"type": "postgresql", "host": "x"}, `has type "postgresql", not redis`},
		"no address":         {map[string]string{"type": "redis"}, "neither host nor uri"},
		"an invalid tls":     {map[string]string{"host": "x", "tls": "yes"}, "it must be true or false"},
		"an invalid ca":      {map[string]string{"host": "x", "tls": "true", "ca": "x"}, "contains no PEM certificate"},
		"an unsupported uri": {map[string]string{"uri": "http://user:secret@x"}, "uri is not a URL like redis://"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			binding(t, dir, test.files)
			_, err := readBinding(dir)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("the error is %v, not one with %q", err, test.want)
			}
		})
	}
}

func TestBindingDetails(t *testing.T) {
	dir := t.TempDir()
	binding(t, dir, map[string]string{"host": "redis.example", "username": "app", "password": " p ", "tls": "true"})
	options, err := readBinding(dir)
	if err != nil {
		t.Fatal(err)
	}
	if options.Addrs[0] != "redis.example:6379" || options.Username != "app" || options.Password != "p" || options.TLSConfig == nil {
		t.Errorf("unexpected options: %+v", options)
	}
	binding(t, dir, map[string]string{"host": "", "tls": "", "username": "", "password": "", "uri": "rediss://u:p@h:1234/2"})
	if options, err = readBinding(dir); err != nil {
		t.Fatal(err)
	}
	if options.Addrs[0] != "h:1234" || options.Username != "u" || options.DB != 2 || options.TLSConfig == nil {
		t.Errorf("unexpected options: %+v", options)
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca := certificate(t, dir)
	server := redistest.Start(t)
	secured := redistest.Start(t, "--tls-port", freePort(t), "--tls-cert-file", filepath.Join(dir, "cert.pem"),
		"--tls-key-file", filepath.Join(dir, "key.pem"), "--tls-ca-cert-file", filepath.Join(dir, "cert.pem"), "--tls-auth-clients", "no")
	port := secured.Client().ConfigGet(t.Context(), "tls-port").Val()["tls-port"]

	good := filepath.Join(t.TempDir(), "cache")
	binding(t, good, map[string]string{"host": "127.0.0.1", "port": port, "tls": "true", "ca": ca})
	r := runCache(t, Options{BindingDir: good})
	r.awaitChange(t, 0)
	r.mustStore(t, Entry{State: number(1), Data: []byte("one")})
	r.mustRead(t, "one")

	for name, files := range map[string]map[string]string{
		"an unknown CA":                 {"host": "127.0.0.1", "port": port, "tls": "true"},
		"a server in plain text":        {"host": "127.0.0.1", "port": server.Port(), "tls": "true", "ca": ca},
		"a name not in the certificate": {"host": "localhost", "port": port, "tls": "true", "ca": ca},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			binding(t, dir, files)
			r := runCache(t, Options{BindingDir: dir})
			redistest.Eventually(t, 5*time.Second, "the binding was not read", func() bool {
				_, _, _, err := r.connected()
				return err == nil
			})
			if _, err := r.Read(t.Context()); err == nil || errors.Is(err, ErrMiss) {
				t.Errorf("the connection is trusted: %v", err)
			}
		})
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// certificate writes cert.pem and key.pem for 127.0.0.1 and returns the former.
func certificate(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, content := range map[string][]byte{"cert.pem": cert, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return string(cert)
}
