// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package caches

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
)

func TestDependencies(t *testing.T) {
	specs := map[v1alpha1.CacheType]v1alpha1.CacheSpec{
		v1alpha1.CacheInCluster:   {},
		v1alpha1.CacheElastiCache: {ElastiCache: &v1alpha1.ElastiCacheSpec{}},
		v1alpha1.CacheExternal:    {External: &v1alpha1.ExternalSpec{SecretRef: v1alpha1.LocalReference{Name: "my-redis"}}},
	}
	for kind, want := range map[v1alpha1.CacheType]string{
		"":                        `secret "", ACK false, current `,
		v1alpha1.CacheInCluster:   `secret "", ACK false, current `,
		v1alpha1.CacheExternal:    `secret "my-redis", ACK false, current `,
		v1alpha1.CacheElastiCache: `secret "", ACK true, current *v1alpha1.ReplicationGroupList *v1.SecretList`,
	} {
		fc := &v1alpha1.FlagCache{}
		fc.Spec.Cache = specs[kind]
		fc.Spec.Cache.Type = kind
		if got := dependencies(fc); got != want {
			t.Errorf("%q: %s, want %s", kind, got, want)
		}
		// A FlagCache may have caches of any type that are to be deleted before it.
		fc.DeletionTimestamp = &metav1.Time{Time: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)}
		if got := dependencies(fc); !strings.HasSuffix(got, "ACK true, current *v1alpha1.ReplicationGroupList") {
			t.Errorf("%q that is being deleted: %s", kind, got)
		}
	}
}

func dependencies(fc *v1alpha1.FlagCache) string {
	deps := Dependencies(fc)
	var current []string
	for _, list := range deps.Current {
		current = append(current, fmt.Sprintf("%T", list))
	}
	return fmt.Sprintf("secret %q, ACK %t, current %s", deps.Secret, deps.ACK, strings.Join(current, " "))
}
