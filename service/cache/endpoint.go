// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/redis/go-redis/v9"
)

// endpoint is the address of Redis with the credentials.
type endpoint struct {
	redis.UniversalOptions
	iam IAM
	// identity differs between endpoints. It contains secrets and must not be
	// logged.
	identity string
}

// CheckURL returns an error if text is not a supported URL. The error does not
// quote the text, which may contain a password.
func CheckURL(text string) error {
	_, err := parseURL(text)
	return err
}

var errInvalidURL = errors.New("not a URL like redis://user:password@host:6379/0, rediss://host:6379, " +
	"redis+sentinel://host:26379?master_name=name or rediss+cluster://host:6379")

// parseURL parses the URLs of go-redis, with +sentinel or +cluster appended to
// the scheme for these. Only the parameters for addresses and names are used:
// timeouts and limits are set by tune.
func parseURL(text string) (*redis.UniversalOptions, error) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(text), "://")
	address, _, _ := strings.Cut(rest, "?")
	if _, path, _ := strings.Cut(address, "/"); strings.Contains(rest, "#") || strings.Contains(path, "@") {
		return nil, errInvalidURL // a part of a password would be the address, which is logged
	}
	scheme, kind, _ := strings.Cut(scheme, "+")
	plain := scheme + "://" + rest
	var options *redis.UniversalOptions
	var err error
	switch {
	case scheme != "redis" && scheme != "rediss":
		return nil, errInvalidURL
	case kind == "":
		options, err = parseStandalone(plain)
	case kind == "sentinel":
		options, err = parseSentinel(plain)
	case kind == "cluster":
		options, err = parseCluster(plain)
	default:
		return nil, errInvalidURL
	}
	if err != nil {
		return nil, errInvalidURL
	}
	return options, nil
}

func parseStandalone(text string) (*redis.UniversalOptions, error) {
	o, err := redis.ParseURL(text)
	if err != nil {
		return nil, err
	}
	return &redis.UniversalOptions{Addrs: []string{o.Addr}, DB: o.DB, Username: o.Username, Password: o.Password, TLSConfig: o.TLSConfig}, nil
}

// parseSentinel parses a URL with the host, user and password of the sentinels;
// those of Redis are the parameters username and password.
func parseSentinel(text string) (*redis.UniversalOptions, error) {
	o, err := redis.ParseFailoverURL(text)
	if err != nil {
		return nil, err
	}
	if o.MasterName == "" {
		return nil, errors.New("no master_name")
	}
	return &redis.UniversalOptions{
		Addrs: o.SentinelAddrs, MasterName: o.MasterName, SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
		DB: o.DB, Username: o.Username, Password: o.Password, TLSConfig: anyServer(o.TLSConfig),
	}, nil
}

func parseCluster(text string) (*redis.UniversalOptions, error) {
	o, err := redis.ParseClusterURL(text)
	if err != nil {
		return nil, err
	}
	return &redis.UniversalOptions{
		Addrs: o.Addrs, IsClusterMode: true, Username: o.Username, Password: o.Password, TLSConfig: anyServer(o.TLSConfig),
	}, nil
}

// anyServer allows each server to have a certificate for its own name.
func anyServer(config *tls.Config) *tls.Config {
	if config != nil {
		config.ServerName = ""
	}
	return config
}

// readBinding reads a Service Binding: a directory with a file for each of
// type, provider, host, port, username, password, uri, tls and ca. Host and
// port take precedence over uri. The file mode is cluster if host is a cluster;
// iam-cache, iam-region and iam-serverless replace the password with AWS
// credentials.
func readBinding(dir string) (endpoint, error) {
	values, err := readFiles(dir, "type", "host", "port", "username", "password", "uri", "tls", "ca",
		"mode", "iam-cache", "iam-region", "iam-serverless")
	if err != nil {
		return endpoint{}, fmt.Errorf("reading the service binding: %w", err)
	}
	e, err := bindingEndpoint(values)
	e.identity = fmt.Sprintf("%q", values)
	return e, err
}

func bindingEndpoint(values map[string]string) (endpoint, error) {
	if kind := values["type"]; kind != "" && kind != "redis" && kind != "valkey" {
		return endpoint{}, fmt.Errorf("the service binding has type %q, not redis", kind)
	}
	options, err := bindingAddress(values)
	if err != nil {
		return endpoint{}, err
	}
	if values["username"] != "" {
		options.Username = values["username"]
	}
	if values["password"] != "" {
		options.Password = values["password"]
	}
	e := endpoint{UniversalOptions: *options, iam: IAM{
		CacheName: values["iam-cache"], User: options.Username, Region: values["iam-region"], Serverless: values["iam-serverless"] == "true",
	}}
	if err := e.iam.check(); err != nil {
		return endpoint{}, fmt.Errorf("the service binding: %w", err)
	}
	return e, bindingTLS(&e.UniversalOptions, values)
}

func bindingAddress(values map[string]string) (*redis.UniversalOptions, error) {
	switch {
	case values["host"] != "":
		port := values["port"]
		if port == "" {
			port = "6379"
		}
		mode := values["mode"]
		if mode != "" && mode != "standalone" && mode != "cluster" {
			return nil, fmt.Errorf("the service binding's mode is %q; it must be standalone or cluster", mode)
		}
		return &redis.UniversalOptions{Addrs: []string{net.JoinHostPort(values["host"], port)}, IsClusterMode: mode == "cluster"}, nil
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

// bindingTLS enables TLS if the binding requires it. There is no fallback to
// plain text: an invalid certificate is an error.
func bindingTLS(options *redis.UniversalOptions, values map[string]string) error {
	switch values["tls"] {
	case "true":
		if options.TLSConfig == nil {
			options.TLSConfig = &tls.Config{}
		}
	case "false", "":
		if options.TLSConfig == nil && values["host"] != "" && strings.HasPrefix(values["uri"], "rediss") {
			options.TLSConfig = &tls.Config{}
		}
	default:
		return fmt.Errorf("the service binding's tls is %q; it must be true or false", values["tls"])
	}
	if options.TLSConfig == nil || values["ca"] == "" {
		return nil
	}
	if err := trust(options.TLSConfig, []byte(values["ca"])); err != nil {
		return fmt.Errorf("the service binding's CA bundle %w", err)
	}
	return nil
}

// trust makes a CA bundle the only trusted one.
func trust(config *tls.Config, bundle []byte) error {
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(bundle) {
		return errors.New("contains no PEM certificate")
	}
	return nil
}

// readFiles reads small files in a directory. Missing files are left out, and
// white space around a value is trimmed.
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
