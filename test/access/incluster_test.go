// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/broadcast"
	"github.com/flagcache/flagcache/controllers/plan"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/probe"
	"github.com/flagcache/flagcache/controllers/secret"
	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/redistest"
)

// inCluster is a server with the configuration that the operator plans for an in-cluster
// Redis.
type inCluster struct {
	server *redistest.Server
	// password is that of the flag service, which logs in as the default user.
	password string
	probe    plan.ProbeTarget
}

func startInCluster(t *testing.T, name, password string) *inCluster {
	t.Helper()
	fc := aFlagCache()
	fc.Name = name
	fc.Spec.Cache.Type, fc.Spec.Cache.ElastiCache = v1alpha1.CacheInCluster, nil
	s := observed.Snapshot{
		Now: time.Now(), FlagCache: fc, Flags: observed.Flags{State: observed.FlagsLoaded}, ACK: map[string]bool{},
		Operator: observed.Operator{Namespace: "flagcache-system", FlagServiceImage: "flag-service:v1"},
		Fresh:    observed.Fresh{IntegrityKey: secret.New(strings.Repeat("k", 32)), Password: secret.New(password), ProbePassword: secret.New("probe" + password)},
	}
	var result inCluster
	var file string
	for range 3 {
		p := plan.Make(s)
		for _, o := range p.Apply {
			s.Children = replace(s.Children, o)
			if stored, ok := o.(*corev1.Secret); ok && o.GetName() == observed.RedisName(fc) {
				file = string(stored.Data["redis.conf"])
			}
			if stored, ok := o.(*corev1.Secret); ok && o.GetName() == observed.ConnectionName(fc) {
				result.password = string(stored.Data["password"])
			}
			if set, ok := o.(*appsv1.StatefulSet); ok {
				set.Status = appsv1.StatefulSetStatus{ReadyReplicas: 1}
			}
		}
		if p.Probe != nil {
			result.probe = *p.Probe
		}
	}
	if file == "" || result.password != password || result.probe.Connection.Username == "" {
		t.Fatalf("the plan has the configuration %q, the password %q and the probe %+v", file, result.password, result.probe)
	}
	// DEBUG is to be refused by the ACL, not by the server's own setting.
	args := []string{"--enable-debug-command", "yes", "--user", "admin", "on", "nopass", "~*", "&*", "+@all"}
	for line := range strings.Lines(file) {
		fields := strings.Fields(strings.ReplaceAll(line, `""`, ""))
		if slices.Contains([]string{"port", "dir", "save"}, fields[0]) {
			continue // of the pod
		}
		args = append(append(args, "--"+fields[0]), fields[1:]...)
	}
	result.server = redistest.Start(t, args...)
	return &result
}

// as is a client with a login.
func (c *inCluster) as(t *testing.T, user, password string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: c.server.Addr, Username: user, Password: password, Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestInClusterRedisAllowsTheServiceAndTheProbe(t *testing.T) {
	c := startInCluster(t, "flags", "Zm9vYmFy")
	service := cache.New(cache.Options{
		Environment: environment, URL: "redis://:" + c.password + "@" + c.server.Addr, TTL: 5 * time.Minute, MaxSize: 1 << 20, Connections: 4,
		DialTimeout: 2 * time.Second, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}, prometheus.NewRegistry())
	p := &pod{Cache: service}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); p.Run(ctx, func() { p.changes.Add(1) }) }()
	t.Cleanup(func() { cancel(); <-ended })
	p.awaitChange(t, 1)
	p.mustMiss(t)
	if err := p.Store(t.Context(), entry(1, "one")); err != nil {
		t.Fatal(err)
	}
	p.mustRead(t, "one")
	seen := p.changes.Load()
	if err := p.Invalidate(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.awaitChange(t, seen)
	p.mustMiss(t)
	fill := func(context.Context) (cache.Entry, error) { return entry(2, "two"), nil }
	if err := p.Refill(t.Context(), atLeast(2), fill); err != nil {
		t.Fatal(err)
	}
	p.mustRead(t, "two")

	login := c.probe.Connection
	target := probe.Target{Addr: c.server.Addr, Username: login.Username, Password: login.Password, Key: c.probe.Key, Timeout: 30 * time.Second}
	c.as(t, "admin", "x").FlushAll(t.Context()) // the pod above has no key
	if got := broadcast.Once(t.Context(), document(target, 7), loopback); got != broadcast.Stored {
		t.Errorf("publishing flags returned %s", got)
	}
	attempt := probe.Once(t.Context(), target, loopback)
	if attempt.Err != nil || attempt.Role != "master" || attempt.Usage == (probe.Usage{}) {
		t.Errorf("the probe returned %+v", attempt)
	}
	refused, err := c.as(t, "admin", "x").ACLLog(t.Context(), 10).Result()
	if err != nil || len(refused) > 0 {
		t.Errorf("the server refused %+v (%v)", refused, err)
	}
}

