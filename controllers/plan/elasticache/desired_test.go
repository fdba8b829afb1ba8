// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"fmt"
	"math/rand"
	"regexp"
	"strings"
	"testing"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/secret"
)

// aFlagCache requests the smallest group, with the defaults of the API server.
func aFlagCache() *v1alpha1.FlagCache {
	fc := &v1alpha1.FlagCache{}
	fc.Namespace, fc.Name, fc.UID = "shop", "demo", "uid-1"
	fc.Spec.Environment = "default"
	fc.Spec.Cache.Type = v1alpha1.CacheElastiCache
	fc.Spec.Cache.ElastiCache = &v1alpha1.ElastiCacheSpec{
		Engine: v1alpha1.EngineValkey, EngineVersion: "8.0", NodeType: "cache.t3.micro", Replicas: 1, MultiAZ: v1alpha1.Enabled,
		Authentication:    v1alpha1.ElastiCacheAuthentication{Type: v1alpha1.AuthenticationToken},
		TransitEncryption: v1alpha1.TransitEncryptionRequired,
	}
	return fc
}

// No two FlagCaches share an ID.
func TestIDsAreValidInAWS(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	name := func(length int, first string) string {
		const letters = "abz09--"
		text := string(first[random.Intn(len(first))])
		for range random.Intn(length - 1) {
			text += string(letters[random.Intn(len(letters))])
		}
		return strings.TrimRight(text, "-")
	}
	wellFormed := regexp.MustCompile(`^[a-z](-?[a-z0-9])*$`)
	owners := map[string]string{}
	for range 5000 {
		fc := aFlagCache()
		fc.Namespace, fc.Name = name(63, "ab0"), name(46, "ab")
		n := names{fc, Identity(fc), newID("cluster-1", fc)}
		short := names{fc, Identity(fc), shortID(fc, Identity(fc))}
		for _, id := range []string{n.aws, n.probeUserID(secret.New("token")), n.defaultUser(), short.aws, short.probeUserID(secret.New("token")), short.defaultUser()} {
			if len(id) > maxID || !wellFormed.MatchString(id) {
				t.Fatalf("the ID of %s/%s is %q", fc.Namespace, fc.Name, id)
			}
			owner := fc.Namespace + "/" + fc.Name
			if other := owners[id]; other != "" && other != owner {
				t.Fatalf("%s and %s share the ID %s", other, owner, id)
			}
			owners[id] = owner
		}
	}
}

// The unique part of an ID has 64 bits, so that nobody finds names with the ID of another's
// cache, and clusters that share an AWS account do not have the same.
func TestIDsAreUniqueAmongClusters(t *testing.T) {
	wellFormed := regexp.MustCompile(`^fc-[a-z0-9-]{1,16}-[0-9a-f]{16}$`)
	owners := map[string]string{}
	for _, cluster := range []string{"1", "11", "cluster"} {
		for _, key := range []struct{ namespace, name string }{{"shop", "demo"}, {"shop", "demo-a"}, {"shop-demo", "a"}, {"1shop", "demo"}} {
			fc := aFlagCache()
			fc.Namespace, fc.Name = key.namespace, key.name
			id, owner := newID(cluster, fc), fmt.Sprint(cluster, key)
			if !wellFormed.MatchString(id) {
				t.Errorf("the ID of %s is %q", owner, id)
			}
			if other := owners[id]; other != "" {
				t.Errorf("%s and %s share the ID %s", other, owner, id)
			}
			owners[id] = owner
		}
	}
	if id := newID("", aFlagCache()); id != "" {
		t.Errorf("the ID in an unknown cluster is %q", id)
	}
}

func TestIdentityFollowsWhatCannotBeChanged(t *testing.T) {
	type spec = *v1alpha1.ElastiCacheSpec
	before := Identity(aFlagCache())
	for name, test := range map[string]struct {
		edit    func(spec)
		another bool
	}{
		"node type":             {edit: func(e spec) { e.NodeType = "cache.m5.large" }},
		"engine version":        {edit: func(e spec) { e.EngineVersion = "9.0" }},
		"replicas":              {edit: func(e spec) { e.Replicas = 3 }},
		"tags":                  {edit: func(e spec) { e.Tags = map[string]v1alpha1.TagValue{"a": "b"} }},
		"parameters":            {edit: func(e spec) { e.Parameters = map[string]v1alpha1.ParameterValue{"a": "b"} }},
		"security groups":       {edit: func(e spec) { e.SecurityGroupIDs = []v1alpha1.SecurityGroupID{"sg-1"} }},
		"engine":                {edit: func(e spec) { e.Engine = v1alpha1.EngineRedis }, another: true},
		"subnets":               {edit: func(e spec) { e.SubnetIDs = []v1alpha1.SubnetID{"subnet-1"} }, another: true},
		"subnet group":          {edit: func(e spec) { e.SubnetGroupName = "mine" }, another: true},
		"VPC":                   {edit: func(e spec) { e.VPCID = "vpc-1" }, another: true},
		"KMS key":               {edit: func(e spec) { e.AtRestEncryption = &v1alpha1.AtRestEncryption{KMSKeyID: "k"} }, another: true},
		"encryption in transit": {edit: func(e spec) { e.TransitEncryption = v1alpha1.TransitEncryptionDisabled }, another: true},
		"authentication":        {edit: func(e spec) { e.Authentication.Type = v1alpha1.AuthenticationIAM }, another: true},
		"region":                {edit: func(e spec) { e.Region = "eu-west-1" }, another: true},
	} {
		fc := aFlagCache()
		test.edit(fc.Spec.Cache.ElastiCache)
		if (Identity(fc) != before) != (newID("cluster-1", fc) != newID("cluster-1", aFlagCache())) {
			t.Errorf("%s: the identity and the ID in AWS differ about it", name)
		}
		if another := Identity(fc) != before; another != test.another {
			t.Errorf("%s: another identity: %v", name, another)
		}
	}
	fc := aFlagCache()
	fc.UID = "uid-2"
	if Identity(fc) != before {
		t.Error("a FlagCache that is created again does not find the cache of its predecessor")
	}
}
