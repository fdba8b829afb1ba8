// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"testing"

	"github.com/flagcache/flagcache/service/source"
)

// TestEnvelopeRejectsEveryDamage flips every bit of an envelope and cuts it at
// every length.
func TestEnvelopeRejectsEveryDamage(t *testing.T) {
	entry := Entry{Version: source.Version{Epoch: 3, Number: 1_700_000_000_000_000_000}, Data: bytes.Repeat([]byte(`{"flags":{}}`), 30)}
	for name, s := range map[string]Sealer{"checksum": {}, "authenticated": {Secret: []byte("0123456789abcdef")}} {
		t.Run(name, func(t *testing.T) {
			value := s.Seal("feature_flags:test", entry)
			if got, err := s.Open("feature_flags:test", value); err != nil || got.Version != entry.Version || !bytes.Equal(got.Data, entry.Data) {
				t.Fatalf("the envelope does not open: %v", err)
			}
			for i := range value {
				for bit := range 8 {
					damaged := bytes.Clone(value)
					damaged[i] ^= 1 << bit
					if _, err := s.Open("feature_flags:test", damaged); err == nil {
						t.Fatalf("bit %d of byte %d can be flipped unnoticed", bit, i)
					}
				}
				if _, err := s.Open("feature_flags:test", value[:i]); err == nil {
					t.Fatalf("the value can be cut to %d bytes unnoticed", i)
				}
			}
			if _, err := s.Open("feature_flags:test", append(bytes.Clone(value), '\n')); err == nil {
				t.Error("a byte can be added unnoticed")
			}
		})
	}
}

func TestEnvelopeIsForItsKeyAndSecretOnly(t *testing.T) {
	ours := Sealer{Secret: []byte("0123456789abcdef")}
	entry := Entry{Version: source.Version{Epoch: 3, Number: 5}, Data: []byte("data")}
	foreign := map[string][]byte{
		"another key's value":        ours.Seal("feature_flags:b", entry),
		"another secret's value":     Sealer{Secret: []byte("fedcba9876543210")}.Seal("feature_flags:a", entry),
		"a checksum instead of HMAC": Sealer{}.Seal("feature_flags:a", entry),
		"the bare document":          entry.Data,
		"nothing":                    nil,
		"a header without a version": []byte("flagcache/2 hmac-sha256 00 3 x 4 feature_flags:a\ndata"),
		"a version written otherwise": bytes.Replace(ours.Seal("feature_flags:a", entry),
			[]byte(" 3 5 4 "), []byte(" 3 +5 4 "), 1),
	}
	for name, value := range foreign {
		if _, err := ours.Open("feature_flags:a", value); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func FuzzOpen(f *testing.F) {
	s := Sealer{Secret: []byte("0123456789abcdef")}
	f.Add(s.Seal("key", Entry{Version: source.Version{Epoch: 3, Number: 1}, Data: []byte("data")}))
	f.Add([]byte("flagcache/2 a b 9 9 9 key\n"))
	f.Fuzz(func(t *testing.T, value []byte) {
		entry, err := s.Open("key", value)
		if err == nil && !bytes.Equal(s.Seal("key", entry), value) {
			t.Errorf("%q is accepted although it is not the envelope of what it holds", value)
		}
	})
}
