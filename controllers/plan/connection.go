// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/observed"
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
	// IAMCache and IAMRegion name the ElastiCache cache that clients log in to with AWS
	// credentials; "" where they have a password, or none.
	IAMCache, IAMRegion string
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

// hash tells two connections of one FlagCache apart.
func (c Connection) hash(uid types.UID) string {
	parts := []string{c.URI(), c.CA}
	if c.IAMCache != "" {
		parts = append(parts, c.Username, c.IAMCache, c.IAMRegion)
	}
	return observed.Fingerprint(uid, parts...)
}

// secretType is the type of a Service Binding's Secret
// (https://servicebinding.io/spec/core/1.1.0/#well-known-secret-entries).
const secretType corev1.SecretType = "servicebinding.io/redis"

// Keys of the connection Secret, beside those of the Service Binding
// specification, by which the flag service logs in with AWS credentials.
const (
	iamCacheKey  = "iam-cache"
	iamRegionKey = "iam-region"
)

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
		iamCacheKey: c.IAMCache,
		// The region is for signing; the AWS SDK finds the pod's own where it is absent.
		iamRegionKey: c.IAMRegion,
		"REDIS_URL":  c.URI(),
	}
	data := make(map[string][]byte, len(entries))
	for key, value := range entries {
		if value != "" {
			data[key] = []byte(value)
		}
	}
	return data
}

// readConnection is the connection that data wrote. Who asks compares its hash,
// because somebody may have edited the Secret since.
func readConnection(data map[string][]byte) Connection {
	port, _ := strconv.Atoi(string(data["port"]))
	return Connection{
		Provider:  string(data["provider"]),
		Host:      string(data["host"]),
		Port:      port,
		Username:  string(data["username"]),
		Password:  string(data[passwordKey]),
		TLS:       string(data["tls"]) == "true",
		CA:        string(data["ca"]),
		IAMCache:  string(data[iamCacheKey]),
		IAMRegion: string(data[iamRegionKey]),
	}
}

// connectionPart is what applications and the flag service read.
type connectionPart struct {
	objects []observed.Object
	// later are objects that are wanted but not written now.
	later []observed.Object
	// hash of the connection for the revision; "" while there is none.
	hash string
	// used is the connection of the revision that serves, which during a rollout
	// may be another one than the spec's; nil while there is none.
	used *Connection
	// ports of the caches that pods use, or are to use.
	ports []int32
	// iam: pods log in to a cache with AWS credentials, or are to.
	iam   bool
	ready metav1.Condition
}

// planConnection plans the connection Secret of the revision to come and,
// whatever becomes of the cache, the key that authenticates cached values and
// the clients' ConfigMap. Each connection has a Secret of its own, so that a
// wrong password or endpoint reaches no pod but a candidate's.
func planConnection(s *observed.Index, cache cachePart) connectionPart {
	fc := s.FlagCache
	part := connectionPart{
		objects: []observed.Object{integritySecret(s), clientConfigMap(fc)},
		ports:   knownPorts(s, cache.connection),
		iam:     logInByIAM(s, cache.connection),
	}
	if cache.connection == nil {
		part.ready = conditions.False(v1alpha1.ConditionConnectionReady, v1alpha1.ReasonWaitingForCache,
			"There is no connection to publish yet: %s", cache.provisioned.Message)
		return part
	}
	part.hash = cache.connection.hash(fc.UID)
	part.objects = append(part.objects, connectionSecret(fc, observed.PrivateConnectionName(fc, part.hash), *cache.connection))
	return part
}

// asProbe is a connection as the operator's probe uses it: of a cache whose pods
// log in by IAM the probe has a user of its own.
func asProbe(s *observed.Index, c Connection) Connection {
	if c.IAMCache == "" {
		return c
	}
	id := c.IAMCache[strings.LastIndex(c.IAMCache, "-")+1:]
	password := seeSecret(s, id)
	c.Username, c.Password = probeUser(s.FlagCache, password), password
	c.IAMCache, c.IAMRegion = "", ""
	return c
}

// publish plans the Secret that applications bind to. It follows the revision
// that serves: while another one is tried it holds what that one uses.
func (part *connectionPart) publish(s *observed.Index, connection *Connection, r rollout) {
	serving := r.observed[r.stable]
	if connection != nil && (r.stable == "" || r.target == r.stable || serving != nil && connectionHash(serving) == part.hash) {
		secret := connectionSecret(s.FlagCache, observed.ConnectionName(s.FlagCache), *connection)
		part.used = connection
		part.objects = append(part.objects, secret)
		part.ready = publication(s, secret)
		return
	}
	if connection == nil && s.FlagCache.Spec.Cache.Type != v1alpha1.CacheElastiCache {
		return
	}
	stable, ok := connectionOf(s, serving)
	if !ok && connection == nil {
		return
	}
	name := observed.ConnectionName(s.FlagCache)
	part.used = connection
	part.ready = conditions.True(v1alpha1.ConditionConnectionReady, v1alpha1.ReasonPublished, "Secret %s holds the connection of revision %s, which serves", name, r.stable)
	if !ok {
		part.later = append(part.later, connectionSecret(s.FlagCache, name, *connection))
		return
	}
	part.used = &stable
	part.objects = append(part.objects,
		connectionSecret(s.FlagCache, name, stable),
		connectionSecret(s.FlagCache, observed.PrivateConnectionName(s.FlagCache, connectionHash(serving)), stable))
}

