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

// etag returns the strong entity tag of a version.
func etag(v source.Version) string { return fmt.Sprintf(`"%x-%d"`, v.Epoch, v.Number) }

// tagOf returns a flag's ETag, "" if there is no flag.
func tagOf(f *postgres.Flag) string {
	if f == nil {
		return ""
	}
	return etag(f.Version)
}

// checkPreconditions checks the preconditions of a request to change a resource
// whose ETag is current, "" if it does not exist. A request without
// preconditions is rejected.
func checkPreconditions(header http.Header, current string) error {
	ifMatch, ifNoneMatch := header.Values("If-Match"), header.Values("If-None-Match")
	switch {
	case len(ifMatch) == 0 && len(ifNoneMatch) == 0:
		return newProblem(http.StatusPreconditionRequired,
			"a change requires a precondition: If-Match with the ETag that was read, or If-None-Match: * for a new flag")
	case len(ifMatch) > 0 && current == "":
		return newProblem(http.StatusPreconditionFailed, "If-Match: the flag does not exist")
	case len(ifMatch) > 0 && !matches(ifMatch, current):
		return newProblem(http.StatusPreconditionFailed, "If-Match: it has changed; read it again")
	case len(ifNoneMatch) > 0 && current != "" && matches(ifNoneMatch, current):
		return newProblem(http.StatusPreconditionFailed, "If-None-Match: it already exists")
	case len(ifMatch) == 0 && current != "":
		return newProblem(http.StatusPreconditionRequired, "a change of an existing flag requires If-Match")
	default:
		return nil
	}
}

// matches reports whether a list of ETags, or a star, contains a tag. Weak tags
// never match, as different contents may share one. Tags of this API contain no
// commas.
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
