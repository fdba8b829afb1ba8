// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/broadcast"
	"github.com/flagcache/flagcache/controllers/dial"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/policy"
	"github.com/flagcache/flagcache/controllers/probe"
	"github.com/flagcache/flagcache/controllers/secret"
	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/redistest"
	"github.com/flagcache/flagcache/service/source"
)

// rig is a server with the users that the operator plans, behind a gate.
type rig struct {
	planned
	gate   *gate
	server *redistest.Server
	admin  *redis.Client
	// pods is the user of the pods.
	pods *ack.User
}

func newRig(t *testing.T) *rig {
	t.Helper()
	// DEBUG is to be refused by the ACL, not by the server's own setting.
	server := redistest.Start(t, "--enable-debug-command", "yes")
	r := &rig{gate: startGate(t, server.Addr), server: server}
	r.planned = planCache(t, r.gate)
	r.pods = r.users[string(r.binding["username"])]
	if r.pods == nil {
		t.Fatalf("the user of the binding is none of %v", r.users)
	}
	server.Client().Do(t.Context(), "ACL", "SETUSER", "admin", "on", "nopass", "~*", "&*", "+@all")
	r.admin = r.as(t, "admin", "x")
	for name, user := range r.users {
		rules := strings.Fields(*user.Spec.AccessString)
		if mode := user.Spec.AuthenticationMode; mode != nil && *mode.Type == "password" {
			rules = append(rules, ">"+r.probe.Connection.Password.Reveal())
		} else {
			// Signatures are verified by ElastiCache; this server accepts any token.
			rules = append(rules, "nopass")
		}
		args := []any{"ACL", "SETUSER", name, "reset"}
		for _, rule := range rules {
			args = append(args, rule)
		}
		if err := r.admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("the server does not accept the access string %q: %v", *user.Spec.AccessString, err)
		}
	}
	return r
}

// as is a client with a user's login that bypasses the gate.
func (r *rig) as(t *testing.T, user, password string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: r.server.Addr, Username: user, Password: password, Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// pod is a flag service's cache, bound as the operator binds it.
type pod struct {
	*cache.Cache
	changes atomic.Int64
}

func (r *rig) startPod(t *testing.T) *pod {
	t.Helper()
	bindingDir, keyFile := r.mount(t)
	p := &pod{Cache: cache.New(cache.Options{
		Environment: environment, BindingDir: bindingDir, KeyFile: keyFile,
		TTL: 5 * time.Minute, MaxSize: 1 << 20, Connections: 10, DialTimeout: 2 * time.Second,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}, prometheus.NewRegistry())}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { p.Run(ctx, func() { p.changes.Add(1) }) })
	t.Cleanup(func() { cancel(); ended.Wait() })
	// It reads once it knows the address of Redis, and again once it has subscribed.
	p.awaitChange(t, 1)
	return p
}

func (p *pod) awaitChange(t *testing.T, after int64) {
	t.Helper()
	redistest.Eventually(t, 30*time.Second, "the pod was not notified of a change", func() bool { return p.changes.Load() > after })
}

func (p *pod) mustRead(t *testing.T, want string) {
	t.Helper()
	if entry, err := p.Read(t.Context()); err != nil || string(entry.Data) != want {
		t.Fatalf("read %q (%v), not %q", entry.Data, err, want)
	}
}

func (p *pod) mustMiss(t *testing.T) {
	t.Helper()
	if _, err := p.Read(t.Context()); !errors.Is(err, cache.ErrMiss) {
		t.Fatalf("the read returned %v, not a miss", err)
	}
}

// atLeast accepts documents of a version or a newer one.
func atLeast(number int64) func(cache.Entry) bool {
	return func(stored cache.Entry) bool { return stored.Version.Number >= number }
}

func entry(number int64, data string) cache.Entry {
	return cache.Entry{State: source.State{Version: source.Version{Number: number}}, Data: []byte(data)}
}

// withCredentials gives the process AWS credentials for the test, as EKS does for a pod,
// and hides those of the machine.
func withCredentials(t *testing.T) {
	t.Helper()
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_SESSION_TOKEN": "", "AWS_REGION": "us-west-2",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_EC2_METADATA_DISABLED": "true", "AWS_PROFILE": "",
	} {
		t.Setenv(name, value)
	}
}

