// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/flagcache/flagcache/service/redistest"
)

// TestAnnouncedSizesAreNotAllocated has a server announce 2 GiB, and
// endlessly nested lists, which the client alone would allocate and parse
// recursively.
func TestAnnouncedSizesAreNotAllocated(t *testing.T) {
	for _, reply := range []string{"$2147483647\r\n", "*1048576\r\n", strings.Repeat("*1\r\n", 1<<16)} {
		t.Run(fmt.Sprintf("%.12q", reply), func(t *testing.T) {
			r := runCache(t, Options{URL: "redis://" + startScripted(t, reply), Connections: 1})
			r.awaitChange(t, 0)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := r.Read(t.Context()); err == nil || errors.Is(err, ErrMiss) {
				t.Errorf("the read returns %v", err)
			}
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
				t.Errorf("it allocated %d MiB", grown>>20)
			}
		})
	}
}

// TestHugeValueIsAMiss is C13 with a real server: a value of 512 MiB takes no
// more memory than the largest document, and is deleted.
func TestHugeValueIsAMiss(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	r := connectedTo(t, server)
	if err := client.SetRange(t.Context(), testKey, 512<<20-1, "x").Err(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := r.Read(t.Context()); !errors.Is(err, ErrMiss) {
		t.Errorf("the read returns %v, not a miss", err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
		t.Errorf("it allocated %d MiB", grown>>20)
	}
	redistest.Eventually(t, 5*time.Second, "the value was not deleted", func() bool { return client.Exists(t.Context(), testKey).Val() == 0 })
}