func TestInClusterRedisRefusesAllElse(t *testing.T) {
	c, another := startInCluster(t, "flags", "Zm9vYmFy"), startInCluster(t, "another", "YmFyZm9v")
	const ours = config.RedisKeyPrefix + environment
	client, prober := c.as(t, "", c.password), c.as(t, c.probe.Connection.Username, c.probe.Connection.Password.Reveal())
	toBoth := []string{
		"EVAL return 0", "EVALSHA x 0", "SCRIPT LOAD x", "FUNCTION LIST", "KEYS *", "SCAN 0", "CONFIG GET requirepass", "CONFIG SET maxmemory 1", "FLUSHALL", "FLUSHDB",
		"DEBUG SLEEP 0", "ACL LIST", "ACL SETUSER default on", "ACL WHOAMI", "CLIENT LIST", "CLIENT KILL TYPE normal", "MONITOR", "REPLICAOF NO ONE", "SHUTDOWN", "SAVE", "BGSAVE",
		"SELECT 1", "COPY " + ours + " x", "RENAME " + ours + " x", "DUMP " + ours, "EXPIRE " + ours + " 1", "SWAPDB 0 1", "MIGRATE h 1 k 0 1", "BLPOP " + ours + " 1",
		"SET foreign x", "GET foreign", "GETRANGE foreign 0 1", "DEL foreign", "DEL " + ours + " foreign", "WATCH foreign",
		"SET " + another.probe.Key + " x", "GET " + another.probe.Key, "PUBLISH foreign x", "SUBSCRIBE foreign", "PSUBSCRIBE *", "PUBSUB CHANNELS",
		"MODULE LIST", "SLOWLOG GET", "LATENCY LATEST", "COMMAND COUNT", "CLUSTER NODES",
	}
	for user, refused := range map[*redis.Client][]string{
		client: {"INFO", "GET " + ours, "GET " + c.probe.Key, "SET " + c.probe.Key + " x", "DEL " + c.probe.Key},
		prober: {
			"DEL " + ours, "DEL " + c.probe.Key, "SET " + config.RedisLockPrefix + environment + " x", "SUBSCRIBE " + config.RedisChannelPrefix + environment,
		},
	} {
		for _, line := range slices.Concat(toBoth, refused) {
			var args []any
			for part := range strings.FieldsSeq(line) {
				args = append(args, part)
			}
			if err := user.Do(t.Context(), args...).Err(); !redis.HasErrorPrefix(err, "NOPERM") {
				t.Errorf("%s as user %q: %v, want NOPERM", line, user.Options().Username, err)
			}
		}
	}
	for name, login := range map[string][2]string{
		"without a password":                            {"", ""},
		"with the password of another FlagCache":        {"", another.password},
		"of the probe without a password":               {c.probe.Connection.Username, ""},
		"of the probe with the flag service's password": {c.probe.Connection.Username, c.password},
		"without a name and with the probe's password":  {"", c.probe.Connection.Password.Reveal()},
	} {
		if err := c.as(t, login[0], login[1]).Ping(t.Context()).Err(); err == nil {
			t.Errorf("a login %s is accepted", name)
		}
	}
	// The same key in another FlagCache is another one.
	if err := client.Set(t.Context(), ours, "one", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got := another.as(t, "", another.password).GetRange(t.Context(), ours, 0, -1).Val(); got != "" {
		t.Errorf("two FlagCaches share the key %s: %q", ours, got)
	}
}
