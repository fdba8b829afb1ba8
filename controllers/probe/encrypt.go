// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"time"
)

// handshakeShare of a probe's timeout is what the TLS handshake may take, so that
// some is left for a second look.
const handshakeShare = 0.75

var (
	errNoCertificateInCA = errors.New("no PEM certificate in the CA")
	errClientCertificate = errors.New("the server demands a certificate of its clients")
)

// handshake encrypts conn and verifies who is at its other end. It resumes no session,
// though that would save a third of the CPU time: a resumed one does not look at the
// certificate that new users of the cache are shown.
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

// encryptedConn knows whether the server asked for a client certificate: since
// TLS 1.3 a server that insists on one says so only after the handshake.
type encryptedConn struct {
	net.Conn

	asked    bool
	answered bool
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
			c.asked = true
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
	c.answered = c.answered || n > 0
	return n, c.explain(err)
}

// Write implements net.Conn.
func (c *encryptedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.explain(err)
}

// explain takes an alert or a hang-up before the first answer, by a server that
// asked for a certificate and got none, for what it is.
func (c *encryptedConn) explain(err error) error {
	if err != nil && c.asked && !c.answered && (isAlert(err) || isHangUp(err)) {
		return errClientCertificate
	}
	return err
}

// isAlert reports whether err is an alert that the other side sent. Its number is
// not exported.
func isAlert(err error) bool {
	var remote *net.OpError
	return errors.As(err, &remote) && remote.Op == "remote error"
}
