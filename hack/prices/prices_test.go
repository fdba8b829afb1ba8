// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flagcache/flagcache/controllers/plan/cost/prices"
)

// The two files of testdata are the same short price list in both formats. In addition to
// two nodes for each engine they contain offers to ignore: Memcached, a reserved node,
// surcharges, an Outpost, and Serverless.
var short = prices.Table{
	Memory: map[string]string{"cache.r7g.large": "13.07", "cache.t3.micro": "0.5"},
	Regions: map[string]prices.Region{
		"eu-west-1": {
			Date: "2026-10-02", Source: "AWS Price List, AmazonElastiCache, version 20261002120000", Snapshots: "0.085",
			Redis:  map[string]string{"cache.r7g.large": "0.243"},
			Valkey: map[string]string{"cache.r7g.large": "0.1944"},
		},
		"us-east-1": {
			Date: "2026-10-02", Source: "AWS Price List, AmazonElastiCache, version 20261002120000",
			Redis:  map[string]string{"cache.t3.micro": "0.017"},
			Valkey: map[string]string{"cache.t3.micro": "0.0136"},
		},
	},
}

func TestBothFormatsGiveTheSameTable(t *testing.T) {
	for _, list := range []string{"testdata/offer.json", "testdata/offer.csv"} {
		t.Run(filepath.Ext(list), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "table.json")
			if err := run(file, []string{list}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(short, mustRead(t, file)); diff != "" {
				t.Errorf("table (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOtherRegionsAreKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "table.json")
	old := prices.Region{Date: "2022-02-13", Source: "older", Redis: map[string]string{"cache.t3.micro": "0.018"}}
	text, err := prices.Table{
		Memory:  map[string]string{"cache.m7g.large": "6.38"},
		Regions: map[string]prices.Region{"eu-central-1": old, "eu-west-1": old},
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(file, []string{"testdata/offer.json"}); err != nil {
		t.Fatal(err)
	}
	got := mustRead(t, file)
	if diff := cmp.Diff(old, got.Regions["eu-central-1"]); diff != "" {
		t.Errorf("a region that is not in the list (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(short.Regions["eu-west-1"], got.Regions["eu-west-1"]); diff != "" {
		t.Errorf("a region that is in the list (-want +got):\n%s", diff)
	}
	if got.Memory["cache.m7g.large"] != "6.38" {
		t.Error("the memory of a node that is not in the list is lost")
	}
}

func TestInvalidListsAreRejected(t *testing.T) {
	node := func(usage, usd string) string {
		return `"SKU","TermType","Unit","PricePerUnit","Currency","Product Family","Location Type","Instance Type","Cache Engine","usageType","Region Code"
"A","OnDemand","Hrs","0.1","USD","Cache Instance","AWS Region","cache.t3.micro","Redis","NodeUsage:cache.t3.micro","us-east-1"
"B","OnDemand","Hrs","` + usd + `","USD","Cache Instance","AWS Region","cache.t3.micro","Redis","` + usage + `","us-east-1"
`
	}
	facts := `"OfferCode","AmazonElastiCache"` + "\n" + `"Publication Date","2026-10-02T12:00:00Z"` + "\n"
	for name, c := range map[string]struct{ file, text, want string }{
		"two prices for one node": {"a.csv", facts + node("USE1-NodeUsage:cache.t3.micro", "0.2"), "has two prices"},
		"another offer":           {"a.csv", `"OfferCode","AmazonEC2"` + "\n", "want AmazonElastiCache"},
		"without a date":          {"a.csv", `"OfferCode","AmazonElastiCache"` + "\n", "no publication date"},
		"without a node":          {"a.csv", facts, "no on-demand price"},
		"another format":          {"a.xml", "<a/>", ".json or a .csv"},
		"a broken file":           {"a.json", "{", "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			list := filepath.Join(dir, c.file)
			if err := os.WriteFile(list, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := run(filepath.Join(dir, "table.json"), []string{list})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
	if err := run("unused", nil); err == nil {
		t.Error("an empty list of files was accepted")
	}
}

func mustRead(t *testing.T, file string) prices.Table {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	table, err := prices.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return table
}
