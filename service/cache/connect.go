// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
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

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/envelope"
	"github.com/flagcache/flagcache/service/resp"
	"github.com/flagcache/flagcache/service/wait"
)

// Timeouts of Redis. Only background work waits for Redis, and one that takes
// longer is considered unavailable.
const (
	ioTimeout   = 500 * time.Millisecond
	poolTimeout = 20 * time.Millisecond
)

// discardLogger drops the client's own log lines: errors are counted and logged
// by this package, once per change.
type discardLogger struct{}

func (discardLogger) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(discardLogger{}) }

// watchedDirs returns the directories of the files that configure the
// connection, and the one in which the binding may appear.
func (c *Cache) watchedDirs() []string {
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

// configure reads the connection's configuration and the keys. If they have changed,
// configure returns true, and reconnects if the connection has.
func (c *Cache) configure() bool {
	s, err := c.readKeys()
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
	return c.replace(&e, s, nil)
}

func (c *Cache) disconnect(reason error) {
	c.replace(nil, Sealer{}, reason)
	c.logState(reason)
}

// endpoint returns the configured endpoint. The URL is used if no binding is
// mounted.
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

// trustFile trusts the CA bundle in CAFile, if the connection uses TLS and the
// binding contains none.
func (c *Cache) trustFile(e *endpoint) error {
	if c.options.CAFile == "" || e.TLSConfig == nil || e.TLSConfig.RootCAs != nil {
		return nil
	}
	content, err := os.ReadFile(c.options.CAFile)
	if err != nil {
		return fmt.Errorf("reading the CA bundle: %w", err)
	}
	if err := trust(e.TLSConfig, content); err != nil {
		return fmt.Errorf("CA bundle %s %w", c.options.CAFile, err)
	}
	e.identity += string(content)
	return nil
}

// readKeys returns a sealer with the key of the file, and those of the files beside it that
// exist.
func (c *Cache) readKeys() (Sealer, error) {
	if c.options.KeyFile == "" {
		return Sealer{}, nil
	}
	secret, err := readKey(c.options.KeyFile)
	if err != nil {
		return Sealer{}, err
	}
	s := Sealer{Secret: secret}
	for _, suffix := range []string{config.IntegrityNextSuffix, config.IntegrityPreviousSuffix} {
		switch accepted, err := readKey(c.options.KeyFile + suffix); {
		case err == nil:
			s.Accepted = append(s.Accepted, accepted)
		case !errors.Is(err, os.ErrNotExist):
			return Sealer{}, err
		}
	}
	return s, nil
}

func readKey(file string) ([]byte, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the key that authenticates cached values: %w", err)
	}
	secret := envelope.KeyFrom(content)
	if len(secret) < MinKeySize {
		return nil, fmt.Errorf("the key that authenticates cached values has fewer than %d bytes", MinKeySize)
	}
	return secret, nil
}

// tune replaces the client's defaults, which are unsuitable for a cache: they
// retry, wait for seconds and ignore deadlines. One connection of the limit is
// reserved for the subscription, which is not part of the pool. RESP2 is
// sufficient, and its replies are simpler to validate.
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
	e.Dialer = dialer(e.TLSConfig, c.options.DialTimeout, int64(c.options.MaxSize+envelope.MaxHeader))
	if e.iam.CacheName != "" {
		e.CredentialsProviderContext = newAuthenticator(e.iam).credentials
		e.ConnMaxLifetime = iamConnectionLife
	}
}

// dialer returns a function that opens one connection, with all attempts within the timeout. A connection
// that delivers anything but valid replies is closed before the client reads them.
func dialer(secured *tls.Config, timeout time.Duration, maxString int64) func(ctx context.Context, network, addr string) (net.Conn, error) {
	plain := net.Dialer{Timeout: timeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	dial := plain.DialContext
	if secured != nil {
		secured = secured.Clone()
		secured.MinVersion = max(secured.MinVersion, tls.VersionTLS12)
		dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := plain.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return secure(ctx, conn, addr, secured)
		}
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		conn, err := withRetries(ctx, func() (net.Conn, error) { return dial(ctx, network, addr) })
		if err != nil {
			return nil, err
		}
		return &guardedConn{Conn: conn, plain: secured == nil, scanner: resp.Scanner{MaxString: maxString, MaxTotal: maxString + 1<<20}}, nil
	}
}

// withRetries dials up to three times until ctx is done.
func withRetries(ctx context.Context, dial func() (net.Conn, error)) (net.Conn, error) {
	delay := minWait
	for attempt := 1; ; attempt++ {
		conn, err := dial()
		if err == nil || attempt == maxAttempts || !wait.Sleep(ctx, delay) {
			return conn, err
		}
		delay = min(2*delay, maxWait)
	}
}

// replace replaces the client and returns true, unless it is for the same
// endpoint. It then only replaces the keys, and reports whether they differ. unusable is
// why there is none, nil if there is.
func (c *Cache) replace(e *endpoint, s Sealer, unusable error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unusable == nil && unusable == nil && c.current.identity == e.identity {
		differ := !s.Equal(c.sealer)
		c.sealer = s
		return differ
	}
	c.current, c.sealer, c.unusable = e, s, unusable
	c.renew()
	c.breaker.set(false)
	return true
}

// reconnect replaces a client whose server changed its role: a demoted or a
// loading primary keeps its connections open, and only a new connection reaches
// its successor. This is done at most once per probeInterval.
func (c *Cache) reconnect(failed redis.UniversalClient) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != failed || c.unusable != nil || time.Since(c.replacedAt) < probeInterval {
		return
	}
	c.renew()
}

// renew replaces the client by a new one for the current endpoint.
func (c *Cache) renew() {
	if c.client != nil {
		// Operations that still use it fail and are retried with the new one.
		_ = c.client.Close()
		c.client = nil
	}
	if c.unusable == nil {
		c.client = redis.NewUniversalClient(&c.current.UniversalOptions)
	}
	c.replacedAt = time.Now()
	close(c.replaced)
	c.replaced = make(chan struct{})
}

// connected returns the client and a channel that is closed when it is
// replaced.
func (c *Cache) connected() (client redis.UniversalClient, s Sealer, replaced <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client, c.sealer, c.replaced, c.unusable
}
