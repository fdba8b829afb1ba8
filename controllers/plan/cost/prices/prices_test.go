// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package prices

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

func TestTheTableIsAsTheCommandWritesIt(t *testing.T) {
	text, err := ElastiCache().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, file) {
		t.Error("elasticache.json was changed by hand: write it with go run ./hack/prices")
	}
	if len(file) > 300_000 {
		t.Errorf("elasticache.json has %d bytes, which is too much for a program to carry", len(file))
	}
}

// The default node of the API is priced wherever anything is, and a node that is
// priced has a known memory.
func TestTheTableIsWhole(t *testing.T) {
	table := ElastiCache()
	for _, name := range slices.Sorted(maps.Keys(table.Regions)) {
		r := table.Regions[name]
		for _, engine := range []v1alpha1.Engine{v1alpha1.EngineRedis, v1alpha1.EngineValkey} {
			if _, ok := r.Node(engine, "cache.t3.micro"); !ok {
				t.Errorf("%s has no price of cache.t3.micro for %s", name, engine)
			}
		}
		if _, ok := r.Snapshot(); !ok {
			t.Errorf("%s has no price of snapshots", name)
		}
		for _, nodes := range []map[string]string{r.Redis, r.Valkey} {
			for nodeType := range nodes {
				if _, ok := table.NodeMemory(nodeType); !ok {
					t.Errorf("%s has a price of %s, whose memory is unknown", name, nodeType)
				}
			}
		}
	}
}

func TestHasSmaller(t *testing.T) {
	for name, c := range map[string]struct {
		region, nodeType string
		want             bool
	}{
		"a large one":                {"us-east-1", "cache.r7g.large", true},
		"the smallest":               {"us-east-1", "cache.t4g.micro", false},
		"cheaper, but not smaller":   {"us-east-1", "cache.t3.micro", false},
		"a node without a price":     {"eu-central-1", "cache.r7g.large", false},
		"a region without any price": {"mars-north-1", "cache.r7g.large", false},
	} {
		if got := ElastiCache().HasSmaller(c.region, v1alpha1.EngineValkey, c.nodeType); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestParseRefusesWhatIsNoPrice(t *testing.T) {
	region := func(fields string) string {
		return `{"memory": {}, "regions": {"eu-west-1": {` + fields + `}}}`
	}
	const known = `"date": "2026-10-02", "source": "a test"`
	for name, c := range map[string]struct{ text, want string }{
		"no table":              {"[]", "cannot unmarshal"},
		"an unknown field":      {`{"prices": {}}`, "unknown field"},
		"a price that is none":  {region(known + `, "redis": {"cache.t3.micro": "cheap"}`), "no amount above 0"},
		"a price of nothing":    {region(known + `, "valkey": {"cache.t3.micro": "0"}`), "no amount above 0"},
		"no amount of memory":   {`{"memory": {"cache.t3.micro": ""}, "regions": {}}`, "no amount above 0"},
		"a price for snapshots": {region(known + `, "snapshots": "free"`), "no amount"},
		"no date":               {region(`"source": "a test"`), "not of the form"},
		"no source":             {region(`"date": "2026-10-02"`), "no source"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}
