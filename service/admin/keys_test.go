// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/flagcache/flagcache/service/config"
)

// TestKeysOfSlashesAndDots checks that what can be created can be read, changed
// and deleted.
func TestKeysOfSlashesAndDots(t *testing.T) {
	f := newFixture(t)
	for _, key := range []string{"/", "//", "/a", "a/", "a//b", "./a", "../a", "a/..", "...", "%", "%2F", "?", "#", ";", "a b", "{key}", "{$}", "\\"} {
		created := f.must(http.StatusCreated, "POST", "/shop/flags", fmt.Sprintf(`{"key":%q,"definition":%s}`, key, on))
		path := strings.TrimPrefix(created.header.Get("Location"), config.PathAdmin+"/environments")
		if read := f.must(http.StatusOK, "GET", path, ""); read.body != on || read.etag() != created.etag() {
			t.Errorf("reading %q returns %s", key, read.body)
		}
		changed := f.must(http.StatusOK, "PUT", path, off, "If-Match", created.etag())
		f.must(http.StatusNoContent, "DELETE", path, "", "If-Match", changed.etag())
	}
	f.must(http.StatusNotFound, "GET", "/shop/flags/", "")
}
