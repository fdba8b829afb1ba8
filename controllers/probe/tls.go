// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"time"
)

// handshakeShare is the share of a probe's timeout for the TLS handshake. The rest is
// for detectTLSMismatch.
const handshakeShare = 0.75

var (
	errNoCertificateInCA = errors.New("no PEM certificate in the CA")
	errClientCertificate = errors.New("the server requires a client certificate")
)

// handshake encrypts conn and verifies the server's certificate. It resumes no session,
// which would save a third of the CPU time but skip the certificate that new clients of
// the cache receive.
func handshake(ctx context.Context, t Target, conn net.Conn) (net.Conn, *failure) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(handshakeShare*float64(t.Timeout)))
	defer cancel()

	encrypted := &encryptedConn{}
	config, err := encrypted.config(t)
	if err != nil {
		return nil, &failure{step: stepTLS, err: err}
	}
	client := tls.Client(conn, config)
	encrypted.Conn = client
	if err := client.HandshakeContext(ctx); err != nil {
		return nil, &failure{step: stepTLS, err: encrypted.explain(err)}
	}
	return encrypted, nil
}

// encryptedConn tracks whether the server requested a client certificate: with TLS 1.3 a
// server that requires one reports its absence only after the handshake.
type encryptedConn struct {
	net.Conn

	requested bool
	received  bool
}

func (c *encryptedConn) config(t Target) (*tls.Config, error) {
	host, err := hostOf(t.Addr)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: strings.TrimSuffix(host, "."),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c.requested = true
			return &tls.Certificate{}, nil
		},
	}
	if len(t.CA) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(t.CA) {
			return nil, errNoCertificateInCA
		}
	}
	return config, nil
}

// Read implements net.Conn.
func (c *encryptedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received = c.received || n > 0
	return n, c.explain(err)
}

// Write implements net.Conn.
func (c *encryptedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.explain(err)
}

// explain returns errClientCertificate for an alert or a closed connection before the
// first reply of a server that requested a client certificate.
func (c *encryptedConn) explain(err error) error {
	if err != nil && c.requested && !c.received && (isAlert(err) || isHangUp(err)) {
		return errClientCertificate
	}
	return err
}

// isAlert reports whether err is a TLS alert of the server, whose code is not exported.
func isAlert(err error) bool {
	var remote *net.OpError
	return errors.As(err, &remote) && remote.Op == "remote error"
}

// detectTLSMismatch replaces a failure that may be due to a TLS mismatch by a definite
// one if it is.
func detectTLSMismatch(ctx context.Context, t Target, d *dialing, f *failure) *failure {
	switch {
	case f.step == stepTLS && isTimeout(f.err) && respondsToPing(ctx, t, d):
		return &failure{step: stepTLS, err: errPlainText}
	case f.step == stepCommands && !t.TLS && len(f.conn.head) == 0 && isHangUp(f.err) && respondsToHello(ctx, t, d):
		return &failure{step: stepCommands, command: f.command, err: errSpeaksTLS, conn: f.conn}
	}
	return f
}

// respondsToPing reports whether the server responds to PING in plain text like Redis,
// possibly with an error.
func respondsToPing(ctx context.Context, t Target, d *dialing) bool {
	return onNewConnection(ctx, t, d, func(conn net.Conn) bool {
		if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
			return false
		}
		var first [1]byte
		_, err := io.ReadFull(conn, first[:])
		return err == nil && (first[0] == '+' || first[0] == '-')
	})
}

// respondsToHello reports whether the server responds to a TLS ClientHello, possibly
// with an invalid certificate or an alert.
func respondsToHello(ctx context.Context, t Target, d *dialing) bool {
	return onNewConnection(ctx, t, d, func(conn net.Conn) bool {
		encrypted, failed := handshake(ctx, t, conn)
		if failed == nil {
			return encrypted.Close() == nil
		}
		var unverified *tls.CertificateVerificationError
		return errors.As(failed.err, &unverified) || errors.Is(failed.err, errClientCertificate) || isAlert(failed.err)
	})
}

func onNewConnection(ctx context.Context, t Target, d *dialing, check func(net.Conn) bool) bool {
	conn, failed := d.connect(ctx, t)
	if failed != nil {
		return false
	}
	defer conn.Close()
	stop := interruptWhenDone(ctx, conn)
	defer stop()
	return check(conn)
}

// A Redis server does not report that a client uses TLS where it does not, or the
// reverse: without TLS it waits for the rest of a very long line, with TLS it closes the
// connection. So the probe checks again on a second connection, without credentials.

// errPlainText is the error of a TLS target whose server responds in plain text, and
// errSpeaksTLS that of a plain-text target whose server responds with TLS.
var (
	errPlainText = errors.New("the server responds in plain text")
	errSpeaksTLS = errors.New("the server responds with TLS")
)