// TestServiceNeedsExactlyItsPermissions does everything that the flag service does with
// Redis, as the user that the operator creates and with the binding that it writes.
func TestServiceNeedsExactlyItsPermissions(t *testing.T) {
	withCredentials(t)
	r := newRig(t)
	a, b := r.startPod(t), r.startPod(t)
	key := config.RedisKeyPrefix + environment

	t.Run("a document is stored and read, and others are notified", func(t *testing.T) {
		a.mustMiss(t)
		seen := b.changes.Load()
		if err := a.Store(t.Context(), entry(1, "one")); err != nil {
			t.Fatalf("storing: %v", err)
		}
		b.awaitChange(t, seen)
		b.mustRead(t, "one")
	})
	t.Run("an older document does not replace a newer one", func(t *testing.T) {
		if err := b.Store(t.Context(), entry(0, "zero")); err != nil {
			t.Fatalf("storing: %v", err)
		}
		a.mustRead(t, "one")
	})
	t.Run("invalidation deletes the document and notifies others", func(t *testing.T) {
		seen := b.changes.Load()
		if err := a.Invalidate(t.Context()); err != nil {
			t.Fatalf("invalidating: %v", err)
		}
		b.awaitChange(t, seen)
		b.mustMiss(t)
	})
	t.Run("one pod refills for all, holding the lock", func(t *testing.T) {
		fill := func(ctx context.Context) (cache.Entry, error) {
			if err := b.Refill(ctx, atLeast(2), nil); !errors.Is(err, cache.ErrBusy) {
				t.Errorf("a second refill returned %v, not ErrBusy", err)
			}
			return entry(2, "two"), nil
		}
		if err := a.Refill(t.Context(), atLeast(2), fill); err != nil {
			t.Fatalf("refilling: %v", err)
		}
		b.mustRead(t, "two")
		if r.admin.Exists(t.Context(), config.RedisLockPrefix+environment).Val() != 0 {
			t.Error("the lock was not released")
		}
	})
	t.Run("an invalid value is deleted, a value of another type replaced", func(t *testing.T) {
		r.admin.Set(t.Context(), key, "poison", 0)
		a.mustMiss(t)
		if r.admin.Exists(t.Context(), key).Val() != 0 {
			t.Error("the invalid value still exists")
		}
		r.admin.LPush(t.Context(), key, "x")
		a.mustMiss(t)
		if err := a.Store(t.Context(), entry(3, "three")); err != nil {
			t.Fatalf("storing: %v", err)
		}
		b.mustRead(t, "three")
	})
	t.Run("a lost connection is established again", func(t *testing.T) {
		seen := b.changes.Load()
		r.gate.cut()
		b.awaitChange(t, seen)
		redistest.Eventually(t, 30*time.Second, "the document was not read again", func() bool {
			entry, err := b.Read(t.Context())
			return err == nil && string(entry.Data) == "three"
		})
	})
	t.Run("an idle subscription is pinged", func(t *testing.T) { r.gate.await(t, "ping") })

	t.Run("it has exactly the permissions that it uses", func(t *testing.T) {
		if diff := cmp.Diff(allowed(r.pods), r.gate.names()); diff != "" {
			t.Errorf("commands that are allowed (-) and that were sent (+) differ:\n%s", diff)
		}
		r.mustRefuseNothing(t)
	})
	t.Run("it logs in as the Secret says, with a token signed by AWS credentials", r.loggedIn)
}

// loggedIn expects that every connection began with the user of the Secret and a token
// for the cache and the region of the Secret.
func (r *rig) loggedIn(t *testing.T) {
	logins := 0
	for _, command := range r.gate.recorded() {
		i := slices.IndexFunc(command, func(argument string) bool { return strings.EqualFold(argument, "auth") })
		if i < 0 || strings.ToLower(command[0]) != "hello" && i != 0 {
			continue
		}
		logins++
		user, token := command[i+1], command[i+2]
		host, query, _ := strings.Cut(token, "/?")
		values, err := url.ParseQuery(query)
		if err != nil || user != *r.pods.Spec.UserID || user != *r.pods.Spec.UserName {
			t.Fatalf("%q logged in: %v", user, err)
		}
		got := map[string]string{"cache": host, "user": values.Get("User"), "action": values.Get("Action"),
			"region": strings.Split(values.Get("X-Amz-Credential"), "/")[2]}
		want := map[string]string{"cache": r.group(), "user": user, "action": "connect", "region": region}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("the token differs (-want +got):\n%s", diff)
		}
	}
	if logins < 2 {
		t.Errorf("there were %d logins", logins)
	}
}

// group is the ID of the replication group. For IAM the user's is the same.
func (r *rig) group() string { return string(r.binding["iam-cache"]) }

// allowed are the commands that an access string allows.
func allowed(user *ack.User) []string {
	var commands []string
	for _, rule := range strings.Fields(*user.Spec.AccessString) {
		if command, ok := strings.CutPrefix(rule, "+"); ok {
			commands = append(commands, command)
		}
	}
	slices.Sort(commands)
	return commands
}

// mustRefuseNothing expects that the server's ACL log, which records refused commands,
// is empty.
func (r *rig) mustRefuseNothing(t *testing.T) {
	t.Helper()
	log, err := r.admin.ACLLog(t.Context(), 10).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, refused := range log {
		t.Errorf("the server refused %s to %s (%s)", refused.Object, refused.Username, refused.Reason)
	}
}

