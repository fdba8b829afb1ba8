// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package page

import "testing"

func TestReplace(t *testing.T) {
	tests := map[string]struct{ page, part, want string }{
		"into an empty page":    {"", "# A\n\ntext\n", "# A\n\ntext\n"},
		"at the end":            {"# A\n\ntext\n", "# B\n", "# A\n\ntext\n\n# B\n"},
		"in place of the first": {"# A\n\n## One\n\n# B\n\ntext\n", "# A\nnew", "# A\nnew\n\n# B\n\ntext\n"},
		"in place of the last":  {"# A\n\n# B\n\ntext\n", "# B\n\nnew\n", "# A\n\n# B\n\nnew\n"},
		"a longer heading":      {"# A page\n", "# A\n", "# A page\n\n# A\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := replace(test.page, test.part); got != test.want {
				t.Errorf("the page is\n%q, want\n%q", got, test.want)
			}
		})
	}
}
