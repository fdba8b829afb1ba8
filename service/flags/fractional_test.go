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

// TestHashIsFrozen holds the hash of a million callers against values that were
// made by another implementation of murmur3. A change here would put users of
// every fractional rollout into other variants.
func TestHashIsFrozen(t *testing.T) {
	for key, want := range map[string]uint32{
		"": 233592972, "a": 1268028470, "ab": 3514007024, "abc": 2846061565, "abcd": 1392239521,
		"user-1": 3034658845, "ä": 3220714287, "日本語": 2097953931, "😀": 3538508242,
	} {
		if got := hashOf("flag", key); got != want {
			t.Errorf("the hash of %q is %d, not %d", key, got, want)
		}
	}
	const want = "4efc0df79dc0becb097ecdfb0758fe6f041c80605f7c0ae2152c3b1e592ccc23"
	sum := sha256.New()
	shares := []share{{"a", 25}, {"b", 50}, {"c", 25}}
	count := map[any]int{}
	for i := range 1_000_000 {
		hash := hashOf("new-checkout", fmt.Sprintf("user-%d", i))
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
