// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/redistest"
)

// fault is a failure of a dependency of the flag services.
type fault struct {
	name string
	// inject makes it so, heal ends it; nil if it is over by itself.
	inject, heal func(r *rig)
	// harms is what the fault is done to; faults of different things can be at a
	// time.
	harms string
	// withoutSource means that the source can be neither changed nor read meanwhile.
	withoutSource bool
}

// What faults harm, in the order in which a storm begins.
const (
	everything         = "everything"
	theRedis           = "1: Redis"
	thePostgreSQL      = "2: PostgreSQL"
	theWayToRedis      = "3: the way to Redis"
	theWayToPostgreSQL = "3: the way to PostgreSQL"
)

// faults are injected into one rig, one after the other, and leave it as they
// found it.
var faults = []fault{
	{name: "Redis is killed", harms: theRedis, inject: killRedis, heal: restartRedis},
	{name: "Redis is paused", harms: theRedis, inject: func(r *rig) { r.redis.Pause() }, heal: func(r *rig) { r.redis.Resume() }},
	{name: "Redis refuses", harms: theWayToRedis, inject: func(r *rig) { r.redisProxy.Stop() }, heal: startRedisProxy},
	{name: "Redis is restarted", harms: theRedis, inject: func(r *rig) { killRedis(r); restartRedis(r) }},
	{name: "Redis is full", harms: theRedis, inject: fillRedis, heal: func(r *rig) { r.redis.do(r.t, "CONFIG", "SET", "maxmemory", "0") }},
	{name: "Redis is flushed", harms: theRedis, inject: flushRedis},
	{name: "Redis fails over", harms: theRedis, inject: demoteRedis, heal: followRedis},
	{name: "values are poisoned", harms: theRedis, inject: poisonRedis, heal: awaitCure},
	{name: "the password is wrong", harms: theRedis, inject: rotatePassword, heal: bindPassword},
	{name: "messages are lost", harms: theRedis, inject: muteRedis, heal: func(r *rig) { r.redis.do(r.t, "ACL", "SETUSER", "default", "allchannels") }},
	{name: "another certificate", harms: theRedis, inject: replaceCertificate, heal: trustCertificate},
	harmful("Redis answers in 2 s", theWayToRedis, "latency", `{"latency":2000}`),
	harmful("Redis is a black hole", theWayToRedis, "timeout", `{"timeout":0}`),
	harmful("Redis trickles", theWayToRedis, "bandwidth", `{"rate":1}`),
	harmful("Redis resets in answer", theWayToRedis, "limit_data", `{"bytes":100}`),
	{
		name: "PostgreSQL is killed", harms: thePostgreSQL, inject: func(r *rig) { r.postgres.Kill() }, heal: func(r *rig) { r.postgres.Restart(r.t) }, withoutSource: true,
	},
	withoutSource(harmful("PostgreSQL is a black hole", theWayToPostgreSQL, "timeout", `{"timeout":0}`)),
	{
		name: "both are killed", harms: everything, inject: func(r *rig) { killRedis(r); r.postgres.Kill() }, heal: func(r *rig) { restartRedis(r); r.postgres.Restart(r.t) },
		withoutSource: true,
	},
}

// TestFaults has clients send requests during each fault, and after it.
func TestFaults(t *testing.T) {
	r := startRig(t)
	calm := r.attack(faultLength(), func() {})
	mustNotFail(t, "calm", calm)
	t.Logf("calm: %s", latencyOf(calm))
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) { r.endure(t, f, latencyOf(calm)) })
		if r.faulty {
			t.Fatal("later faults would fail only because of this one")
		}
	}
}

// endure runs one fault, the recovery from it, and the comparison
// with the calm time.
func (r *rig) endure(t *testing.T, f fault, calm latency) {
	r.t, r.faulty = t, true
	loads, changes := r.watchSource(), 1
	var arrival, back time.Duration
	during := r.attack(faultLength(), func() {
		f.inject(r)
		if !f.withoutSource {
			arrival = r.change()
			changes++
		}
	})
	after := r.attack(faultLength()/2, func() {
		if f.heal != nil {
			f.heal(r)
		}
		start := time.Now()
		r.change()
		r.awaitRedis()
		back = time.Since(start)
	})
	count, most := loads.end()
	r.settled()
	r.compare()
	r.t, r.faulty = r.root, false

	t.Logf("%s during, %s after; a change arrives in %s during, and with Redis back in %s after; the source is read %d times",
		latencyOf(during), latencyOf(after), arrival.Round(time.Millisecond), back.Round(time.Millisecond), count)
	mustNotFail(t, "during", during)
	mustNotFail(t, "after", after)
	calm.mustBound(t, latencyOf(during))
	calm.mustBound(t, latencyOf(after))
	if most > 1 {
		t.Errorf("one instance read the source %d times at a time", most)
	}
	// While it fails, each instance may try once a second.
	if seconds := int((2*faultLength() + arrival + back).Seconds()); count > instances*(changes+seconds+2) {
		t.Errorf("the source was read %d times in %d seconds with %d changes", count, seconds, changes)
	}
}

// awaitRedis returns when every instance uses Redis again.
func (r *rig) awaitRedis() {
	r.t.Helper()
	for _, service := range r.services {
		redistest.Eventually(r.t, freshLimit, "an instance does not use Redis again",
			func() bool { return service.metric("flag_cache_breaker_open") == 0 })
	}
	redistest.Eventually(r.t, freshLimit, "Redis was not filled again", r.cached)
}

