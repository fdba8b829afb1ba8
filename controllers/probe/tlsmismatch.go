// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
)

// A Redis server does not report that a client uses TLS where it does not, or the
// reverse: without TLS it waits for the rest of a very long line, with TLS it closes the
// connection. So the probe checks again on a second connection, without credentials.

// errPlainText is the error of a TLS target whose server responds in plain text, and
// errSpeaksTLS that of a plain-text target whose server responds with TLS.
var (
	errPlainText = errors.New("the server responds in plain text")
	errSpeaksTLS = errors.New("the server responds with TLS")
)

// detectTLSMismatch replaces a failure that may be due to a TLS mismatch by a definite
// one if it is.
func detectTLSMismatch(ctx context.Context, t Target, control DialControl, f *failure) *failure {
	switch {
	case f.step == stepTLS && isTimeout(f.err) && respondsToPing(ctx, t, control):
		return &failure{step: stepTLS, err: errPlainText}
	case f.step == stepCommands && !t.TLS && len(f.conn.head) == 0 && isHangUp(f.err) && respondsToHello(ctx, t, control):
		return &failure{step: stepCommands, command: f.command, err: errSpeaksTLS, conn: f.conn}
	}
	return f
}

// respondsToPing reports whether the server responds to PING in plain text like Redis,
// possibly with an error.
func respondsToPing(ctx context.Context, t Target, control DialControl) bool {
	return onNewConnection(ctx, t, control, func(conn net.Conn) bool {
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
func respondsToHello(ctx context.Context, t Target, control DialControl) bool {
	return onNewConnection(ctx, t, control, func(conn net.Conn) bool {
		encrypted, failed := handshake(ctx, t, conn)
		if failed == nil {
			return encrypted.Close() == nil
		}
		var unverified *tls.CertificateVerificationError
		return errors.As(failed.err, &unverified) || errors.Is(failed.err, errClientCertificate) || isAlert(failed.err)
	})
}

func onNewConnection(ctx context.Context, t Target, control DialControl, check func(net.Conn) bool) bool {
	conn, failed := connect(ctx, t, control)
	if failed != nil {
		return false
	}
	defer conn.Close()
	stop := interruptWhenDone(ctx, conn)
	defer stop()
	return check(conn)
}
