// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// planExternal plans a Redis that somebody else runs: there is nothing to make,
// only a Secret to understand.
func planExternal(s *observed.Index) cachePart {
	part := cachePart{state: stateExternal, cost: planFreeCost(s, basisExternal)}
	name := s.FlagCache.Spec.Cache.External.SecretRef.Name
	refuse := func(reason, format string, args ...any) cachePart {
		part.provisioned = conditions.False(v1alpha1.ConditionCacheProvisioned, reason, format, args...)
		return part
	}
	if reason, message := s.ExternalSecret.Trouble(name, "the key uri, or host and port,"); reason != "" {
		return refuse(reason, "%s", message)
	}
	connection, err := parseBinding(s.ExternalSecret.Data)
	if err != nil {
		return refuse(v1alpha1.ReasonSecretInvalid, "Secret %s: %v", name, err)
	}
	part.connection, part.nodes = &connection, 1
	part.provisioned = conditions.True(v1alpha1.ConditionCacheProvisioned, v1alpha1.ReasonProvisioned,
		"Secret %s names the cache", name)
	return part
}

// parseBinding reads a connection from the keys of a Service Binding or from a
// URI. Errors name keys, never values.
func parseBinding(data map[string][]byte) (Connection, error) {
	c := Connection{Provider: "external", CA: text(data, "ca")}
	var err error
	if uri := text(data, "uri"); uri != "" {
		err = c.setURI(uri)
	} else {
		err = c.setKeys(data)
	}
	if err != nil {
		return Connection{}, err
	}
	if c.CA != "" && !holdsCertificate(c.CA) {
		return Connection{}, fmt.Errorf("key ca holds no certificate in PEM format")
	}
	return c, nil
}

func (c *Connection) setURI(text string) error {
	uri, err := url.Parse(text)
	switch {
	case err != nil:
		return fmt.Errorf("key uri is not a URL: expected redis://[user:password@]host[:port] or rediss://")
	case uri.Scheme != "redis" && uri.Scheme != "rediss":
		return fmt.Errorf("key uri has another scheme than redis:// or rediss://")
	case strings.Trim(uri.Path, "/") != "" && strings.Trim(uri.Path, "/") != "0":
		return fmt.Errorf("key uri names a database: only database 0 is supported")
	case uri.RawQuery != "":
		return fmt.Errorf("key uri has query parameters, which are not supported")
	}
	c.TLS = uri.Scheme == "rediss"
	c.Username = uri.User.Username()
	c.Password, _ = uri.User.Password()
	return c.setAddress("uri", uri.Hostname(), uri.Port())
}

func (c *Connection) setKeys(data map[string][]byte) error {
	c.Username, c.Password = text(data, "username"), string(data["password"])
	switch tls := text(data, "tls"); tls {
	case "", "false":
	case "true":
		c.TLS = true
	default:
		return fmt.Errorf("key tls must be true or false")
	}
	if text(data, "host") == "" {
		return fmt.Errorf("it has neither the key uri nor the key host")
	}
	return c.setAddress("host", text(data, "host"), text(data, "port"))
}

// setAddress takes a host and a port, by default Redis' own.
func (c *Connection) setAddress(key, host, port string) error {
	if host == "" || strings.ContainsAny(host, " \t\r\n/@") {
		return fmt.Errorf("key %s names no usable host", key)
	}
	c.Host, c.Port = host, redisPort
	if port == "" {
		return nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("the port must be a number from 1 to 65535")
	}
	c.Port = int(n)
	return nil
}

func text(data map[string][]byte, key string) string {
	return strings.TrimSpace(string(data[key]))
}

func holdsCertificate(text string) bool {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return false
	}
	_, err := x509.ParseCertificate(block.Bytes)
	return err == nil
}
