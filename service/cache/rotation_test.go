// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/redistest"
)

// setKeys writes the keys of an instance and waits until it uses them.
func (r *testCache) setKeys(t *testing.T, file, current, next, previous string) {
	t.Helper()
	want := Sealer{Secret: []byte(current)}
	// In this order, because an instance may read the files in between. The kubelet
	// replaces all at once.
	for _, key := range []struct{ file, value string }{{file + "-previous", previous}, {file, current}, {file + "-next", next}} {
		if key.value == "" {
			if err := os.Remove(key.file); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(key.file, []byte(key.value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, accepted := range []string{next, previous} {
		if accepted != "" {
			want.Accepted = append(want.Accepted, []byte(accepted))
		}
	}
	redistest.Eventually(t, 15*time.Second, "the keys are not used", func() bool {
		_, s, _, err := r.connected()
		return err == nil && s.Equal(want)
	})
}

// TestKeyIsReplacedWithoutAMiss has two instances whose keys are replaced one after the
// other, in both orders: each reads what the other one stored, at all times, and stays
// connected.
func TestKeyIsReplacedWithoutAMiss(t *testing.T) {
	server := redistest.Start(t)
	var instances [2]*testCache
	var files [2]string
	for i := range instances {
		files[i] = filepath.Join(t.TempDir(), "hmac-key")
		instances[i] = runCache(t, Options{URL: server.URL(), KeyFile: files[i]})
		instances[i].setKeys(t, files[i], "the first key of all", "", "")
	}
	client, _, _, _ := instances[0].connected()
	version := int64(0)
	mustShare := func() {
		t.Helper()
		for i := range instances {
			version++
			document := fmt.Sprint(version)
			instances[i].mustStore(t, Entry{State: number(version), Data: []byte(document)})
			instances[1-i].mustRead(t, document)
		}
	}
	mustShare()
	for step, keys := range [][3]string{
		{"the first key of all", "the second key of all", ""},
		{"the second key of all", "", "the first key of all"},
		{"the second key of all", "the third key of all", ""},
		{"the third key of all", "", "the second key of all"},
	} {
		for _, i := range []int{step % 2, 1 - step%2} {
			instances[i].setKeys(t, files[i], keys[0], keys[1], keys[2])
			mustShare()
		}
	}
	if now, _, _, _ := instances[0].connected(); now != client {
		t.Error("the instance connected again because of its keys")
	}

	version++
	server.Client().Set(t.Context(), testKey, Sealer{Secret: []byte("the first key of all")}.Seal(testKey, Entry{State: number(version), Data: []byte("old")}), 0)
	if _, err := instances[0].Read(t.Context()); !errors.Is(err, ErrUnverified) {
		t.Errorf("a document of a key that ended is read: %v", err)
	}
}

// TestAcceptedKeyIsValidated: a key that anybody could guess must not be accepted beside a
// good one.
func TestAcceptedKeyIsValidated(t *testing.T) {
	file := keyFile(t, []byte("0123456789abcdef"))
	if err := os.WriteFile(file+"-next", []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &Cache{options: Options{KeyFile: file}}
	if _, err := c.readKeys(); err == nil {
		t.Error("a short key is accepted")
	}
}
