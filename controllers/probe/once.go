// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/flagcache/flagcache/controllers/dial"
)

// keyExpiry is how long the probed key exists after the last probe.
const keyExpiry = time.Minute

// Once probes once, without hysteresis. It returns within t.Timeout, or when ctx is
// done. It connects to addresses that the rules allow.
func Once(ctx context.Context, t Target, rules *dial.Rules) Attempt {
	return once(ctx, t, &dialing{rules: rules})
}

func once(ctx context.Context, t Target, dialing *dialing) Attempt {
	t = t.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()

	start := time.Now()
	info, failed := connectAndCheck(ctx, t, dialing)
	if failed != nil {
		failed = detectTLSMismatch(ctx, t, dialing, failed)
	}
	a := conclude(ctx, t, dialing, failed)
	if a.Reason != ReasonNoAnswer {
		a.Role, a.Lag, a.Usage = info.role, info.lag, info.usage
	}
	a.Latency = time.Since(start)
	return a
}

// Use connects to a target as a probe does, and calls use with a client that has nothing but
// this connection, until t.Timeout has passed or ctx is done. Check is called with everything that
// the server sends, before the client reads it; an error of it ends the connection. The attempt
// succeeds if use returns no error.
func Use(ctx context.Context, t Target, rules *dial.Rules, check func([]byte) error, use func(context.Context, *redis.Client) error) Attempt {
	t = t.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()

	start, dialing := time.Now(), &dialing{rules: rules}
	failed := dialing.withConnection(ctx, t, func(conn net.Conn) *failure {
		guarded := &guardedConn{Conn: conn, check: check}
		client := clientOn(guarded, t)
		defer client.Close()
		if err := use(ctx, client); err != nil {
			return &failure{step: stepCommands, err: err, conn: guarded}
		}
		return nil
	})
	a := conclude(ctx, t, dialing, failed)
	a.Latency = time.Since(start)
	return a
}

// conclude returns the result of an attempt that failed, or did not. It shows the cause of a
// failure only where its owner may know it.
func conclude(ctx context.Context, t Target, dialing *dialing, failed *failure) Attempt {
	if failed == nil {
		return Attempt{Reason: ReasonHealthy, Message: healthyMessage(t)}
	}
	a := Attempt{}
	a.Reason, a.Message = classify(t, *failed)
	a.Cause = a.Reason
	if !t.Own && !dialing.isListed() && !failed.isRevealed() {
		// The time until the verdict would tell as much as its text.
		<-ctx.Done()
		a.Reason, a.Message = ReasonNoAnswer, noAnswerMessage(t)
	}
	a.Err = errors.New(a.Message)
	return a
}

// serverInfo is what a server reports about itself.
type serverInfo struct {
	replication
	usage Usage
}

// connectAndCheck connects, checks the cache, and closes the connection.
func connectAndCheck(ctx context.Context, t Target, d *dialing) (info serverInfo, failed *failure) {
	failed = d.withConnection(ctx, t, func(conn net.Conn) (failed *failure) {
		info, failed = check(ctx, t, conn)
		return failed
	})
	return info, failed
}

// withConnection connects, calls use, and closes the connection.
func (d *dialing) withConnection(ctx context.Context, t Target, use func(net.Conn) *failure) *failure {
	conn, failed := d.connect(ctx, t)
	if failed != nil {
		return failed
	}
	defer conn.Close()
	stop := interruptWhenDone(ctx, conn)
	defer stop()

	if !t.TLS {
		return use(conn)
	}
	encrypted, failed := handshake(ctx, t, conn)
	if failed != nil {
		return failed
	}
	defer encrypted.Close()
	return use(encrypted)
}

// dialing opens the connections of one probe.
type dialing struct {
	rules *dial.Rules
	// unlisted means that an address was connected to which the administrator has not
	// opened.
	unlisted atomic.Bool
}

// connect resolves the host and opens a TCP connection, without proxies.
func (d *dialing) connect(ctx context.Context, t Target) (net.Conn, *failure) {
	if _, err := hostOf(t.Addr); err != nil {
		return nil, &failure{step: stepAddress, err: err}
	}
	dialer := d.rules.Dialer(func(listed bool) {
		if !listed {
			d.unlisted.Store(true)
		}
	})
	conn, err := dialer.DialContext(ctx, "tcp", t.Addr)
	if err != nil {
		return nil, &failure{step: stepConnect, err: err}
	}
	return conn, nil
}

// isListed reports whether the administrator has opened all addresses that were connected
// to.
func (d *dialing) isListed() bool { return !d.unlisted.Load() }

// hostOf returns the host of host:port with a numeric port.
func hostOf(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", err
	}
	return host, nil
}

// interruptWhenDone makes all reads and writes on conn fail when ctx is done. The
// client's own deadlines are disabled: they apply to single reads, so a server that
// sends a byte at a time would never time out.
func interruptWhenDone(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

// check authenticates and, in one pipeline, pings, writes, reads back, and reads the
// replication state and the memory and CPU usage.
func check(ctx context.Context, t Target, conn net.Conn) (serverInfo, *failure) {
	guarded := &guardedConn{Conn: conn}
	client := clientOn(guarded, t)
	defer client.Close()

	value := randomValue()
	pipe := client.Pipeline()
	ping := pipe.Ping(ctx)
	set := pipe.Set(ctx, t.Key, value, keyExpiry)
	get := pipe.Get(ctx, t.Key)
	// One section at a time: servers before Redis 7 reject more.
	info, memory, cpu := pipe.Info(ctx, "replication"), pipe.Info(ctx, "memory"), pipe.Info(ctx, "cpu")
	_, execErr := pipe.Exec(ctx)

	server := serverInfo{replication: parseReplication(info.Val()), usage: parseUsage(memory.Val(), cpu.Val())}
	failed := func(command string, err error) (serverInfo, *failure) {
		return server, &failure{step: stepCommands, command: command, err: err, conn: guarded}
	}
	for _, cmd := range []redis.Cmder{ping, set, get} {
		if err := cmd.Err(); err != nil {
			return failed(strings.ToUpper(cmd.Name()), err)
		}
	}
	// A failed authentication is not the error of a command. Errors of INFO are ignored.
	if execErr != nil && errors.Join(info.Err(), memory.Err(), cpu.Err()) == nil {
		return failed("AUTH", execErr)
	}
	if get.Val() != value {
		return failed("GET", errReadBackMismatch)
	}
	return server, nil
}

// clientOn returns a client that uses conn only: no pool, no retries, no redirects, no
// second connection, and no commands of its own except authentication.
func clientOn(conn net.Conn, t Target) *redis.Client {
	unused := make(chan net.Conn, 1)
	unused <- conn
	return redis.NewClient(&redis.Options{
		Addr:     t.Addr,
		Username: t.Username,
		Password: t.Password.Reveal(),
		Protocol: 2,
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			select {
			case conn := <-unused:
				return conn, nil
			default:
				return nil, net.ErrClosed
			}
		},
		MaxRetries:            -1,
		DialerRetries:         1,
		PoolSize:              1,
		PipelinePoolSize:      -1, // pipelines use the same connection
		DisableIdentity:       true,
		ContextTimeoutEnabled: true,
		ReadTimeout:           -2, // interruptWhenDone sets the deadline
		WriteTimeout:          -2,
		ReadBufferSize:        1 << 10,
		WriteBufferSize:       512,
		// Otherwise the client resolves Addr again, with its own timeout.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

func randomValue() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // documented never to fail
	return hex.EncodeToString(b[:])
}
