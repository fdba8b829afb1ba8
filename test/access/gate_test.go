// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/redistest"
)

// gate terminates TLS, records the commands it receives, and forwards them to a
// server without TLS. A command is recorded before the server can answer it.
type gate struct {
	port int
	// ca is the certificate to trust, in PEM.
	ca string

	to       string
	listener net.Listener
	running  sync.WaitGroup

	mu       sync.Mutex
	open     []net.Conn
	commands [][]string
}

func startGate(t *testing.T, to string) *gate {
	t.Helper()
	certificate, ca := newCertificate(t)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatalf("listening: %v", err)
	}
	g := &gate{port: listener.Addr().(*net.TCPAddr).Port, ca: ca, to: to, listener: listener}
	g.running.Go(g.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		g.cut()
		g.running.Wait()
	})
	return g
}

func newCertificate(t *testing.T) (certificate tls.Certificate, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gate"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (g *gate) accept() {
	for {
		client, err := g.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", g.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		g.mu.Lock()
		g.open = append(g.open, client, server)
		g.mu.Unlock()
		g.running.Go(func() {
			defer server.Close()
			g.forward(bufio.NewReader(client), server)
		})
		g.running.Go(func() {
			defer client.Close()
			_, _ = io.Copy(client, server)
		})
	}
}

// cut closes all connections.
func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, conn := range g.open {
		_ = conn.Close()
	}
	g.open = nil
}

// forward records and forwards the commands of one client until either side closes.
func (g *gate) forward(from *bufio.Reader, to io.Writer) {
	for {
		command, err := readCommand(from)
		if err != nil {
			return
		}
		g.mu.Lock()
		g.commands = append(g.commands, command)
		g.mu.Unlock()
		if err := writeCommand(to, command); err != nil {
			return
		}
	}
}

// writeCommand writes a list of strings in Redis's protocol.
func writeCommand(to io.Writer, command []string) error {
	text := fmt.Appendf(nil, "*%d\r\n", len(command))
	for _, part := range command {
		text = fmt.Appendf(text, "$%d\r\n%s\r\n", len(part), part)
	}
	_, err := to.Write(text)
	return err
}

// readCommand reads a list of strings in Redis's protocol.
func readCommand(from *bufio.Reader) ([]string, error) {
	count, err := readLength(from, '*')
	if err != nil {
		return nil, err
	}
	command := make([]string, count)
	for i := range command {
		length, err := readLength(from, '$')
		if err != nil {
			return nil, err
		}
		text := make([]byte, length+len("\r\n"))
		if _, err := io.ReadFull(from, text); err != nil {
			return nil, err
		}
		command[i] = string(text[:length])
	}
	return command, nil
}

func readLength(from *bufio.Reader, kind byte) (int, error) {
	line, err := from.ReadString('\n')
	if err != nil {
		return 0, err
	}
	if line[0] != kind {
		return 0, fmt.Errorf("%q is no command", line)
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}

// recorded are the commands so far.
func (g *gate) recorded() [][]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.commands)
}

// names are the commands so far, except those of the login, which need no permission.
func (g *gate) names() []string {
	var names []string
	for _, command := range g.recorded() {
		if name := strings.ToLower(command[0]); name != "hello" && name != "auth" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// await waits until a command was received.
func (g *gate) await(t *testing.T, name string) {
	t.Helper()
	redistest.Eventually(t, 30*time.Second, "command "+name+" was not sent", func() bool { return slices.Contains(g.names(), name) })
}