// connectionOf is the connection that the pods of a revision use. It stands in
// two Secrets, and whichever was not edited since is right.
func connectionOf(s *observed.Index, d *appsv1.Deployment) (Connection, bool) {
	if d == nil {
		return Connection{}, false
	}
	for _, name := range []string{observed.PrivateConnectionName(s.FlagCache, connectionHash(d)), observed.ConnectionName(s.FlagCache)} {
		secret, ok := observed.Get[*corev1.Secret](s, name)
		if !ok {
			continue
		}
		if connection := readConnection(secret.Data); connection.hash(s.FlagCache.UID) == connectionHash(d) {
			return connection, true
		}
	}
	return Connection{}, false
}

// connectionHash is the hash of the connection that a Deployment's pods use.
func connectionHash(d *appsv1.Deployment) string {
	return d.Spec.Template.Annotations[v1alpha1.AnnotationConnection]
}

// knownPorts are the ports of the connections that there are Secrets for, and of
// the one to come; Redis' own where there is none.
func knownPorts(s *observed.Index, next *Connection) []int32 {
	var ports []int32
	if next != nil {
		ports = append(ports, int32(next.Port))
	}
	for _, secret := range connectionSecrets(s) {
		if port, err := strconv.ParseInt(string(secret.Data["port"]), 10, 32); err == nil {
			ports = append(ports, int32(port))
		}
	}
	if len(ports) == 0 {
		ports = append(ports, redisPort)
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// logInByIAM tells whether pods of any revision log in with AWS credentials, or are
// to.
func logInByIAM(s *observed.Index, next *Connection) bool {
	return next != nil && next.IAMCache != "" || slices.ContainsFunc(connectionSecrets(s), func(secret *corev1.Secret) bool {
		return len(secret.Data[iamCacheKey]) > 0
	})
}

// connectionSecrets are the Secrets of all connections.
func connectionSecrets(s *observed.Index) []*corev1.Secret {
	var secrets []*corev1.Secret
	for _, secret := range observed.All[*corev1.Secret](s) {
		if secret.Type == secretType {
			secrets = append(secrets, secret)
		}
	}
	return secrets
}

// publication says whether the Secret that exists is the one that is wanted.
func publication(s *observed.Index, wanted *corev1.Secret) metav1.Condition {
	if s.SecretValue(wanted.Name, "uri") != string(wanted.Data["uri"]) {
		return conditions.False(v1alpha1.ConditionConnectionReady, v1alpha1.ReasonPublishing, "Writing Secret %s", wanted.Name)
	}
	return conditions.True(v1alpha1.ConditionConnectionReady, v1alpha1.ReasonPublished, "Secret %s holds the connection", wanted.Name)
}

func connectionSecret(fc *v1alpha1.FlagCache, name string, c Connection) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: observed.SecretMeta(fc, name, v1alpha1.ComponentService),
		Type:       secretType,
		Data:       c.data(),
	}
}

// integritySecret holds the key that authenticates cached values. It is not in
// Redis and not in the connection Secret, so who can write to Redis still
// cannot forge flags.
func integritySecret(s *observed.Index) *corev1.Secret {
	key := s.SecretValue(observed.IntegrityName(s.FlagCache), config.IntegrityKey)
	if key == "" {
		key = s.Fresh.IntegrityKey
	}
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: observed.SecretMeta(s.FlagCache, observed.IntegrityName(s.FlagCache), v1alpha1.ComponentService),
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{config.IntegrityKey: []byte(key)},
	}
}

// clientConfigMap is all that an application needs, by envFrom: the variable
// that OpenFeature's OFREP providers read.
func clientConfigMap(fc *v1alpha1.FlagCache) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: observed.ChildMeta(fc, observed.ClientName(fc), v1alpha1.ComponentService),
		Data:       map[string]string{"OFREP_ENDPOINT": ofrepEndpoint(fc)},
	}
}

func ofrepEndpoint(fc *v1alpha1.FlagCache) string {
	return "http://" + observed.ServiceName(fc) + "." + fc.Namespace + ".svc"
}