func (r *rig) cached() bool {
	n, err := r.redis.admin.Exists(context.Background(), environmentKey).Result()
	return err == nil && n == 1
}

// harmful is a fault of the traffic through a proxy.
func harmful(name, way, kind, attributes string) fault {
	through := func(r *rig) *proxy {
		if way == theWayToRedis {
			return r.redisProxy
		}
		return r.postgresProxy
	}
	return fault{
		name: name, harms: way,
		inject: func(r *rig) { toxic(r.t, through(r), kind, attributes) },
		heal:   func(r *rig) { through(r).Toxics.ResetToxics(context.Background()) },
	}
}

func withoutSource(f fault) fault { f.withoutSource = true; return f }

// killRedis returns when the port is free again.
func killRedis(r *rig) {
	r.t.Helper()
	r.redis.Kill()
	redistest.Eventually(r.t, freshLimit, "the killed Redis still listens", func() bool {
		conn, err := net.Dial("tcp", r.redis.Addr)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
}

func restartRedis(r *rig) { r.redis.Restart() }

func startRedisProxy(r *rig) {
	if err := r.redisProxy.Start(); err != nil {
		r.t.Fatalf("starting the proxy again: %v", err)
	}
}

// fillRedis makes Redis refuse writes for want of memory.
func fillRedis(r *rig) {
	r.redis.do(r.t, "CONFIG", "SET", "maxmemory", "1", "maxmemory-policy", "noeviction")
	r.redis.do(r.t, "DEL", environmentKey)
}

// flushRedis empties Redis again and again, as evictions at the worst times would.
func flushRedis(r *rig) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(faultLength() / 2); time.Now().Before(end); <-tick.C {
		r.redis.do(r.t, "FLUSHALL")
	}
}

// poisonRedis replaces the flags by values that only an attacker or a defect would
// write, and announces the change.
func poisonRedis(r *rig) {
	good, err := r.redis.admin.Get(context.Background(), environmentKey).Result()
	if err != nil {
		r.t.Fatalf("reading what is cached: %v", err)
	}
	flipped := []byte(good)
	flipped[len(flipped)/2] ^= 1
	for _, poison := range []string{
		"", "garbage", `{"flags":{"plain":{"state":"ENABLED","variants":{"on":false},"defaultVariant":"on"}}}`,
		good[:len(good)/2], good + "x", string(flipped),
	} {
		r.redis.do(r.t, "SET", environmentKey, poison)
		r.redis.do(r.t, "PUBLISH", "feature_flags_changed:default", "poison")
	}
	r.redis.do(r.t, "DEL", environmentKey)
	r.redis.do(r.t, "LPUSH", environmentKey, "not even a string")
	r.redis.do(r.t, "PUBLISH", "feature_flags_changed:default", "poison")
}

// awaitCure returns when the invalid values are replaced.
func awaitCure(r *rig) {
	redistest.Eventually(r.t, freshLimit, "the poison is still in Redis", func() bool {
		kind, err := r.redis.admin.Type(context.Background(), environmentKey).Result()
		return err == nil && kind == "string"
	})
}

// rotatePassword gives Redis a password that the services do not know yet.
func rotatePassword(r *rig) {
	r.redis.do(r.t, "ACL", "SETUSER", "default", "resetpass", ">second-password")
	r.redis.disconnect(r.t)
}

// bindPassword updates the services, and then restores the first password the
// way it should be done: both hold for a while.
func bindPassword(r *rig) {
	r.bind(map[string]string{"password": "second-password"})
	r.awaitRedis()
	r.redis.do(r.t, "ACL", "SETUSER", "default", ">"+r.redis.password)
	r.bind(map[string]string{"password": r.redis.password})
}

// muteRedis lets no message of the services through.
func muteRedis(r *rig) {
	r.redis.do(r.t, "ACL", "SETUSER", "default", "resetchannels")
	r.redis.disconnect(r.t)
}

// replaceCertificate gives Redis a certificate of an authority that the services
// do not trust.
func replaceCertificate(r *rig) {
	other := newAuthority(r.t)
	r.otherCA = other.CA
	r.redis.do(r.t, "CONFIG", "SET", "tls-cert-file", other.Cert, "tls-key-file", other.KeyFile, "tls-ca-cert-file", other.CAFile)
	r.redis.disconnect(r.t)
}

// trustCertificate has the services trust both authorities.
func trustCertificate(r *rig) { r.bind(map[string]string{"ca": r.redis.ca + r.otherCA}) }

// demoteRedis promotes a replica. The former primary keeps its address, where the
// services expect the primary, and refuses writes.
func demoteRedis(r *rig) {
	replica := startRedis(r.root, r.tls)
	replica.do(r.t, "REPLICAOF", "127.0.0.1", r.redis.Port())
	redistest.Eventually(r.t, freshLimit, "the replica did not catch up", func() bool {
		n, err := replica.admin.Exists(context.Background(), environmentKey).Result()
		return err == nil && n == 1
	})
	replica.do(r.t, "REPLICAOF", "NO", "ONE")
	r.redis.do(r.t, "REPLICAOF", "127.0.0.1", replica.Port())
	r.promoted = replica
}

// followRedis has the name of the primary lead to the new one.
func followRedis(r *rig) {
	r.redisProxy.Stop()
	r.redisProxy.Upstream = r.promoted.tlsAddr
	startRedisProxy(r)
	killRedis(r)
	r.redis = r.promoted
}
