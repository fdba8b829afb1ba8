// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/flagcache/flagcache/service/postgrestest"
	"github.com/flagcache/flagcache/service/redistest"
	"github.com/flagcache/flagcache/test/child"
)

const (
	// instances is how many flag services there are.
	instances = 3
	// adminUser is the tests' own in Redis, so that they can change everything for
	// the services' user.
	adminUser, adminPassword = "admin", "admin-password"
	// environmentKey is where the services keep their flags in Redis.
	environmentKey = "feature_flags:default"
)

// rig is three flag services and all that they depend on.
type rig struct {
	// t is the test that is going on, root the one that owns the rig.
	t, root       testing.TB
	tls           authority
	redis         *redisServer
	redisProxy    *proxy
	postgres      *postgrestest.Server
	postgresProxy *proxy
	databaseURI   string
	binding       string
	services      [instances]*instance
	expected      *expected
	// faulty is set during a fault; otherCA and promoted belong to certain faults.
	faulty   bool
	otherCA  string
	promoted *redisServer
}

// proxy is a TCP proxy that can be made harmful.
type proxy = toxiproxy.Proxy

// startRig starts everything, writes the flags, and learns the answers.
func startRig(t testing.TB) *rig {
	t.Helper()
	r := prepareRig(t)
	for n := range r.services {
		r.services[n] = launch(t, r.environ()...)
	}
	r.insertFlags()
	for _, service := range r.services {
		service.awaitReady()
	}
	r.learn()
	return r
}

// prepareRig starts what the flag services depend on.
func prepareRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, root: t, tls: newAuthority(t), expected: newExpected()}
	r.redis = startRedis(t, r.tls)
	r.postgres = postgrestest.Start(t)
	r.databaseURI = r.postgres.Database(t)
	proxies := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	r.redisProxy = startProxy(t, proxies, "redis", r.redis.tlsAddr)
	r.postgresProxy = startProxy(t, proxies, "postgres", r.postgres.Addr)
	r.bindTo(r.redisProxy.Listen)
	return r
}

// bindTo has services that are launched from now on use the Redis at an address.
func (r *rig) bindTo(address string) {
	r.t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.binding = filepath.Join(r.t.TempDir(), "cache")
	if err := os.Mkdir(r.binding, 0o700); err != nil {
		r.t.Fatal(err)
	}
	r.bind(map[string]string{"type": "redis", "host": host, "port": port, "password": r.redis.password, "tls": "true", "ca": r.tls.CA})
}

func startProxy(t testing.TB, server *toxiproxy.ApiServer, name, upstream string) *proxy {
	t.Helper()
	proxy := toxiproxy.NewProxy(server, name, "127.0.0.1:0", upstream)
	if err := proxy.Start(); err != nil {
		t.Fatalf("starting a proxy: %v", err)
	}
	t.Cleanup(proxy.Stop)
	return proxy
}

// bind writes files of the Service Binding, as a Secret that changes.
func (r *rig) bind(files map[string]string) {
	r.t.Helper()
	for name, content := range files {
		path := filepath.Join(r.binding, name)
		if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
			r.t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			r.t.Fatal(err)
		}
	}
}

// environ is how a flag service finds its dependencies.
func (r *rig) environ() []string {
	r.t.Helper()
	dir := r.t.TempDir()
	uri, key := filepath.Join(dir, "uri"), filepath.Join(dir, "hmac-key")
	through := strings.Replace(r.databaseURI, r.postgres.Addr, r.postgresProxy.Listen, 1)
	for path, content := range map[string]string{uri: through, key: "the key that is not in Redis"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	return []string{
		"SERVICE_BINDING_ROOT=" + filepath.Dir(r.binding), "FLAGS_POSTGRES_URI_FILE=" + uri, "CACHE_HMAC_KEY_FILE=" + key,
	}
}

// database runs SQL past the proxy.
func (r *rig) database(sql string, args ...any) {
	r.t.Helper()
	if err := r.run(sql, args...); err != nil {
		r.t.Fatalf("changing the flags: %v", err)
	}
}

// run is database for goroutines, which cannot end a test.
func (r *rig) run(sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, r.databaseURI)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql, args...)
	return err
}

