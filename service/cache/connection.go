// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
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

// CheckURL says whether text can be used as a connection. The error does not
// repeat the text, which may hold a password.
func CheckURL(text string) error {
	_, err := parseURL(text)
	return err
}

func parseURL(text string) (*redis.Options, error) {
	options, err := redis.ParseURL(strings.TrimSpace(text))
	if err != nil || options.Network != "tcp" {
		return nil, errors.New("not a URL like redis://user:password@host:6379/0 or rediss://host:6379")
	}
	return options, nil
}

// readBinding reads a Service Binding: a directory with a file for each of type,
// provider, host, port, username, password, uri, tls and ca. Host and port count
// before uri. The identity is different for a different binding and holds its
// secrets: it stays in memory.
func readBinding(dir string) (options *redis.Options, identity string, err error) {
	values, err := readFiles(dir, "type", "host", "port", "username", "password", "uri", "tls", "ca")
	if err != nil {
		return nil, "", fmt.Errorf("reading the service binding: %w", err)
	}
	options, err = bindingOptions(values)
	return options, fmt.Sprintf("%q", values), err
}

func bindingOptions(values map[string]string) (*redis.Options, error) {
	if kind := values["type"]; kind != "" && kind != "redis" && kind != "valkey" {
		return nil, fmt.Errorf("the service binding is of the type %q, not redis", kind)
	}
	options, err := bindingAddress(values)
	if err != nil {
		return nil, err
	}
	if values["username"] != "" {
		options.Username = values["username"]
	}
	if values["password"] != "" {
		options.Password = values["password"]
	}
	return options, bindingTLS(options, values)
}

func bindingAddress(values map[string]string) (*redis.Options, error) {
	switch {
	case values["host"] != "":
		port := values["port"]
		if port == "" {
			port = "6379"
		}
		return &redis.Options{Addr: net.JoinHostPort(values["host"], port)}, nil
	case values["uri"] != "":
		options, err := parseURL(values["uri"])
		if err != nil {
			return nil, fmt.Errorf("the service binding's uri is %w", err)
		}
		return options, nil
	default:
		return nil, errors.New("the service binding has neither host nor uri")
	}
}

// bindingTLS turns TLS on where the binding wants it. There is no way back to
// plain text: a certificate that does not hold is an error.
func bindingTLS(options *redis.Options, values map[string]string) error {
	switch values["tls"] {
	case "true":
	case "false", "":
		if options.TLSConfig == nil && !strings.HasPrefix(values["uri"], "rediss://") {
			return nil
		}
	default:
		return fmt.Errorf("the service binding's tls is %q; it must be true or false", values["tls"])
	}
	host, _, err := net.SplitHostPort(options.Addr)
	if err != nil {
		return fmt.Errorf("the service binding's address: %w", err)
	}
	options.TLSConfig = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if values["ca"] == "" {
		return nil
	}
	options.TLSConfig.RootCAs = x509.NewCertPool()
	if !options.TLSConfig.RootCAs.AppendCertsFromPEM([]byte(values["ca"])) {
		return errors.New("the service binding's ca holds no PEM certificate")
	}
	return nil
}

// readFiles reads small files of a directory; those that do not exist are
// absent. White space around a value does not belong to it.
func readFiles(dir string, names ...string) (map[string]string, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	values := make(map[string]string, len(names))
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		values[name] = strings.TrimSpace(string(content))
	}
	return values, nil
}

// tune replaces the client's defaults, which are hostile to a cache: they retry,
// wait for seconds and ignore deadlines. One connection of the limit is left for
// the subscription, which is not of the pool.
func tune(options *redis.Options, connections int, dialTimeout time.Duration) *redis.Options {
	pool := max(1, connections-1)
	options.PoolSize = pool
	options.MaxActiveConns = pool
	options.DialTimeout = dialTimeout
	options.ReadTimeout = ioTimeout
	options.WriteTimeout = ioTimeout
	options.PoolTimeout = poolTimeout
	options.ContextTimeoutEnabled = true
	options.MaxRetries = -1
	options.DialerRetries = 1
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return options
}
