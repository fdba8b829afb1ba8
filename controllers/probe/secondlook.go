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

// A server that expects TLS and one that does not cannot tell each other's users
// what is wrong: Redis without TLS waits for the rest of what it takes for a very
// long line, Redis with TLS hangs up without a word. So the probe looks twice, on a
// second connection that carries no credentials.

// errPlainText says that the server of a TLS target answers in plain text, and
// errSpeaksTLS that the server of a plain-text target answers with TLS.
var (
	errPlainText = errors.New("the server answers in plain text")
	errSpeaksTLS = errors.New("the server answers with TLS")
)

// lookTwice makes a failure that looks like a misunderstanding about TLS tell
// whether it is one.
func lookTwice(ctx context.Context, t Target, control DialControl, f *failure) *failure {
	switch {
	case f.step == stepTLS && isTimeout(f.err) && answersPing(ctx, t, control):
		return &failure{step: stepTLS, err: errPlainText}
	case f.step == stepAsk && !t.TLS && len(f.conn.head) == 0 && isHangUp(f.err) && answersHello(ctx, t, control):
		return &failure{step: stepAsk, command: f.command, err: errSpeaksTLS, conn: f.conn}
	}
	return f
}

// answersPing reports whether the server answers PING in plain text as Redis does,
// be it with an error.
func answersPing(ctx context.Context, t Target, control DialControl) bool {
	return onNewConnection(ctx, t, control, func(conn net.Conn) bool {
		if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
			return false
		}
		var first [1]byte
		_, err := io.ReadFull(conn, first[:])
		return err == nil && (first[0] == '+' || first[0] == '-')
	})
}

// answersHello reports whether the server answers a TLS ClientHello, be it with a
// certificate that does not verify or with an alert.
func answersHello(ctx context.Context, t Target, control DialControl) bool {
	return onNewConnection(ctx, t, control, func(conn net.Conn) bool {
		encrypted, failed := handshake(ctx, t, conn)
		if failed == nil {
			return encrypted.Close() == nil
		}
		var unverified *tls.CertificateVerificationError
		return errors.As(failed.err, &unverified) || errors.Is(failed.err, errClientCertificate) || isAlert(failed.err)
	})
}

func onNewConnection(ctx context.Context, t Target, control DialControl, ask func(net.Conn) bool) bool {
	conn, failed := connect(ctx, t, control)
	if failed != nil {
		return false
	}
	defer conn.Close()
	stop := interruptAtEnd(ctx, conn)
	defer stop()
	return ask(conn)
}
