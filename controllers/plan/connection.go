// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/service/config"
)

// Connection is how clients reach a Redis.
type Connection struct {
	Provider string
	Host     string
	Port     int
	Username string
	Password string
	TLS      bool
	// CA certificates in PEM format; "" means the system's.
	CA string
}

// Endpoint is host:port, with brackets around an IPv6 address.
func (c Connection) Endpoint() string {
	host := c.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(c.Port)
}

// URI is the connection as redis:// or rediss://.
func (c Connection) URI() string {
	uri := url.URL{Scheme: "redis", Host: c.Endpoint()}
	if c.TLS {
		uri.Scheme = "rediss"
	}
	if c.Password != "" {
		uri.User = url.UserPassword(c.Username, c.Password)
	}
	return uri.String()
}

// secretType is the type of a Service Binding's Secret
// (https://servicebinding.io/spec/core/1.1.0/#well-known-secret-entries).
const secretType corev1.SecretType = "servicebinding.io/redis"

// data are the entries of the connection Secret. Keys without a value are left
// out, as the Service Binding specification has it.
func (c Connection) data() map[string][]byte {
	entries := map[string]string{
		"type":      "redis",
		"provider":  c.Provider,
		"host":      c.Host,
		"port":      strconv.Itoa(c.Port),
		"username":  c.Username,
		passwordKey: c.Password,
		"uri":       c.URI(),
		"tls":       strconv.FormatBool(c.TLS),
		"ca":        c.CA,
		"REDIS_URL": c.URI(),
	}
	data := make(map[string][]byte, len(entries))
	for key, value := range entries {
		if value != "" {
			data[key] = []byte(value)
		}
	}
	return data
}

// fingerprint of a text, salted with the FlagCache's UID and cut to 32 bits so
// that it tells two values apart but does not help to guess one.
func fingerprint(uid types.UID, parts ...string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q", append([]string{string(uid)}, parts...))
	return hex.EncodeToString(h.Sum(nil)[:4])
}

// connectionPart is what applications and the flag service read.
type connectionPart struct {
	objects []Object
	// hash of the connection for the revision; "" while there is none.
	hash string
	// port of the cache, as far as it is or was known; else 0.
	port  int32
	ready metav1.Condition
}

// planConnection plans the connection Secret and, whatever becomes of the
// cache, the key that authenticates cached values and the clients' ConfigMap.
func planConnection(s Snapshot, cache cachePart) connectionPart {
	fc := s.FlagCache
	part := connectionPart{objects: []Object{integritySecret(s), clientConfigMap(fc)}}
	if cache.connection == nil {
		part.port = publishedPort(s)
		part.ready = isFalse(v1alpha1.ConditionConnectionReady, v1alpha1.ReasonWaitingForCache,
			"There is no connection to publish yet: %s", cache.provisioned.Message)
		return part
	}
	secret := connectionSecret(fc, *cache.connection)
	part.objects = append(part.objects, secret)
	part.hash = fingerprint(fc.UID, cache.connection.URI(), cache.connection.CA)
	part.port = int32(cache.connection.Port)
	part.ready = publication(s, secret)
	return part
}

// publishedPort is the port that the pods were told, 0 where they were told none.
func publishedPort(s Snapshot) int32 {
	port, err := strconv.ParseInt(secretValue(s, connectionName(s.FlagCache), "port"), 10, 32)
	if err != nil {
		return 0
	}
	return int32(port)
}

// publication says whether the Secret that exists is the one that is wanted.
func publication(s Snapshot, wanted *corev1.Secret) metav1.Condition {
	if secretValue(s, wanted.Name, "uri") != string(wanted.Data["uri"]) {
		return isFalse(v1alpha1.ConditionConnectionReady, v1alpha1.ReasonPublishing, "Writing Secret %s", wanted.Name)
	}
	return isTrue(v1alpha1.ConditionConnectionReady, v1alpha1.ReasonPublished, "Secret %s holds the connection", wanted.Name)
}

func connectionSecret(fc *v1alpha1.FlagCache, c Connection) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: secretMeta(fc, connectionName(fc), v1alpha1.ComponentService),
		Type:       secretType,
		Data:       c.data(),
	}
}

// integritySecret holds the key that authenticates cached values. It is not in
// Redis and not in the connection Secret, so who can write to Redis still
// cannot forge flags.
func integritySecret(s Snapshot) *corev1.Secret {
	key := secretValue(s, integrityName(s.FlagCache), config.IntegrityKey)
	if key == "" {
		key = s.Fresh.IntegrityKey
	}
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: secretMeta(s.FlagCache, integrityName(s.FlagCache), v1alpha1.ComponentService),
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{config.IntegrityKey: []byte(key)},
	}
}

// clientConfigMap is all that an application needs, by envFrom: the variable
// that OpenFeature's OFREP providers read.
func clientConfigMap(fc *v1alpha1.FlagCache) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: childMeta(fc, clientName(fc), v1alpha1.ComponentService),
		Data:       map[string]string{"OFREP_ENDPOINT": ofrepEndpoint(fc)},
	}
}

func ofrepEndpoint(fc *v1alpha1.FlagCache) string {
	return "http://" + serviceName(fc) + "." + fc.Namespace + ".svc"
}
