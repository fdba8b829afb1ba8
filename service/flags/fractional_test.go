// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"testing"
)

// TestHashIsFrozen compares the hash of a million callers with values from
// another implementation of murmur3. A change would move users of every
// fractional rollout to other variants.
func TestHashIsFrozen(t *testing.T) {
	for key, want := range map[string]uint32{
		"": 233592972, "a": 1268028470, "ab": 3514007024, "abc": 2846061565, "abcd": 1392239521,
		"user-1": 3034658845, "ä": 3220714287, "日本語": 2097953931, "😀": 3538508242,
	} {
		if got := bucketHash("flag", key); got != want {
			t.Errorf("the hash of %q is %d, not %d", key, got, want)
		}
	}
	const want = "4efc0df79dc0becb097ecdfb0758fe6f041c80605f7c0ae2152c3b1e592ccc23"
	sum := sha256.New()
	shares := []share{{"a", 25}, {"b", 50}, {"c", 25}}
	count := map[any]int{}
	for i := range 1_000_000 {
		hash := bucketHash("new-checkout", fmt.Sprintf("user-%d", i))
		sum.Write(binary.BigEndian.AppendUint32(nil, hash))
		count[pick(shares, 100, hash)]++
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		t.Errorf("the digest of all hashes is %s, not %s", got, want)
	}
	if count["a"] != 250_169 || count["b"] != 499_861 || count["c"] != 249_970 {
		t.Errorf("the variants' shares are %v", count)
	}
}

func TestFractionalRequiresATargetingKey(t *testing.T) {
	flag := parseFlag(t, targeted(`{"fractional":[["on",1]]}`))
	for _, text := range []string{`{}`, `{"targetingKey":""}`, `{"targetingKey":5}`, `{"targetingKey":null}`} {
		outcome, _ := evaluate(t, flag, text, 0)
		if want := (answer{ReasonDefault, "off", `"OFF"`, ""}); answerOf(outcome) != want {
			t.Errorf("with %s the outcome is %+v, not %+v", text, answerOf(outcome), want)
		}
	}
}

// TestFractionalBoundaries uses keys whose hashes are at the edges of the
// range, so that any other arithmetic would put one of them into the other
// share.
func TestFractionalBoundaries(t *testing.T) {
	keys := []struct {
		seed string
		hash uint32
		want string
	}{
		{"ejOoVL", 0, "lower"},
		{"bY9fO-", 1, "lower"},
		{"SI7p-", 1<<31 - 1, "lower"},
		{"6LvT0", 1 << 31, "upper"},
		{"ceQdGm", 1<<32 - 1, "upper"},
	}
	for _, key := range keys {
		if got := bucketHash("", key.seed); got != key.hash {
			t.Errorf("the hash of %q is %d, not %d", key.seed, got, key.hash)
		}
		got, err := evaluateRule(t, fmt.Sprintf(`{"fractional":[%q,["lower",50],["upper",50]]}`, key.seed), `{}`)
		if err != nil || got != key.want {
			t.Errorf("%q falls into %v (%v), not %s", key.seed, got, err, key.want)
		}
	}
}

// TestCompiledFractionalAgreesWithGeneral compares the specialized form of a rollout
// with the general one, and both with the definition of the seed.
func TestCompiledFractionalAgreesWithGeneral(t *testing.T) {
	shares := `["on",30],["off",60],["1",10]`
	compiled := parseFlag(t, targeted(`{"fractional":[`+shares+`]}`))
	general := parseFlag(t, targeted(`{"fractional":[{"var":"none"},`+shares+`]}`))
	seeded := parseFlag(t, targeted(`{"fractional":[{"cat":[{"var":"$flagd.flagKey"},{"var":"targetingKey"}]},`+shares+`]}`))
	count := map[string]int{}
	for i := range 10_000 {
		c := fmt.Sprintf(`{"targetingKey":"user-%d"}`, i)
		a, _ := evaluate(t, compiled, c, 0)
		b, _ := evaluate(t, general, c, 0)
		d, _ := evaluate(t, seeded, c, 0)
		if a.Variant != b.Variant || a.Variant != d.Variant {
			t.Fatalf("user-%d falls into %s, %s and %s", i, a.Variant, b.Variant, d.Variant)
		}
		count[a.Variant]++
	}
	for variant, percent := range map[string]int{"on": 30, "off": 60, "1": 10} {
		if got := count[variant]; got < percent*95 || got > percent*105 {
			t.Errorf("%s has %d of 10,000, far from %d %%", variant, got, percent)
		}
	}
}
