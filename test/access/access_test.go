// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"errors"
	"log/slog"
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
	"github.com/flagcache/flagcache/controllers/probe"
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
	// Not the server's own setting but the ACL is to refuse DEBUG.
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
		rules := strings.Fields(user.Spec.AccessString)
		if mode := user.Spec.AuthenticationMode; mode != nil && mode.Type == "password" {
			rules = append(rules, ">"+r.probe.Connection.Password)
		} else {
			// Who signs a token right is ElastiCache's to judge; here any is taken.
			rules = append(rules, "nopass")
		}
		args := []any{"ACL", "SETUSER", name, "reset"}
		for _, rule := range rules {
			args = append(args, rule)
		}
		if err := r.admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("the server does not take the access string %q: %v", user.Spec.AccessString, err)
		}
	}
	return r
}

// as is a client of a user's, past the gate.
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
	// It looks when it knows where Redis is, and again when it listens to it.
	p.awaitChange(t, 1)
	return p
}

func (p *pod) awaitChange(t *testing.T, after int64) {
	t.Helper()
	redistest.Eventually(t, 30*time.Second, "the pod was not told of a change", func() bool { return p.changes.Load() > after })
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
		t.Fatalf("a read is %v, not a miss", err)
	}
}

func entry(number int64, data string) cache.Entry {
	return cache.Entry{Version: source.Version{Number: number}, Data: []byte(data)}
}

// withCredentials gives the process AWS credentials of a test, as EKS gives a pod its
// own, and keeps those of the machine out.
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

// TestTheServiceWorksWithItsRights does all that the flag service does with Redis as
// the user that the operator makes for it, bound by the Secret that it writes.
func TestTheServiceWorksWithItsRights(t *testing.T) {
	withCredentials(t)
	r := newRig(t)
	a, b := r.startPod(t), r.startPod(t)
	key := config.RedisKeyPrefix + environment

	t.Run("a document is stored, read and told of", func(t *testing.T) {
		a.mustMiss(t)
		seen := b.changes.Load()
		if err := a.Store(t.Context(), entry(1, "one")); err != nil {
			t.Fatalf("storing: %v", err)
		}
		b.awaitChange(t, seen)
		b.mustRead(t, "one")
	})
	t.Run("an older one replaces nothing", func(t *testing.T) {
		if err := b.Store(t.Context(), entry(0, "zero")); err != nil {
			t.Fatalf("storing: %v", err)
		}
		a.mustRead(t, "one")
	})
	t.Run("invalidation deletes it and tells", func(t *testing.T) {
		seen := b.changes.Load()
		if err := a.Invalidate(t.Context()); err != nil {
			t.Fatalf("invalidating: %v", err)
		}
		b.awaitChange(t, seen)
		b.mustMiss(t)
	})
	t.Run("one refills for all, under the lock", func(t *testing.T) {
		fill := func(ctx context.Context) (cache.Entry, error) {
			if err := b.Refill(ctx, source.Version{Number: 2}, nil); !errors.Is(err, cache.ErrBusy) {
				t.Errorf("a second refill is %v, not busy", err)
			}
			return entry(2, "two"), nil
		}
		if err := a.Refill(t.Context(), source.Version{Number: 2}, fill); err != nil {
			t.Fatalf("refilling: %v", err)
		}
		b.mustRead(t, "two")
		if r.admin.Exists(t.Context(), config.RedisLockPrefix+environment).Val() != 0 {
			t.Error("the lock was not given back")
		}
	})
	t.Run("poison is deleted, another type replaced", func(t *testing.T) {
		r.admin.Set(t.Context(), key, "poison", 0)
		a.mustMiss(t)
		if r.admin.Exists(t.Context(), key).Val() != 0 {
			t.Error("the poison is still there")
		}
		r.admin.LPush(t.Context(), key, "x")
		a.mustMiss(t)
		if err := a.Store(t.Context(), entry(3, "three")); err != nil {
			t.Fatalf("storing: %v", err)
		}
		b.mustRead(t, "three")
	})
	t.Run("a lost connection comes back", func(t *testing.T) {
		seen := b.changes.Load()
		r.gate.cut()
		b.awaitChange(t, seen)
		redistest.Eventually(t, 30*time.Second, "the document was not read again", func() bool {
			entry, err := b.Read(t.Context())
			return err == nil && string(entry.Data) == "three"
		})
	})
	t.Run("a silent subscription is asked for a sign of life", func(t *testing.T) { r.gate.await(t, "ping") })

	t.Run("it has no right that it does not use, and lacks none", func(t *testing.T) {
		if diff := cmp.Diff(rights(r.pods), r.gate.names()); diff != "" {
			t.Errorf("commands that are allowed (-) and that were sent (+) differ:\n%s", diff)
		}
		r.mustRefuseNothing(t)
	})
	t.Run("it logs in by the Secret, with AWS credentials", r.loggedIn)
}

