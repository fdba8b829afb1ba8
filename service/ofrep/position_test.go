// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ofrep

import (
	"math"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/source"
)

// at returns the position of a document with a number and some content.
func at(number int64, content string) Position {
	return Position{
		Store: "flagcache:shop/demo", Version: source.Version{Epoch: 1, Number: number},
		Digest: source.Digest([]byte(content)), Modified: time.Unix(1_700_000_000+number, 0),
	}
}

func TestConfigTagsAreReadAsTheyAreSent(t *testing.T) {
	for _, position := range []Position{at(7, "a"), at(0, "b"), {Version: source.Version{Epoch: math.MaxInt64, Number: math.MaxInt64}, Digest: source.Digest(nil)}} {
		sent := position.tag().String()
		if len(sent) > maxConfigTag {
			t.Errorf("the tag has %d bytes: %s", len(sent), sent)
		}
		for _, text := range []string{sent, strings.Trim(sent, `"`)} {
			if got := parseConfigTag(text); got != position.tag() {
				t.Errorf("%s is read as %s", text, got)
			}
		}
	}
	if tag := (Position{}).tag(); tag != (configTag{}) {
		t.Errorf("an unknown position has the tag %s", tag)
	}
}

func TestWhatIsNoConfigTag(t *testing.T) {
	good := strings.Trim(at(7, "a").tag().String(), `"`)
	store, rest, _ := strings.Cut(good, "-")
	digest := good[len(good)-tagDigest:]
	for _, text := range []string{
		"", "*", "abc123", `W/"` + good + `"`, good + "-", "-" + good, rest, strings.Replace(good, "1.7", "1.-7", 1), strings.Replace(good, "1.7", "1.07", 1),
		strings.Replace(good, "1.7", "1.+7", 1), strings.Replace(good, "1.7", "17", 1), strings.Replace(good, "1.7", "1.9223372036854775808", 1),
		strings.Replace(good, "1.7", "1."+strings.Repeat("9", 100), 1), store[1:] + "-1.7-" + digest, store + "-1.7-" + digest[1:], strings.Repeat(`"`, 1<<20),
	} {
		if got := parseConfigTag(text); got != (configTag{}) {
			t.Errorf("%.200q is read as %s", text, got)
		}
	}
}

func TestDemands(t *testing.T) {
	served := at(7, "a")
	other := served
	other.Store = "flagcache:shop/other"
	tagOf := func(p Position) string { return parameterTag + "=" + url.QueryEscape(p.tag().String()) }
	const second = "&" + parameterModified + "="
	tests := map[string]struct {
		query          string
		met, unchanged bool
	}{
		"none":                                    {"", true, true},
		"other parameters":                        {"tenant=a", true, true},
		"the served flags":                        {tagOf(served), true, true},
		"without quotes":                          {strings.ReplaceAll(tagOf(served), "%22", ""), true, true},
		"older flags":                             {tagOf(at(6, "b")), true, false},
		"newer flags":                             {tagOf(at(8, "b")), false, false},
		"other flags with the same number":        {tagOf(at(7, "b")), true, false},
		"the same content with a higher number":   {tagOf(at(8, "a")), true, true},
		"another store with a higher number":      {tagOf(Position{Store: other.Store, Version: source.Version{Epoch: 9}, Digest: served.Digest}), true, false},
		"the tag of another program":              {parameterTag + "=abc123", true, false},
		"an empty tag":                            {parameterTag + "=", true, true},
		"the tag decides over the time":           {tagOf(served) + second + "1800000000", true, true},
		"newer flags of an earlier time":          {tagOf(at(8, "b")) + second + "1", false, false},
		"the time decides without a tag we know":  {parameterTag + "=abc123" + second + "1800000000", false, false},
		"the time decides between stores":         {tagOf(other) + second + "1800000000", false, false},
		"the time of the served flags":            {second + "1700000007", true, true},
		"a later time":                            {second + "1700000008", false, false},
		"an earlier time":                         {second + "1700000006", true, true},
		"the time in the other format":            {second + "2023-11-14T22:13:27Z", true, true},
		"a later time in the other format":        {second + "2023-11-14T23:13:28%2B01:00", false, false},
		"no time":                                 {second + "tomorrow", true, true},
		"a negative time":                         {second + "-5", true, true},
		"a time beyond the range":                 {second + "99999999999999999999", true, true},
		"the first of several tags":               {tagOf(served) + "&" + tagOf(at(8, "b")), true, true},
		"a valid tag beside an invalid parameter": {"a=%zz&" + tagOf(at(8, "b")), false, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := demandOf(test.query)
			if d.met(served) != test.met || d.unchanged(served) != test.unchanged {
				t.Errorf("met is %v, unchanged %v", d.met(served), d.unchanged(served))
			}
		})
	}
	if d := demandOf(tagOf(served)); !d.met(Position{}) {
		t.Error("an instance without flags makes clients wait for a tag of another store")
	}
}

func FuzzDemand(f *testing.F) {
	f.Add(parameterTag+"="+url.QueryEscape(at(7, "a").tag().String())+"&"+parameterModified+"=1700000007", int64(7))
	f.Fuzz(func(t *testing.T, query string, number int64) {
		d := demandOf(query)
		served := at(number, "a")
		if d.unchanged(served) && !d.met(served) {
			t.Error("flags that are too old count as unchanged")
		}
		if d.tag != (configTag{}) && parseConfigTag(d.tag.String()) != d.tag {
			t.Errorf("the tag %s is not read as it is sent", d.tag)
		}
	})
}
