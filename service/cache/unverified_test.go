// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"errors"
	"testing"

	"github.com/flagcache/flagcache/service/redistest"
)

// TestValueOfAnotherKeyIsKept has documents that were sealed with another integrity key.
// They are neither used nor deleted, and only one that may be of the same store is
// replaced, by an entry that supersedes it.
func TestValueOfAnotherKeyIsKept(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	ours, theirs := Sealer{Secret: []byte("0123456789abcdef")}, Sealer{Secret: []byte("fedcba9876543210")}
	keyed := runCache(t, Options{URL: server.URL(), KeyFile: keyFile(t, ours.Secret)})
	keyed.awaitChange(t, 1)
	plain := connectedTo(t, server)
	of := func(store, data string) Entry {
		e := Entry{State: number(1), Data: []byte(data)}
		e.Store = store
		return e
	}
	tests := map[string]struct {
		reader                 *testCache
		stored                 []byte
		claimed                string
		onStore, onSupersedure error
	}{
		"of another store":          {keyed, theirs.Seal(testKey, of("b", "x")), "b", ErrForeign, ErrForeign},
		"of the same store":         {keyed, theirs.Seal(testKey, of("a", "x")), "a", ErrUnverified, nil},
		"of an unknown store":       {keyed, theirs.Seal(testKey, of("", "x")), "", ErrUnverified, nil},
		"without a key":             {keyed, Sealer{}.Seal(testKey, of("b", "x")), "b", ErrForeign, ErrForeign},
		"with a key, read without":  {plain, ours.Seal(testKey, of("b", "x")), "b", ErrForeign, ErrForeign},
		"of the same, read without": {plain, ours.Seal(testKey, of("a", "x")), "a", ErrUnverified, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			client.Set(t.Context(), testKey, test.stored, 0)
			got, err := test.reader.Read(t.Context())
			if !errors.Is(err, ErrUnverified) || got.Store != test.claimed || len(got.Data) > 0 {
				t.Errorf("the read returns %+v, %v", got, err)
			}
			entry := of("a", "mine")
			if err := test.reader.Store(t.Context(), entry); !errors.Is(err, test.onStore) {
				t.Errorf("storing returns %v, not %v", err, test.onStore)
			}
			if kept := client.Get(t.Context(), testKey).Val(); kept != string(test.stored) {
				t.Errorf("the value became %q", kept)
			}
			entry.Supersedes = true
			err = test.reader.Store(t.Context(), entry)
			kept := client.Get(t.Context(), testKey).Val() == string(test.stored)
			if !errors.Is(err, test.onSupersedure) || kept != (test.onSupersedure != nil) {
				t.Errorf("superseding returns %v, not %v; kept is %v", err, test.onSupersedure, kept)
			}
		})
	}
}
