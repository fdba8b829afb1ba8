// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"bytes"
	"testing"

	"github.com/flagcache/flagcache/service/source"
)

// sealedEntry returns a document whose envelope under a key has the given size.
func sealedEntry(s Sealer, key string, version source.Version, size int) (Entry, []byte) {
	e := Entry{State: source.State{Version: version}}
	for len(s.Seal(key, e)) < size {
		e.Data = append(e.Data, `{"flags":{}}`[len(e.Data)%12])
	}
	return e, s.Seal(key, e)
}

// TestEnvelopeDetectsCorruption flips every bit of an envelope of 512 bytes and
// cuts it at every length.
func TestEnvelopeDetectsCorruption(t *testing.T) {
	for name, s := range map[string]Sealer{"checksum": {}, "authenticated": {Secret: []byte("0123456789abcdef")}} {
		t.Run(name, func(t *testing.T) {
			entry, value := sealedEntry(s, "feature_flags:test", source.Version{Epoch: 3, Number: 1_700_000_000_000_000_000}, 512)
			if len(value) != 512 {
				t.Fatalf("the envelope has %d bytes", len(value))
			}
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

// TestEnvelopeIsBoundToItsKey stores each key's value under every other
// key.
func TestEnvelopeIsBoundToItsKey(t *testing.T) {
	keys := []string{"feature_flags:a", "feature_flags:b", "feature_flags:ab", "feature_flags:A", "feature_flags:a ", "feature_flags:", "feature_flags_lock:a", "", " "}
	for name, s := range map[string]Sealer{"checksum": {}, "authenticated": {Secret: []byte("0123456789abcdef")}} {
		for _, from := range keys {
			_, value := sealedEntry(s, from, source.Version{Epoch: 1, Number: 7}, 512)
			for _, to := range keys {
				if _, err := s.Open(to, value); (err == nil) != (from == to) {
					t.Errorf("%s: the value of %q is %v under %q", name, from, err, to)
				}
			}
		}
	}
}

func TestEnvelopeRejectsForeignValues(t *testing.T) {
	sealer := Sealer{Secret: []byte("0123456789abcdef")}
	entry := Entry{State: source.State{Version: source.Version{Epoch: 3, Number: 5}}, Data: []byte("data")}
	foreign := map[string][]byte{
		"another key's value":        sealer.Seal("feature_flags:b", entry),
		"another secret's value":     Sealer{Secret: []byte("fedcba9876543210")}.Seal("feature_flags:a", entry),
		"a checksum instead of HMAC": Sealer{}.Seal("feature_flags:a", entry),
		"the bare document":          entry.Data,
		"an empty value":             nil,
		"a header without a version": []byte("flagcache/3 hmac-sha256 00 3 x 4 = = feature_flags:a\ndata"),
		"a version in another notation": bytes.Replace(sealer.Seal("feature_flags:a", entry),
			[]byte(" 3 5 4 "), []byte(" 3 +5 4 "), 1),
	}
	for name, value := range foreign {
		if _, err := sealer.Open("feature_flags:a", value); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// TestPreviousFormatIsRead has the value of an earlier release, which identifies
// neither the store nor the change.
func TestPreviousFormatIsRead(t *testing.T) {
	s := Sealer{}
	entry := Entry{State: source.State{Store: "postgres:1:2", Version: source.Version{Epoch: 3, Number: 5}, Tag: "a b\n="}, Data: []byte("data")}
	old := s.sealPrevious("key", entry)
	if !bytes.HasPrefix(old, []byte("flagcache/2 sha256 ")) || !bytes.HasSuffix(old, []byte(" 3 5 4 key\ndata")) {
		t.Errorf("the previous format is %q", old)
	}
	if got, err := s.Open("key", old); err != nil || got.Version != entry.Version || got.Store != "" || got.Tag != "" || string(got.Data) != "data" {
		t.Errorf("the previous format is read as %+v, %v", got, err)
	}
	if got, err := s.Open("key", s.Seal("key", entry)); err != nil || got.State != entry.State {
		t.Errorf("the entry is read as %+v, %v", got, err)
	}
	if _, err := s.Open("key", bytes.Replace(old, []byte(" 3 5 4 "), []byte(" 3 6 4 "), 1)); err == nil {
		t.Error("a wrong checksum is accepted")
	}
}

// TestStoredDocumentsAreKept has which stored documents another one does not
// replace.
func TestStoredDocumentsAreKept(t *testing.T) {
	state := func(store string, n int64, tag string) source.State {
		return source.State{Store: store, Version: source.Version{Number: n}, Tag: tag}
	}
	tests := map[string]struct {
		stored, entry source.State
		supersedes    bool
		want          bool
	}{
		"an older one":                          {state("a", 1, "x"), state("a", 2, "y"), false, false},
		"the same":                              {state("a", 2, "y"), state("a", 2, "y"), false, true},
		"another of the same version":           {state("a", 2, "x"), state("a", 2, "y"), false, true},
		"a newer one":                           {state("a", 3, "x"), state("a", 2, "y"), false, true},
		"a newer one without a store":           {state("", 3, ""), state("a", 2, "y"), false, true},
		"one without a store, superseded":       {state("", 3, ""), state("a", 2, "y"), true, false},
		"the same, superseded":                  {state("a", 2, "y"), state("a", 2, "y"), true, true},
		"of a store, superseded by one without": {state("a", 3, "x"), state("", 2, ""), true, true},
		"of the same version, superseded":       {state("a", 2, "x"), state("a", 2, "y"), true, false},
		"a newer one, superseded":               {state("a", 3, "x"), state("a", 2, "y"), true, false},
	}
	for name, test := range tests {
		if got := keeps(Entry{State: test.stored}, Entry{State: test.entry, Supersedes: test.supersedes}); got != test.want {
			t.Errorf("%s: kept is %v", name, got)
		}
	}
}

func FuzzOpen(f *testing.F) {
	s := Sealer{Secret: []byte("0123456789abcdef")}
	f.Add(s.Seal("key", Entry{State: source.State{Version: source.Version{Epoch: 3, Number: 1}}, Data: []byte("data")}))
	f.Add([]byte("flagcache/3 a b 9 9 9 = = key\n"))
	f.Fuzz(func(t *testing.T, value []byte) {
		entry, err := s.Open("key", value)
		if err == nil && !bytes.Equal(s.Seal("key", entry), value) && !bytes.Equal(s.sealPrevious("key", entry), value) {
			t.Errorf("%q is accepted although it is not the envelope of its content", value)
		}
	})
}
