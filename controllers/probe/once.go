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
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// keyExpiry is how long the probed key stays behind after the last probe.
const keyExpiry = time.Minute

// Once makes one probe, without hysteresis. It ends within t.Timeout, or as soon as
// ctx does. Addresses that DenyLinkLocal refuses are not connected to.
func Once(ctx context.Context, t Target) Attempt {
	return once(ctx, t, DenyLinkLocal)
}

func once(ctx context.Context, t Target, control DialControl) Attempt {
	t = t.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()

	start := time.Now()
	seen, failed := visit(ctx, t, control)
	a := Attempt{Role: seen.role, Lag: seen.lag, Usage: seen.usage, Latency: time.Since(start)}
	if failed == nil {
		a.Reason, a.Message = ReasonHealthy, healthyMessage(t)
		return a
	}
	a.Reason, a.Message = classify(t, *lookTwice(ctx, t, control, failed))
	a.Err = errors.New(a.Message)
	return a
}

// observation is what a server says about itself.
type observation struct {
	replication
	usage Usage
}

// visit connects, asks and hangs up.
func visit(ctx context.Context, t Target, control DialControl) (observation, *failure) {
	conn, failed := connect(ctx, t, control)
	if failed != nil {
		return observation{}, failed
	}
	defer conn.Close()
	stop := interruptAtEnd(ctx, conn)
	defer stop()

	if !t.TLS {
		return ask(ctx, t, conn)
	}
	encrypted, failed := handshake(ctx, t, conn)
	if failed != nil {
		return observation{}, failed
	}
	defer encrypted.Close()
	return ask(ctx, t, encrypted)
}

// connect resolves the host and opens a TCP connection, without proxies.
func connect(ctx context.Context, t Target, control DialControl) (net.Conn, *failure) {
	if _, err := hostOf(t.Addr); err != nil {
		return nil, &failure{step: stepAddress, err: err}
	}
	dialer := net.Dialer{Control: control, KeepAlive: -1}
	conn, err := dialer.DialContext(ctx, "tcp", t.Addr)
	if err != nil {
		return nil, &failure{step: stepConnect, err: err}
	}
	return conn, nil
}

// hostOf is the host in host:port, where the port is a number.
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

// interruptAtEnd makes every read and write on conn fail once ctx ends, in time or
// early. The client's own deadlines are off: one per reply, they would let a server
// that sends a byte at a time go on for ever.
func interruptAtEnd(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

// ask logs in and, in one pipeline, pings, writes, reads back and asks for the
// replication state and for the memory and the CPU in use.
func ask(ctx context.Context, t Target, conn net.Conn) (observation, *failure) {
	guarded := &guardedConn{Conn: conn}
	client := clientOn(guarded, t)
	defer client.Close()

	value := randomValue()
	pipe := client.Pipeline()
	ping := pipe.Ping(ctx)
	set := pipe.Set(ctx, t.Key, value, keyExpiry)
	get := pipe.Get(ctx, t.Key)
	// One section at a time: servers before Redis 7 refuse more.
	info, memory, cpu := pipe.Info(ctx, "replication"), pipe.Info(ctx, "memory"), pipe.Info(ctx, "cpu")
	_, execErr := pipe.Exec(ctx)

	seen := observation{replication: parseReplication(info.Val()), usage: parseUsage(memory.Val(), cpu.Val())}
	failed := func(command string, err error) (observation, *failure) {
		return seen, &failure{step: stepAsk, command: command, err: err, conn: guarded}
	}
	for _, cmd := range []redis.Cmder{ping, set, get} {
		if err := cmd.Err(); err != nil {
			return failed(strings.ToUpper(cmd.Name()), err)
		}
	}
	// A refused login is no command's error. INFO's own do not matter.
	if execErr != nil && errors.Join(info.Err(), memory.Err(), cpu.Err()) == nil {
		return failed("AUTH", execErr)
	}
	if get.Val() != value {
		return failed("GET", errReadBackMismatch)
	}
	return seen, nil
}

// clientOn is a client for one conversation on conn: no pool, no retries, no
// redirects, no second connection, no commands of its own but the login.
func clientOn(conn net.Conn, t Target) *redis.Client {
	unused := make(chan net.Conn, 1)
	unused <- conn
	return redis.NewClient(&redis.Options{
		Addr:     t.Addr,
		Username: t.Username,
		Password: string(t.Password),
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
		PipelinePoolSize:      -1, // pipelines use the one connection, too
		DisableIdentity:       true,
		ContextTimeoutEnabled: true,
		ReadTimeout:           -2, // interruptAtEnd sets the deadline
		WriteTimeout:          -2,
		ReadBufferSize:        1 << 10,
		WriteBufferSize:       512,
		// Else the client resolves Addr once more, with a time-out of its own.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

func randomValue() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	return hex.EncodeToString(b[:])
}
