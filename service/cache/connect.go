// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Limits on waiting for Redis. Nobody waits for these but the background, and a
// Redis that takes longer is as good as none.
const (
	ioTimeout   = 500 * time.Millisecond
	poolTimeout = 20 * time.Millisecond
)

// silent keeps the client's own log lines away: what they say is counted and
// logged here, once per change.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(silent{}) }

// watched lists the directories that say how to connect, and the one in which
// the binding may appear.
func (c *Cache) watched() []string {
	var dirs []string
	if c.options.BindingDir != "" {
		dirs = append(dirs, c.options.BindingDir, filepath.Dir(c.options.BindingDir))
	}
	for _, file := range []string{c.options.KeyFile, c.options.CAFile} {
		if file != "" {
			dirs = append(dirs, filepath.Dir(file))
		}
	}
	return dirs
}

// configure reads how to connect. If that is not as it was, it connects again and
// is true.
func (c *Cache) configure() bool {
	secret, err := c.readKey()
	if err != nil {
		c.disconnect(err)
		return false
	}
	e, err := c.endpoint()
	if err != nil {
		c.disconnect(err)
		return false
	}
	c.tune(&e)
	e.identity += string(secret)
	return c.replace(&e, Sealer{secret}, nil)
}

func (c *Cache) disconnect(reason error) {
	c.replace(nil, Sealer{}, reason)
	c.note(reason)
}

// endpoint returns how to connect. The URL counts where no binding is mounted.
func (c *Cache) endpoint() (endpoint, error) {
	e, err := readBinding(c.options.BindingDir)
	if c.options.URL != "" && (c.options.BindingDir == "" || errors.Is(err, os.ErrNotExist)) {
		e, err = c.urlEndpoint()
	}
	if err != nil {
		return endpoint{}, err
	}
	return e, c.trustFile(&e)
}

func (c *Cache) urlEndpoint() (endpoint, error) {
	options, err := parseURL(c.options.URL)
	if err != nil {
		return endpoint{}, err
	}
	e := endpoint{UniversalOptions: *options, iam: c.options.IAM, identity: c.options.URL}
	if e.iam.User == "" {
		e.iam.User = options.Username
	}
	return e, e.iam.check()
}

// trustFile trusts the authorities in a file, where the connection has TLS and
// brings none itself.
func (c *Cache) trustFile(e *endpoint) error {
	if c.options.CAFile == "" || e.TLSConfig == nil || e.TLSConfig.RootCAs != nil {
		return nil
	}
	content, err := os.ReadFile(c.options.CAFile)
	if err != nil {
		return fmt.Errorf("reading the authorities to trust: %w", err)
	}
	if err := trust(e.TLSConfig, content); err != nil {
		return fmt.Errorf("%s %w", c.options.CAFile, err)
	}
	e.identity += string(content)
	return nil
}

func (c *Cache) readKey() ([]byte, error) {
	if c.options.KeyFile == "" {
		return nil, nil
	}
	content, err := os.ReadFile(c.options.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the key that authenticates cached values: %w", err)
	}
	secret := bytes.TrimSpace(content)
	if len(secret) < MinKeySize {
		return nil, fmt.Errorf("the key that authenticates cached values has fewer than %d bytes", MinKeySize)
	}
	return secret, nil
}

// tune replaces the client's defaults, which are hostile to a cache: they retry,
// wait for seconds and ignore deadlines. One connection of the limit is left for
// the subscription, which is not of the pool. The older protocol has all we need
// and fewer ways for a reply to be wrong.
func (c *Cache) tune(e *endpoint) {
	pool := max(1, c.options.Connections-1)
	e.PoolSize, e.MaxActiveConns, e.PipelinePoolSize = pool, pool, -1
	e.DialTimeout = c.options.DialTimeout
	e.ReadTimeout, e.WriteTimeout = ioTimeout, ioTimeout
	e.PoolTimeout = poolTimeout
	e.ContextTimeoutEnabled = true
	e.MaxRetries, e.DialerRetries = -1, 1
	e.Protocol = 2
	e.DisableIdentity = true
	e.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	e.Dialer = dialer(e.TLSConfig, c.options.DialTimeout, int64(c.options.MaxSize+maxHeader))
	if e.iam.CacheName != "" {
		e.CredentialsProviderContext = newAuthenticator(e.iam).credentials
		e.ConnMaxLifetime = iamConnectionLife
	}
}

// dialer returns how to open one connection, all tries within the time-out. Whatever is no reply of Redis's ends
// the connection before the client sees it.
func dialer(secured *tls.Config, timeout time.Duration, maxString int64) func(ctx context.Context, network, addr string) (net.Conn, error) {
	plain := net.Dialer{Timeout: timeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	dial := plain.DialContext
	if secured != nil {
		secured = secured.Clone()
		secured.MinVersion = max(secured.MinVersion, tls.VersionTLS12)
		dial = (&tls.Dialer{NetDialer: &plain, Config: secured}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		conn, err := retried(ctx, func() (net.Conn, error) { return dial(ctx, network, addr) })
		if err != nil {
			return nil, err
		}
		return &guardedConn{Conn: conn, scanner: replyScanner{maxString: maxString, maxTotal: maxString + 1<<20}}, nil
	}
}

// retried tries three times to connect, as long as ctx lasts.
func retried(ctx context.Context, dial func() (net.Conn, error)) (net.Conn, error) {
	wait := firstWait
	for attempt := 1; ; attempt++ {
		conn, err := dial()
		if err == nil || attempt == tries || !sleep(ctx, wait) {
			return conn, err
		}
		wait = min(2*wait, longestWait)
	}
}

// replace puts another client in place of the one there is, and is true, unless it
// is for the same endpoint. Usable is why there is none, nil if there is.
func (c *Cache) replace(e *endpoint, s Sealer, usable error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.usable == nil && usable == nil && c.current.identity == e.identity {
		return false
	}
	c.current, c.sealer, c.usable = e, s, usable
	c.renew()
	c.breaker.set(false)
	return true
}

// reconnect replaces a client whose server is not what it was: a demoted primary or
// one that is starting keeps its connections, and only a new one finds its
// successor. A server that stays so is not asked again at once.
func (c *Cache) reconnect(failed redis.UniversalClient) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != failed || c.usable != nil || time.Since(c.renewed) < probeInterval {
		return
	}
	c.renew()
}

// renew makes a client for the current endpoint.
func (c *Cache) renew() {
	if c.client != nil {
		// Whoever still uses it gets an error and tries again with the next.
		_ = c.client.Close()
		c.client = nil
	}
	if c.usable == nil {
		c.client = redis.NewUniversalClient(&c.current.UniversalOptions)
	}
	c.renewed = time.Now()
	close(c.reconnected)
	c.reconnected = make(chan struct{})
}

// connected returns the client, and a channel that is closed when it has been
// replaced.
func (c *Cache) connected() (client redis.UniversalClient, s Sealer, replaced <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client, c.sealer, c.reconnected, c.usable
}
