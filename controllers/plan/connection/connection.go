// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package connection

import (
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/secret"
)

// Connection is how clients reach a Redis server.
type Connection struct {
	Provider string
	Host     string
	Port     int
	Username string
	Password secret.String
	TLS      bool
	// CA certificates in PEM format; "" means the system's.
	CA string
	// IAMCache and IAMRegion name the ElastiCache cache that clients authenticate to
	// with AWS credentials; "" if they use a password or none.
	IAMCache, IAMRegion string
}

// external is the provider of a connection that a user has given.
const external = "external"

// IsExternal reports whether a user has given the connection, rather than the operator.
func (c Connection) IsExternal() bool { return c.Provider == external }

// Endpoint is host:port, with brackets around an IPv6 address.
func (c Connection) Endpoint() string {
	host := c.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(c.Port)
}

// URI is the connection as redis:// or rediss://, with the password.
func (c Connection) URI() secret.String {
	uri := url.URL{Scheme: "redis", Host: c.Endpoint()}
	if c.TLS {
		uri.Scheme = "rediss"
	}
	if !c.Password.IsEmpty() {
		uri.User = url.UserPassword(c.Username, c.Password.Reveal())
	}
	return secret.New(uri.String())
}

// Hash distinguishes the connections of one FlagCache, in the names of its objects. It has 32
// bits, so whoever chooses a connection, and knows the UID, can search for two with the same hash.
// The second one then replaces the first in pods without a canary, as if that Secret had been
// edited, which the same person may do: it is their cache, and the UID keeps it from being
// anybody else's. Chance makes one of four billion changes so. More bits would confirm a guess of
// a password to whoever may read Deployments, and would replace all pods in an upgrade.
func (c Connection) Hash(uid types.UID) string {
	parts := []string{c.URI().Reveal(), c.CA}
	if c.IAMCache != "" {
		parts = append(parts, c.Username, c.IAMCache, c.IAMRegion)
	}
	return observed.Fingerprint(uid, parts...)
}

// SecretType is the type of a Service Binding's Secret
// (https://servicebinding.io/spec/core/1.1.0/#well-known-secret-entries).
const SecretType corev1.SecretType = "servicebinding.io/redis"

// DefaultPort is the default port of Redis.
const DefaultPort = 6379

// PasswordKey is the key of a password in a Secret.
const PasswordKey = observed.PasswordKey

// Keys of the connection Secret, in addition to those of the Service Binding
// specification, for authentication with AWS credentials.
const (
	iamCacheKey  = "iam-cache"
	iamRegionKey = "iam-region"
)

// data returns the entries of the connection Secret. Keys without a value are left
// out, as the Service Binding specification requires.
func (c Connection) data() map[string][]byte {
	entries := map[string]string{
		"type":      "redis",
		"provider":  c.Provider,
		"host":      c.Host,
		"port":      strconv.Itoa(c.Port),
		"username":  c.Username,
		PasswordKey: c.Password.Reveal(),
		"uri":       c.URI().Reveal(),
		"tls":       strconv.FormatBool(c.TLS),
		"ca":        c.CA,
		iamCacheKey: c.IAMCache,
		// The region is for signing; without it the AWS SDK uses that of the pod.
		iamRegionKey: c.IAMRegion,
		"REDIS_URL":  c.URI().Reveal(),
	}
	data := make(map[string][]byte, len(entries))
	for key, value := range entries {
		if value != "" {
			data[key] = []byte(value)
		}
	}
	return data
}

// read is the inverse of data. The Secret may have been edited since, so callers
// compare the hash.
func read(data map[string][]byte) Connection {
	port, _ := strconv.Atoi(string(data["port"]))
	return Connection{
		Provider:  string(data["provider"]),
		Host:      string(data["host"]),
		Port:      port,
		Username:  string(data["username"]),
		Password:  secret.New(string(data[PasswordKey])),
		TLS:       string(data["tls"]) == "true",
		CA:        string(data["ca"]),
		IAMCache:  string(data[iamCacheKey]),
		IAMRegion: string(data[iamRegionKey]),
	}
}
