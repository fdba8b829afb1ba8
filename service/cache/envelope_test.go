// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"testing"
)

// TestEnvelopeRejectsEveryDamage flips every bit of an envelope and cuts it at
// every length.
func TestEnvelopeRejectsEveryDamage(t *testing.T) {
	entry := Entry{Version: 1_700_000_000_000_000_000, Data: bytes.Repeat([]byte(`{"flags":{}}`), 30)}
	for name, s := range map[string]sealer{"checksum": {}, "authenticated": {secret: []byte("0123456789abcdef")}} {
		t.Run(name, func(t *testing.T) {
			value := s.seal("feature_flags:test", entry)
			if got, err := s.open("feature_flags:test", value); err != nil || got.Version != entry.Version || !bytes.Equal(got.Data, entry.Data) {
				t.Fatalf("the envelope does not open: %v", err)
			}
			for i := range value {
				for bit := range 8 {
					damaged := bytes.Clone(value)
					damaged[i] ^= 1 << bit
					if _, err := s.open("feature_flags:test", damaged); err == nil {
						t.Fatalf("bit %d of byte %d can be flipped unnoticed", bit, i)
					}
				}
				if _, err := s.open("feature_flags:test", value[:i]); err == nil {
					t.Fatalf("the value can be cut to %d bytes unnoticed", i)
				}
			}
			if _, err := s.open("feature_flags:test", append(bytes.Clone(value), '\n')); err == nil {
				t.Error("a byte can be added unnoticed")
			}
		})
	}
}

func TestEnvelopeIsForItsKeyAndSecretOnly(t *testing.T) {
	ours := sealer{secret: []byte("0123456789abcdef")}
	entry := Entry{Version: 5, Data: []byte("data")}
	foreign := map[string][]byte{
		"another key's value":        ours.seal("feature_flags:b", entry),
		"another secret's value":     sealer{secret: []byte("fedcba9876543210")}.seal("feature_flags:a", entry),
		"a checksum instead of HMAC": sealer{}.seal("feature_flags:a", entry),
		"the bare document":          entry.Data,
		"nothing":                    nil,
		"a header without a version": []byte("flagcache/1 hmac-sha256 00 x 4 feature_flags:a\ndata"),
		"a version written otherwise": bytes.Replace(ours.seal("feature_flags:a", entry),
			[]byte(" 5 4 "), []byte(" +5 4 "), 1),
	}
	for name, value := range foreign {
		if _, err := ours.open("feature_flags:a", value); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func FuzzOpen(f *testing.F) {
	s := sealer{secret: []byte("0123456789abcdef")}
	f.Add(s.seal("key", Entry{Version: 1, Data: []byte("data")}))
	f.Add([]byte("flagcache/1 a b 9 9 key\n"))
	f.Fuzz(func(t *testing.T, value []byte) {
		entry, err := s.open("key", value)
		if err == nil && !bytes.Equal(s.seal("key", entry), value) {
			t.Errorf("%q is accepted although it is not the envelope of what it holds", value)
		}
	})
}
