// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDraw(t *testing.T) {
	pictures := [][]string{{"✖ Ready", "· cache"}, {"✖ Ready", "· cache"}, {"✔ Ready", "· cache"}}
	tests := map[string]struct {
		teller teller
		want   string
	}{
		"tells a pipe only what is different, with the time": {
			want: "     0.0s  ✖ Ready\n     0.0s  · cache\n     2.0s  ✔ Ready\n",
		},
		"draws over the last picture on a terminal, if it is different": {
			teller: teller{terminal: 80},
			want:   "    ✖ Ready\n    · cache\n\x1b[2A\x1b[J    ✔ Ready\n    · cache\n",
		},
		"cuts what would wrap on a terminal": {
			teller: teller{terminal: 9},
			want:   "    ✖ R…\n    · c…\n\x1b[2A\x1b[J    ✔ R…\n    · c…\n",
		},
		"colours what is good and what is not there yet": {
			teller: teller{terminal: 80, colours: true},
			want: "    ✖ Ready\n    \x1b[2m· cache\x1b[0m\n" +
				"\x1b[2A\x1b[J    \x1b[32m✔\x1b[0m Ready\n    \x1b[2m· cache\x1b[0m\n",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			test.teller.out = &out
			for i, picture := range pictures {
				test.teller.draw(picture, time.Duration(i)*time.Second)
			}
			if diff := cmp.Diff(test.want, out.String()); diff != "" {
				t.Errorf("what is written (-want +got):\n%s", diff)
			}
		})
	}
}
