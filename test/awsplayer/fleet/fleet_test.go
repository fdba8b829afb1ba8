// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/flagcache/flagcache/service/redistest"
)

const (
	oldToken = "the-old-token-0123"
	newToken = "the-new-token-4567"
	// fleetDirVariable turns the test binary into a process that runs a fleet in the
	// given directory and waits to be killed.
	fleetDirVariable = "AWSPLAYER_TEST_FLEET"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(fleetDirVariable); dir != "" {
		waitToBeKilled(dir)
	}
	os.Exit(m.Run())
}

func waitToBeKilled(dir string) {
	f, err := newTestFleet(context.Background(), dir, 1)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(f.members()[0].address())
	select {}
}

func newTestFleet(ctx context.Context, dir string, nodes int) (*Fleet, error) {
	authority, err := NewAuthority("127.0.0.1")
	if err != nil {
		return nil, err
	}
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("this test needs redis-server on the PATH, which hack/setup/redis.sh installs: %w", err)
	}
	if err := authority.Write(dir); err != nil {
		return nil, err
	}
	f, err := Open(Options{
		ID: "demo", Host: "127.0.0.1", Dir: dir, RedisServer: path, Authority: authority, Users: []User{defaultUser(oldToken)},
	})
	if err != nil {
		return nil, err
	}
	return f, f.Resize(ctx, nodes)
}

func startFleet(t *testing.T, nodes int) *Fleet {
	t.Helper()
	f, err := newTestFleet(t.Context(), t.TempDir(), nodes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Stop)
	return f
}

func defaultUser(tokens ...string) User {
	var passwords []string
	for _, token := range tokens {
		passwords = append(passwords, ">"+token)
	}
	return User{"default", append([]string{"on", "~*", "&*", "+@all"}, passwords...)}
}

func users(all ...User) func() []User { return func() []User { return all } }

