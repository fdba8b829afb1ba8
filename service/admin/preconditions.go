// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/flagcache/flagcache/service/source"
	"github.com/flagcache/flagcache/service/source/postgres"
)

// etag names one content of a resource, strongly.
func etag(v source.Version) string { return fmt.Sprintf(`"%x-%d"`, v.Epoch, v.Number) }

// tagOf is a flag's ETag, "" if there is no flag.
func tagOf(f *postgres.Flag) string {
	if f == nil {
		return ""
	}
	return etag(f.Version)
}

// checkPreconditions holds a request to change a resource, whose ETag is current
// or "" if there is none, to what it was made from. A request that does not say is
// refused.
func checkPreconditions(header http.Header, current string) error {
	ifMatch, ifNoneMatch := header.Values("If-Match"), header.Values("If-None-Match")
	switch {
	case len(ifMatch) == 0 && len(ifNoneMatch) == 0:
		return refuse(http.StatusPreconditionRequired,
			"a change must say what it was made from: send If-Match with the ETag that you have read, or If-None-Match: * for a flag that is to be new")
	case len(ifMatch) > 0 && current == "":
		return refuse(http.StatusPreconditionFailed, "If-Match: there is no such flag")
	case len(ifMatch) > 0 && !matches(ifMatch, current):
		return refuse(http.StatusPreconditionFailed, "If-Match: it has changed since; read it again")
	case len(ifNoneMatch) > 0 && current != "" && matches(ifNoneMatch, current):
		return refuse(http.StatusPreconditionFailed, "If-None-Match: it is there already")
	case len(ifMatch) == 0 && current != "":
		return refuse(http.StatusPreconditionRequired, "a change of what is there takes If-Match")
	default:
		return nil
	}
}

// matches tells whether a list of ETags, or a star, names a tag. A weak one names
// none: two contents may share it. Our tags hold no commas.
func matches(values []string, tag string) bool {
	for _, value := range values {
		for listed := range strings.SplitSeq(value, ",") {
			if listed = strings.TrimSpace(listed); listed == "*" || listed == tag {
				return true
			}
		}
	}
	return false
}
