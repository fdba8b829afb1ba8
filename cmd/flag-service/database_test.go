// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/postgrestest"
	"github.com/flagcache/flagcache/service/redistest"
)

const adminToken = "admin-token-0123456789"

// databaseFleet are instances with the same database; the first serves the
// admin API.
type databaseFleet []*process

func launchDatabaseFleet(t *testing.T, uri string, environ ...string) databaseFleet {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "uri"), uri)
	tokens := t.TempDir()
	writeFile(t, filepath.Join(tokens, "ann"), adminToken)
	environ = append(environ, "FLAGS_POSTGRES_URI_FILE="+filepath.Join(dir, "uri"))
	instances := databaseFleet{launch(t, append(environ, "ADMIN_ADDRESS=127.0.0.1:0", "ADMIN_TOKENS_DIR="+tokens)...)}
	for range 2 {
		instances = append(instances, launch(t, environ...))
	}
	for _, p := range instances {
		p.awaitReady(true)
	}
	return instances
}

// change stores the flag with a value and returns its ETag. match is If-Match;
// if it is empty, the flag must be new.
func (f databaseFleet) change(t *testing.T, value int, match string) string {
	t.Helper()
	body := fmt.Sprintf(`{"state":"ENABLED","variants":{"v":%d},"defaultVariant":"v"}`, value)
	r, err := http.NewRequestWithContext(t.Context(), "PUT", f[0].admin+"/admin/v1/environments/default/flags/flag", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	r.Header.Set("Content-Type", "application/json")
	if match == "" {
		r.Header.Set("If-None-Match", "*")
	} else {
		r.Header.Set("If-Match", match)
	}
	response, err := f[0].client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		t.Fatalf("changing the flag is answered with %s", response.Status)
	}
	return response.Header.Get("ETag")
}

// awaitAnswers waits until every instance answers with a value, and returns the
// time it took.
func (f databaseFleet) awaitAnswers(t *testing.T, value int) time.Duration {
	t.Helper()
	began := time.Now()
	for i, p := range f {
		redistest.Eventually(t, 20*time.Second, fmt.Sprintf("instance %d did not answer with %d", i, value), func() bool {
			status, body := p.evaluate()
			return status == 200 && strings.Contains(body, fmt.Sprintf(`"value":%d`, value))
		})
	}
	return time.Since(began)
}

// A new database is not a failure, and its changes reach every instance.
func TestDatabaseChangeReachesAllInstances(t *testing.T) {
	tests := map[string]func(t *testing.T) []string{
		"without Redis": func(*testing.T) []string { return nil },
		"with Redis":    func(t *testing.T) []string { return []string{"REDIS_URL=" + redistest.Start(t).URL()} },
	}
	for name, environ := range tests {
		t.Run(name, func(t *testing.T) {
			f := launchDatabaseFleet(t, postgrestest.Database(t), environ(t)...)
			tag := ""
			var worst time.Duration
			for value := 1; value <= 4; value++ {
				tag = f.change(t, value, tag)
				worst = max(worst, f.awaitAnswers(t, value))
			}
			t.Logf("the slowest of four changes reached three instances in %s", worst)
			for _, p := range f {
				if code := p.terminate(); code != 0 {
					t.Errorf("it exits with %d", code)
				}
				if strings.Contains(p.logs.String(), postgrestest.Password) || strings.Contains(p.logs.String(), adminToken) {
					t.Errorf("the log contains a secret:\n%s", p.logs.String())
				}
			}
		})
	}
}

// Flags are served while the database is unavailable, and are updated again
// afterwards.
func TestEvaluationsSucceedWithoutTheDatabase(t *testing.T) {
	server := postgrestest.Start(t)
	f := launchDatabaseFleet(t, server.Database(t))
	tag := f.change(t, 1, "")
	f.awaitAnswers(t, 1)
	server.Kill()
	for range 100 {
		if status, body := f[1].evaluate(); status != 200 || !strings.Contains(body, `"value":1`) {
			t.Fatalf("without its database it answers %d %s", status, body)
		}
	}
	server.Restart(t)
	tag = f.change(t, 2, tag)
	f.awaitAnswers(t, 2)
	f.change(t, 3, tag)
	f.awaitAnswers(t, 3)
}

func TestAdminAPIRequiresADatabaseAndTokens(t *testing.T) {
	for name, environ := range map[string][]string{
		"no database": {"ADMIN_ADDRESS=:8082", "ADMIN_TOKENS_DIR=/tokens"},
		"no tokens":   {"ADMIN_ADDRESS=:8082", "FLAGS_POSTGRES_URI_FILE=/uri"},
		"no address":  {"ADMIN_ADDRESS=8082", "FLAGS_POSTGRES_URI_FILE=/uri", "ADMIN_TOKENS_DIR=/tokens"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := readSettings(environ); err == nil || !strings.Contains(err.Error(), "ADMIN_ADDRESS") {
				t.Errorf("the settings are accepted, error %v", err)
			}
		})
	}
}

// Anybody in the cluster can read /readyz.
func TestReadinessDoesNotShowTheDatabase(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "uri"), "postgres://secret-user:s3cret@127.0.0.1:1/secret-database?sslmode=disable")
	p := launch(t, "FLAGS_POSTGRES_URI_FILE="+filepath.Join(dir, "uri"))
	var status int
	var body string
	redistest.Eventually(t, time.Minute, "the service says that its source fails", func() bool {
		status, body = p.get("/readyz")
		return strings.Contains(body, sourceFails)
	})
	if status != 503 || strings.Contains(body, "secret") || strings.Contains(body, "s3cret") {
		t.Errorf("/readyz answers %d %s", status, body)
	}
}
