// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"fmt"
	"math"
	"strings"

	"github.com/twmb/murmur3"
	"golang.org/x/mod/semver"
)

// flagd's custom operators. They never fail: for invalid arguments they return
// null, which selects the flag's default variant.

// share is one variant of a fractional rollout.
type share struct {
	variant any
	weight  uint64
}

// fractional assigns the caller to one of several shares by hash:
//
//	{"fractional": [seed?, [variant, weight?], ...]}
//
// Without a seed it is the flag's key followed by the targeting key.
func fractional(e *env, frame int, args []any) any {
	if len(args) == 0 {
		return nil
	}
	if seed, ok := args[0].(string); ok {
		return e.distribute(args[1:], bucketHash("", seed))
	}
	if args[0] == nil {
		args = args[1:]
	}
	flagKey, key := e.seed(frame)
	if key == "" {
		return nil
	}
	return e.distribute(args, bucketHash(flagKey, key))
}

// seed returns the flag's key and the targeting key in the data of a frame: the
// context has both, an element of a list usually has neither.
func (e *env) seed(frame int) (flagKey, key string) {
	if frame == 0 {
		key, _ = e.stringAt(targetingKeySlot)
		return e.flagKey, key
	}
	data, _ := e.frames[frame].(map[string]any)
	key, _ = data[targetingKey].(string)
	properties, _ := data[flagdKey].(map[string]any)
	flagKey, _ = properties[flagdFlagKey].(string)
	return flagKey, key
}

// bucketHash returns a caller's hash, between 0 and 2^32-1: murmur3 (x86, 32
// bit, seed 0) of the UTF-8 bytes of both parts. No other function depends on
// the choice of hash.
func bucketHash(flagKey, bucketingKey string) uint32 {
	var buffer [128]byte
	return murmur3.Sum32(append(append(buffer[:0], flagKey...), bucketingKey...))
}

// distribute returns the variant whose share contains the hash. Shares are
// summed in the given order, and the first whose end is beyond the hash is
// selected.
func (e *env) distribute(distribution []any, hash uint32) any {
	var shares [16]share
	parsed, total, ok := e.parseShares(shares[:0], distribution)
	if !ok || total == 0 {
		return nil
	}
	return pick(parsed, total, hash)
}

func pick(shares []share, total uint64, hash uint32) any {
	bucket := (uint64(hash) * total) >> 32
	end := uint64(0)
	for _, s := range shares {
		if end += s.weight; bucket < end {
			return s.variant
		}
	}
	return nil
}

func (e *env) parseShares(to []share, distribution []any) (shares []share, total uint64, ok bool) {
	for _, element := range distribution {
		s, ok := parseShare(element)
		if !ok || !e.spend(1) {
			return nil, 0, false
		}
		to, total = append(to, s), total+s.weight
	}
	return to, total, total <= math.MaxInt32
}

func parseShare(v any) (share, bool) {
	element, ok := v.([]any)
	if !ok || len(element) == 0 {
		return share{}, false
	}
	switch element[0].(type) {
	case string, bool, float64, nil:
	default:
		return share{}, false
	}
	weight, ok := parseWeight(element)
	return share{variant: element[0], weight: weight}, ok
}

// parseWeight returns the weight, 1 if there is none. It must be an integer; a
// negative one, which a computed rollout may produce, counts as 0.
func parseWeight(element []any) (weight uint64, ok bool) {
	if len(element) < 2 || element[1] == nil {
		return 1, true
	}
	value, ok := element[1].(float64)
	if !ok || value != math.Trunc(value) || value > math.MaxInt32 || value < math.MinInt64 {
		return 0, false
	}
	return uint64(max(0, value)), true
}

// affix implements starts_with and ends_with, which take exactly two strings.
func affix(has func(text, affix string) bool) func(*env, int, []any) any {
	return func(_ *env, _ int, args []any) any {
		if len(args) != 2 {
			return nil
		}
		text, ok := args[0].(string)
		want, ok2 := args[1].(string)
		if !ok || !ok2 {
			return nil
		}
		return has(text, want)
	}
}

// semVer compares two semantic versions:
//
//	{"sem_ver": [version, operator, version]}
//
// "^" means the same major version, "~" the same major and minor version.
func semVer(e *env, _ int, args []any) any {
	if len(args) != 3 {
		return nil
	}
	a, ok := e.version(args[0])
	b, ok2 := e.version(args[2])
	operator, isText := args[1].(string)
	if !ok || !ok2 || !isText {
		return nil
	}
	return compareVersions(a, operator, b)
}

func compareVersions(a, operator, b string) any {
	order := semver.Compare(a, b)
	switch operator {
	case "=":
		return order == 0
	case "!=":
		return order != 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	case ">=":
		return order >= 0
	case "^":
		return semver.Major(a) == semver.Major(b)
	case "~":
		return semver.MajorMinor(a) == semver.MajorMinor(b)
	default:
		return nil
	}
}

// version returns a version with the prefix v that x/mod/semver requires. A
// number is formatted as a string, 1.2 as "1.2".
func (e *env) version(v any) (version string, ok bool) {
	text, isText := v.(string)
	if !isText {
		if !isNumber(v) {
			return "", false
		}
		text = fmt.Sprint(v)
	}
	if !strings.HasPrefix(text, "v") {
		text = "v" + strings.TrimPrefix(text, "V")
	}
	return text, e.spendText(text) && semver.IsValid(text)
}
