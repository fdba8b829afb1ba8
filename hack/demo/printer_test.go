// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestUpdate(t *testing.T) {
	updates := [][]string{{"✖ Ready", "· cache"}, {"✖ Ready", "· cache"}, {"✔ Ready", "· cache"}}
	tests := map[string]struct {
		printer printer
		want    string
	}{
		"prints only changed lines with the time, without a terminal": {
			want: "     0.0s  ✖ Ready\n     0.0s  · cache\n     2.0s  ✔ Ready\n",
		},
		"redraws changed lines in place on a terminal": {
			printer: printer{terminal: 80},
			want:    "    ✖ Ready\n    · cache\n\x1b[2A\x1b[J    ✔ Ready\n    · cache\n",
		},
		"truncates long lines on a terminal": {
			printer: printer{terminal: 9},
			want:    "    ✖ R…\n    · c…\n\x1b[2A\x1b[J    ✔ R…\n    · c…\n",
		},
		"colors lines by their marks": {
			printer: printer{terminal: 80, colors: true},
			want: "    ✖ Ready\n    \x1b[2m· cache\x1b[0m\n" +
				"\x1b[2A\x1b[J    \x1b[32m✔\x1b[0m Ready\n    \x1b[2m· cache\x1b[0m\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			test.printer.out = &out
			for i, lines := range updates {
				test.printer.update(lines, time.Duration(i)*time.Second)
			}
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
		})
	}
}
