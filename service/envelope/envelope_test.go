// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package envelope

import (
	"bytes"
	"crypto/hmac"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

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

// openOfEarlierRelease opens an envelope as releases did whose envelopes had no time.
func openOfEarlierRelease(s Sealer, key string, value []byte) (source.State, []byte, error) {
	header, data, _ := bytes.Cut(value, []byte("\n"))
	fields := strings.Split(string(header), " ")
	if len(fields) < 8 {
		return source.State{}, nil, errNotEnvelope
	}
	var state source.State
	state.Version.Epoch, _ = strconv.ParseInt(fields[3], 10, 64)
	state.Version.Number, _ = strconv.ParseInt(fields[4], 10, 64)
	state.Store, _ = url.QueryUnescape(strings.TrimPrefix(fields[6], "="))
	state.Tag, _ = url.QueryUnescape(strings.TrimPrefix(fields[7], "="))
	if !hmac.Equal(value, s.seal("flagcache/3", fmt.Sprintf("%d %d %d %s %s %s\n", state.Version.Epoch, state.Version.Number, len(data), token(state.Store), token(state.Tag), key), data)) {
		return source.State{}, nil, errNotEnvelope
	}
	return state, data, nil
}

// TestTimeOfAnEnvelope: a document is stored with its time where the previous release ignores it, and
// each release reads the documents of the other one.
func TestTimeOfAnEnvelope(t *testing.T) {
	const key = "feature_flags:a"
	s := Sealer{Secret: []byte("0123456789abcdef")}
	state := source.State{Store: "flagcache:shop/demo", Version: source.Version{Epoch: source.PublishedEpoch, Number: 1780315200}}
	at := time.Unix(1780315300, 0)
	timed := s.Seal(key, Entry{State: state, Data: []byte("flags"), SealedAt: at})

	if got, err := s.Open(key, timed); err != nil || got.State != state || !got.SealedAt.Equal(at) || string(got.Data) != "flags" {
		t.Errorf("opened %+v, error %v", got, err)
	}
	former, data, err := openOfEarlierRelease(s, key, timed)
	if err != nil || former.Store != state.Store || former.Version != state.Version || string(data) != "flags" {
		t.Errorf("an earlier release opens %+v, error %v", former, err)
	}
	if got, err := s.Open(key, s.Seal(key, Entry{State: state, Data: []byte("flags")})); err != nil || got.State != state || !got.SealedAt.IsZero() {
		t.Errorf("without a time, opened %+v, error %v", got, err)
	}
	for _, tag := range []string{"7f3a", "sealed-at:", "sealed-at:x", ""} {
		e := Entry{State: source.State{Store: "db", Tag: tag}}
		if got, err := s.Open(key, s.Seal(key, e)); err != nil || got.State != e.State || !got.SealedAt.IsZero() {
			t.Errorf("tag %q: opened %+v, error %v", tag, got, err)
		}
	}
	for _, other := range []string{"1780315301", "+1780315300", "01780315300"} {
		forged := bytes.Replace(timed, []byte("1780315300 "), []byte(other+" "), 1)
		if _, err := s.Open(key, forged); err == nil {
			t.Errorf("the time can be changed to %s unnoticed", other)
		}
	}
}

// TestStaleEntries: an entry is stale when its TTL and the differences of clocks are over.
func TestStaleEntries(t *testing.T) {
	slot := Slot{TTL: time.Hour}
	now := time.Unix(1780315200, 0)
	for name, test := range map[string]struct {
		sealedAt time.Time
		stale    bool
	}{
		"without a time": {},
		"just stored":    {sealedAt: now},
		"of the future":  {sealedAt: now.Add(24 * time.Hour)},
		"a day old":      {sealedAt: now.Add(-25 * time.Hour)},
		"two days old":   {sealedAt: now.Add(-48 * time.Hour), stale: true},
		"of 1970":        {sealedAt: time.Unix(0, 0), stale: true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := slot.IsStale(Entry{SealedAt: test.sealedAt}, now); got != test.stale {
				t.Errorf("stale: %t", got)
			}
		})
	}
}