// loggedIn: every connection began with the user of the Secret and a token for the
// cache and the region that the Secret names.
func (r *rig) loggedIn(t *testing.T) {
	logins := 0
	for _, command := range r.gate.heard() {
		i := slices.IndexFunc(command, func(word string) bool { return strings.EqualFold(word, "auth") })
		if i < 0 || strings.ToLower(command[0]) != "hello" && i != 0 {
			continue
		}
		logins++
		user, token := command[i+1], command[i+2]
		host, query, _ := strings.Cut(token, "/?")
		values, err := url.ParseQuery(query)
		if err != nil || user != r.pods.Spec.UserID || user != r.pods.Spec.UserName {
			t.Fatalf("%q logged in: %v", user, err)
		}
		got := map[string]string{"cache": host, "user": values.Get("User"), "action": values.Get("Action"),
			"region": strings.Split(values.Get("X-Amz-Credential"), "/")[2]}
		want := map[string]string{"cache": r.group(), "user": user, "action": "connect", "region": region}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("the token is not the wanted one (-):\n%s", diff)
		}
	}
	if logins < 2 {
		t.Errorf("there were %d logins", logins)
	}
}

// group is the ID of the replication group. For IAM the user's is the same.
func (r *rig) group() string { return string(r.binding["iam-cache"]) }

// rights are the commands that an access string allows.
func rights(user *ack.User) []string {
	var commands []string
	for _, rule := range strings.Fields(user.Spec.AccessString) {
		if command, ok := strings.CutPrefix(rule, "+"); ok {
			commands = append(commands, command)
		}
	}
	slices.Sort(commands)
	return commands
}

// mustRefuseNothing: the server's own record of what its ACL refused is empty.
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

// TestTheProbeWorksWithItsRights probes as the operator does.
func TestTheProbeWorksWithItsRights(t *testing.T) {
	r := newRig(t)
	connection := r.probe.Connection
	attempt := probe.Once(t.Context(), probe.Target{
		Addr: connection.Endpoint(), Username: connection.Username, Password: probe.Secret(connection.Password),
		TLS: connection.TLS, CA: []byte(connection.CA), Key: r.probe.Key, Timeout: 30 * time.Second,
	})
	if attempt.Err != nil || attempt.Role != "master" || attempt.Usage == (probe.Usage{}) {
		t.Fatalf("the probe found %+v", attempt)
	}
	if diff := cmp.Diff(rights(r.users[connection.Username]), r.gate.names()); diff != "" {
		t.Errorf("commands that are allowed (-) and that were sent (+) differ:\n%s", diff)
	}
	r.mustRefuseNothing(t)
}

// TestWhatIsNotNeededIsRefused asks for what somebody could do with the login of a
// pod or of the probe.
func TestWhatIsNotNeededIsRefused(t *testing.T) {
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
		r.pods.Spec.UserName: {
			"GETRANGE " + foreign + " 0 1", "DEL " + foreign, "WATCH " + foreign, "SET " + ours + "x x", "SET " + r.probe.Key + " x",
			"GET " + ours, "INFO", "DEL " + ours + " " + foreign, "PUBLISH " + config.RedisChannelPrefix + environment + "x x",
		},
		r.probe.Connection.Username: {
			"GET " + ours, "SET " + ours + " x", "GET " + r.probe.Key + "x", "DEL " + r.probe.Key, "GETRANGE " + ours + " 0 1",
			"PUBLISH " + config.RedisChannelPrefix + environment + " x", "SUBSCRIBE " + config.RedisChannelPrefix + environment, "MULTI",
		},
	}
	for user, more := range refused {
		client := r.as(t, user, r.probe.Connection.Password)
		for _, line := range slices.Concat(toAll, more) {
			words := strings.Fields(line)
			args := make([]any, len(words))
			for i, word := range words {
				args[i] = word
			}
			if err := client.Do(t.Context(), args...).Err(); !redis.HasErrorPrefix(err, "NOPERM") {
				t.Errorf("%s may %s: %v", user, line, err)
			}
		}
	}
	t.Run("nobody gets in without a name", func(t *testing.T) {
		if err := r.server.Client().Ping(t.Context()).Err(); err == nil {
			t.Error("somebody did")
		}
	})
}
