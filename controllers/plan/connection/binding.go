// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package connection

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/flagcache/flagcache/controllers/secret"
)

// Parse reads a connection from the keys of a Service Binding or from a URI.
// Errors name keys, never values.
func Parse(data map[string][]byte) (Connection, error) {
	c := Connection{Provider: external, CA: Text(data, "ca")}
	var err error
	if uri := Text(data, "uri"); uri != "" {
		err = c.setURI(uri)
	} else {
		err = c.setKeys(data)
	}
	if err != nil {
		return Connection{}, err
	}
	if c.CA != "" && !holdsCertificate(c.CA) {
		return Connection{}, fmt.Errorf("key ca is not a certificate in PEM format")
	}
	return c, nil
}

func (c *Connection) setURI(text string) error {
	uri, err := url.Parse(text)
	switch {
	case err != nil:
		return fmt.Errorf("key uri is not a URL: expected redis://[user:password@]host[:port] or rediss://")
	case uri.Scheme != "redis" && uri.Scheme != "rediss":
		return fmt.Errorf("key uri has a scheme other than redis:// and rediss://")
	case strings.Trim(uri.Path, "/") != "" && strings.Trim(uri.Path, "/") != "0":
		return fmt.Errorf("key uri names a database: only database 0 is supported")
	case uri.RawQuery != "":
		return fmt.Errorf("key uri has query parameters, which are not supported")
	case strings.Contains(text, "#"):
		return fmt.Errorf("key uri contains #: special characters in the password must be percent-encoded")
	}
	c.TLS = uri.Scheme == "rediss"
	c.Username = uri.User.Username()
	password, _ := uri.User.Password()
	c.Password = secret.New(password)
	return c.setAddress("uri", uri.Hostname(), uri.Port())
}

func (c *Connection) setKeys(data map[string][]byte) error {
	c.Username, c.Password = Text(data, "username"), secret.New(string(data["password"]))
	switch tls := Text(data, "tls"); tls {
	case "", "false":
	case "true":
		c.TLS = true
	default:
		return fmt.Errorf("key tls must be true or false")
	}
	if Text(data, "host") == "" {
		return fmt.Errorf("neither the key uri nor the key host is present")
	}
	return c.setAddress("host", Text(data, "host"), Text(data, "port"))
}

// setAddress sets the host and the port, which defaults to that of Redis. Neither is a part
// of a password that was not escaped: they are in the status.
func (c *Connection) setAddress(key, host, port string) error {
	_, notIP := netip.ParseAddr(host)
	if host == "" || strings.ContainsAny(host, " \t\r\n/@") || strings.Contains(host, ":") && notIP != nil {
		return fmt.Errorf("key %s has no valid host", key)
	}
	c.Host, c.Port = host, DefaultPort
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

// Text returns the value of a key without surrounding white space.
func Text(data map[string][]byte, key string) string {
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
