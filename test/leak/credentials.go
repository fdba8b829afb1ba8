// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
)

// Marked is a password for tests that nothing else contains, not even a piece of it. It is
// the same for each run.
func Marked(name string) string {
	digest := sha256.Sum256([]byte("marked: " + name))
	return "mk" + hex.EncodeToString(digest[:16])
}

// shortestRandom is the length of the shortest word of a file that may be a credential.
// Parts of UIDs have up to 12 characters.
const shortestRandom = 20

// credentials are the parts of a value, nothing of which must appear: the password of a
// URL, the long words of a file that look random, and otherwise all of it. Keys in PEM have
// beginnings that all have in common, and end with what certificates have as well.
func credentials(value string) []string {
	address, err := url.Parse(value)
	switch {
	case strings.Contains(value, "-----BEGIN "):
		return nil
	case strings.ContainsAny(value, " \n"):
		words := strings.FieldsFunc(value, func(r rune) bool { return !isLetter(r) && !isDigit(r) })
		return slices.DeleteFunc(words, func(word string) bool { return len(word) < shortestRandom || !looksRandom(word) })
	case err == nil && address.Host != "":
		password, _ := address.User.Password()
		return long(password)
	default:
		return long(value)
	}
}

// long is a value if it can be searched for.
func long(value string) []string {
	if len(value) < Shortest {
		return nil
	}
	return []string{value}
}

// looksRandom reports whether a word has letters and digits in no order.
func looksRandom(word string) bool {
	changes := 0
	for i := 1; i < len(word); i++ {
		if isDigit(rune(word[i])) != isDigit(rune(word[i-1])) {
			changes++
		}
	}
	return changes >= 3
}

func isLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }

func isDigit(r rune) bool { return r >= '0' && r <= '9' }