// connect creates a client with a single connection, which it never replaces.
func (f *Fleet) connect(t *testing.T, r *relay, token string) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{
		Addr: net.JoinHostPort(f.options.Host, strconv.Itoa(r.port())), Password: token, TLSConfig: f.options.Authority.client(f.options.Host), PoolSize: 1, MaxRetries: -1,
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestEndpointSurvivesFailover(t *testing.T) {
	f := startFleet(t, 3)
	writer := f.connect(t, f.writers, oldToken)
	if err := writer.Set(t.Context(), "key", "before", 0).Err(); err != nil {
		t.Fatal(err)
	}
	replicas := f.members()[1:]
	redistest.Eventually(t, nodeLimit, "the replicas did not replicate the key", func() bool {
		return replicas[0].client.Get(t.Context(), "key").Val() == "before" && replicas[1].client.Get(t.Context(), "key").Val() == "before"
	})
	port := f.writers.port()
	if err := f.Failover(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if f.writers.port() != port || f.members()[0] != replicas[0] {
		t.Errorf("the endpoint forwards from port %d to %s, want from %d to %s", f.writers.port(), f.members()[0].id, port, replicas[0].id)
	}
	if err := f.connect(t, f.writers, oldToken).Set(t.Context(), "key", "after", 0).Err(); err != nil {
		t.Errorf("writing through the endpoint after the failover: %v", err)
	}
	redistest.Eventually(t, nodeLimit, "the connection to the demoted primary does not fail with READONLY", func() bool {
		err := writer.Set(t.Context(), "key", "lost", 0).Err()
		return err != nil && strings.HasPrefix(err.Error(), "READONLY")
	})
	redistest.Eventually(t, nodeLimit, "the demoted primary does not replicate from the new one", func() bool {
		return f.members()[2].client.Get(t.Context(), "key").Val() == "after"
	})
}

func TestFailoverCutsConnections(t *testing.T) {
	f := startFleet(t, 2)
	conn, err := net.Dial("tcp", net.JoinHostPort(f.options.Host, strconv.Itoa(f.writers.port())))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	redistest.Eventually(t, nodeLimit, "the connection did not reach the relay", func() bool {
		f.writers.mu.Lock()
		defer f.writers.mu.Unlock()
		return len(f.writers.open) > 0
	})
	if err := f.Failover(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(nodeLimit)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("the connection is open after the failover: %v", err)
	}
}

func TestFailoverRequiresReplica(t *testing.T) {
	f := startFleet(t, 1)
	if err := f.Failover(t.Context(), false); err == nil {
		t.Error("a fleet of one node failed over")
	}
}

func TestConnectionsSurviveTokenChange(t *testing.T) {
	f := startFleet(t, 2)
	before := f.connect(t, f.writers, oldToken)
	id := before.ClientID(t.Context()).Val()
	if err := f.SetUsers(t.Context(), users(defaultUser(newToken), User{"app", []string{"on", ">an-apps-password-1", "~app:*", "+get"}})); err != nil {
		t.Fatal(err)
	}
	if again, err := before.ClientID(t.Context()).Result(); err != nil || again != id {
		t.Errorf("connection %d is %d after its token was removed: %v", id, again, err)
	}
	for token, want := range map[string]bool{oldToken: false, newToken: true} {
		for name, r := range map[string]*relay{"writers": f.writers, "readers": f.readers} {
			err := f.connect(t, r, token).Ping(t.Context()).Err()
			if (err == nil) != want {
				t.Errorf("authenticating to the %s with %s: %v", name, token, err)
			}
		}
	}
	if err := f.SetUsers(t.Context(), users(defaultUser(newToken))); err != nil {
		t.Fatal(err)
	}
	if users := f.members()[0].client.Do(t.Context(), "ACL", "USERS").Val(); fmt.Sprint(users) != "[awsplayer default]" {
		t.Errorf("the users are %v after app was removed", users)
	}
}

func TestNewNodesHaveTheUsers(t *testing.T) {
	f := startFleet(t, 1)
	if err := f.SetUsers(t.Context(), users(defaultUser(newToken))); err != nil {
		t.Fatal(err)
	}
	if err := f.Resize(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	reader := f.connect(t, f.readers, newToken)
	if info := reader.Info(t.Context(), "replication").Val(); !strings.Contains(info, "role:slave") {
		t.Errorf("the reader endpoint forwards to %q", info)
	}
	if err := f.Resize(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if info := f.connect(t, f.readers, newToken).Info(t.Context(), "replication").Val(); !strings.Contains(info, "role:master") {
		t.Errorf("without replicas the reader endpoint forwards to %q", info)
	}
}

func TestStopCleansUp(t *testing.T) {
	f := startFleet(t, 2)
	endpoint := net.JoinHostPort(f.options.Host, strconv.Itoa(f.writers.port()))
	nodes := f.members()
	f.Stop()
	for _, address := range []string{endpoint, nodes[0].address(), nodes[1].address()} {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			t.Errorf("%s still accepts connections", address)
		}
	}
	if left, err := filepath.Glob(filepath.Join(f.options.Dir, "demo-*")); err != nil || len(left) > 0 {
		t.Errorf("%v was not removed: %v", left, err)
	}
}

func TestServersEndWithKilledPlayer(t *testing.T) {
	player := exec.Command(os.Args[0])
	player.Env = append(os.Environ(), fleetDirVariable+"="+t.TempDir())
	player.Stderr = os.Stderr
	stdout, err := player.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := player.Start(); err != nil {
		t.Fatal(err)
	}
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if killErr := player.Process.Kill(); err != nil || killErr != nil {
		t.Fatalf("killing a player: %v, %v", err, killErr)
	}
	_ = player.Wait() // it was killed
	redistest.Eventually(t, nodeLimit, "the server outlives the killed player", func() bool {
		conn, err := net.Dial("tcp", strings.TrimSpace(address))
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
}