// mark gives the marker a variant in the source.
func (r *rig) mark(variant string) error {
	return r.run(`UPDATE flagcache.flags SET definition = $1 WHERE environment = 'default' AND key = 'marker'`, markerFlag(variant))
}

// flags are one of each kind; marker is the one that changes.
var flags = map[string]string{
	"plain":      `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}`,
	"settings":   `{"state":"ENABLED","variants":{"v":{"colour":"red","sizes":[1,2,3]}},"defaultVariant":"v"}`,
	"off":        `{"state":"DISABLED","variants":{"on":true},"defaultVariant":"on"}`,
	"staff":      `{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"ends_with":[{"var":"email"},"7@example.com"]},"on"]}}`,
	"country":    `{"state":"ENABLED","variants":{"eu":"eu","us":"us","other":"other"},"defaultVariant":"other","targeting":{"if":[{"in":[{"var":"country"},["DE","FR"]]},"eu",{"==":[{"var":"country"},"US"]},"us",null]}}`,
	"experiment": `{"state":"ENABLED","variants":{"a":1,"b":2},"defaultVariant":"a","targeting":{"fractional":[["a",50],["b",50]]}}`,
	"marker":     markerFlag("a"),
}

func markerFlag(variant string) string {
	return fmt.Sprintf(`{"state":"ENABLED","variants":{"a":"a","b":"b"},"defaultVariant":%q}`, variant)
}

// insertFlags writes the flags into the schema that a flag service has made.
func (r *rig) insertFlags() {
	r.t.Helper()
	definitions, err := json.Marshal(flags)
	if err != nil {
		r.t.Fatal(err)
	}
	redistest.Eventually(r.t, 20*time.Second, "no flag service made the schema", r.hasSchema)
	r.database(`INSERT INTO flagcache.flags (environment, key, definition)
		SELECT 'default', key, value::json FROM json_each_text($1)`, string(definitions))
}

func (r *rig) hasSchema() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, r.databaseURI)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close(ctx) }()
	var there bool
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM flagcache.environments WHERE name = 'default')`).Scan(&there)
	return err == nil && there
}

// toxic makes a proxy degrade the responses through it.
func toxic(t testing.TB, to *proxy, kind, attributes string) {
	t.Helper()
	description := fmt.Sprintf(`{"name":%q,"type":%q,"stream":"downstream","attributes":%s}`, kind, kind, attributes)
	if _, err := to.Toxics.AddToxicJson(strings.NewReader(description)); err != nil {
		t.Fatalf("making the proxy harmful: %v", err)
	}
}

// redisServer is a redis-server that talks TLS to the services, and plain text
// to the tests.
type redisServer struct {
	*redistest.Server
	admin    *redis.Client
	tlsAddr  string
	password string
	// ca is the authority's certificate, in PEM.
	ca string
}

func startRedis(t testing.TB, tls authority) *redisServer {
	t.Helper()
	const password = "first-password"
	tlsPort := freePort(t)
	args := []string{
		"--tls-port", tlsPort, "--tls-cert-file", tls.Cert, "--tls-key-file", tls.KeyFile, "--tls-ca-cert-file", tls.CAFile,
		"--tls-auth-clients", "no", "--requirepass", password,
		"--user", adminUser, "on", ">" + adminPassword, "~*", "&*", "+@all", "--masteruser", adminUser, "--masterauth", adminPassword, "--repl-diskless-sync-delay", "0",
	}
	server := &redisServer{Server: redistest.Start(t, args...), tlsAddr: net.JoinHostPort("127.0.0.1", tlsPort), password: password, ca: tls.CA}
	server.admin = redis.NewClient(&redis.Options{Addr: server.Addr, Username: adminUser, Password: adminPassword, DisableIdentity: true})
	t.Cleanup(func() { _ = server.admin.Close() })
	return server
}

// do has Redis do something, which must succeed.
func (s *redisServer) do(t testing.TB, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.admin.Do(ctx, args...).Err(); err != nil {
		t.Fatalf("asking Redis to %v: %v", args[0], err)
	}
}

// disconnect cuts off the services' connections.
func (s *redisServer) disconnect(t testing.TB) {
	t.Helper()
	s.do(t, "CLIENT", "KILL", "USER", "default")
}

func freePort(t testing.TB) string {
	t.Helper()
	address, err := child.FreeAddress("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(address.Port)
}