// loopback opens the addresses of the servers of tests.
var loopback = &dial.Rules{Lists: func() *policy.Addresses {
	return &policy.Addresses{Allow: []policy.Prefix{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}}
}}

// document is a published one for the Redis of a probe.
func document(redis probe.Target, number int64) broadcast.Target {
	const text = `{"flags":{}}`
	return broadcast.Target{
		Number: number, Digest: source.Digest([]byte(text)), Store: "flagcache:shop/flags", Environments: []string{environment}, TTL: 5 * time.Minute,
		Key: secret.New(strings.Repeat("k", 32)), Redis: redis, Compressed: observed.Compress([]byte(text)),
	}
}

// TestProbeNeedsExactlyItsPermissions probes and publishes flags as the operator does.
func TestProbeNeedsExactlyItsPermissions(t *testing.T) {
	r := newRig(t)
	connection := r.probe.Connection
	target := probe.Target{
		Addr: connection.Endpoint(), Username: connection.Username, Password: connection.Password,
		TLS: connection.TLS, CA: []byte(connection.CA), Key: r.probe.Key, Timeout: 30 * time.Second,
	}
	for range 2 { // the second time there is nothing to write
		if got := broadcast.Once(t.Context(), document(target, 7), loopback); got != broadcast.Stored {
			t.Fatalf("publishing flags returned %s", got)
		}
	}
	attempt := probe.Once(t.Context(), target, loopback)
	if attempt.Err != nil || attempt.Role != "master" || attempt.Usage == (probe.Usage{}) {
		t.Fatalf("the probe returned %+v", attempt)
	}
	if diff := cmp.Diff(allowed(r.users[connection.Username]), r.gate.names()); diff != "" {
		t.Errorf("commands that are allowed (-) and that were sent (+) differ:\n%s", diff)
	}
	r.mustRefuseNothing(t)
}

// TestUnneededCommandsAreRefused tries what somebody could do with the login of a pod or
// of the probe.
func TestUnneededCommandsAreRefused(t *testing.T) {
	r := newRig(t)
	const ours = config.RedisKeyPrefix + environment
	const foreign = config.RedisKeyPrefix + "payments"
	toAll := []string{
		"KEYS *", "SCAN 0", "CONFIG GET requirepass", "CONFIG SET maxmemory 1", "FLUSHALL", "FLUSHDB", "SCRIPT LOAD x", "EVAL return 0",
		"DEBUG SLEEP 0", "ACL LIST", "ACL WHOAMI", "CLIENT LIST", "CLIENT KILL TYPE normal", "MONITOR", "REPLICAOF NO ONE", "SHUTDOWN",
		"SELECT 1", "COPY " + ours + " x", "RENAME " + ours + " x", "DUMP " + ours, "EXPIRE " + ours + " 1", "SWAPDB 0 1", "MIGRATE h 1 k 0 1",
		"SET " + foreign + " x", "PUBLISH " + config.RedisChannelPrefix + "payments x", "SUBSCRIBE " + config.RedisChannelPrefix + "payments",
		"PSUBSCRIBE *", "PUBSUB CHANNELS", "MODULE LIST", "SLOWLOG GET", "LATENCY LATEST", "COMMAND COUNT", "CLUSTER NODES",
	}
	refused := map[string][]string{
		*r.pods.Spec.UserName: {
			"GETRANGE " + foreign + " 0 1", "DEL " + foreign, "WATCH " + foreign, "SET " + ours + "x x", "SET " + r.probe.Key + " x",
			"GET " + ours, "INFO", "DEL " + ours + " " + foreign, "PUBLISH " + config.RedisChannelPrefix + environment + "x x",
		},
		r.probe.Connection.Username: {
			"GET " + foreign, "GETRANGE " + foreign + " 0 1", "WATCH " + foreign, "GET " + r.probe.Key + "x", "DEL " + r.probe.Key, "DEL " + ours,
			"SET " + config.RedisLockPrefix + environment + " x", "PUBLISH " + config.RedisChannelPrefix + environment + "x x",
			"SUBSCRIBE " + config.RedisChannelPrefix + environment,
		},
	}
	for user, more := range refused {
		client := r.as(t, user, r.probe.Connection.Password.Reveal())
		for _, line := range slices.Concat(toAll, more) {
			parts := strings.Fields(line)
			args := make([]any, len(parts))
			for i, part := range parts {
				args[i] = part
			}
			if err := client.Do(t.Context(), args...).Err(); !redis.HasErrorPrefix(err, "NOPERM") {
				t.Errorf("%s may %s: %v", user, line, err)
			}
		}
	}
	t.Run("a login without a user name is refused", func(t *testing.T) {
		if err := r.server.Client().Ping(t.Context()).Err(); err == nil {
			t.Error("the default user may send commands")
		}
	})
}
