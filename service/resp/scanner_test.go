// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package resp

import (
	"errors"
	"strings"
	"testing"
)

func newScanner() Scanner { return Scanner{MaxString: 1000, MaxTotal: 5000} }

func TestScannerAcceptsValidReplies(t *testing.T) {
	replies := map[string]string{
		"a status":               "+OK\r\n",
		"an error":               "-LOADING Redis is loading\r\n",
		"a number":               ":-12\r\n",
		"a string":               "$5\r\nhello\r\n",
		"an empty string":        "$0\r\n\r\n",
		"a null string":          "$-1\r\n",
		"the longest string":     "$1000\r\n" + strings.Repeat("x", 1000) + "\r\n",
		"a string of replies":    "$17\r\n$9999999999\r\n*9\r\n\r\n",
		"a list":                 "*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
		"an empty list":          "*0\r\n",
		"a list of empty things": "*3\r\n*0\r\n$-1\r\n*-1\r\n",
		"a map":                  "%1\r\n+a\r\n:1\r\n",
		"a set":                  "~2\r\n+a\r\n+b\r\n",
		"a push":                 ">2\r\n+message\r\n+b\r\n",
		"an attribute":           "|1\r\n+ttl\r\n:5\r\n$1\r\nx\r\n",
		"RESP3's small ones":     "_\r\n#t\r\n,1.5\r\n(123\r\n=5\r\ntxt:a\r\n!3\r\nERR\r\n",
	}
	for name, reply := range replies {
		t.Run(name, func(t *testing.T) {
			whole, bytewise := newScanner(), newScanner()
			// After any number of replies the scanner must be in its initial state.
			for range 100 {
				if err := whole.Scan([]byte(reply)); err != nil {
					t.Fatalf("the reply is rejected: %v", err)
				}
				for i := range reply {
					if err := bytewise.Scan([]byte{reply[i]}); err != nil {
						t.Fatalf("the reply is rejected at byte %d: %v", i, err)
					}
				}
			}
			if whole.kind != 0 || whole.skip != 0 || len(whole.open) != 0 || bytewise.kind != 0 || bytewise.skip != 0 || len(bytewise.open) != 0 {
				t.Errorf("the reply did not end: %+v", whole)
			}
		})
	}
}

func TestScannerRejectsInvalidReplies(t *testing.T) {
	replies := map[string]string{
		"another protocol":        "HTTP/1.1 400 Bad Request\r\n",
		"a TLS alert":             "\x15\x03\x01\x00\x02\x02\x46",
		"a string too long":       "$1001\r\n",
		"a length that overflows": "$99999999999999999999\r\n",
		"an invalid length":       "$1x\r\n",
		"a streamed string":       "$?\r\n",
		"a list too long":         "*4097\r\n",
		"a map too long":          "%4096\r\n",
		"endlessly nested lists":  strings.Repeat("*1\r\n", 100),
		"an endless line":         "+" + strings.Repeat("x", 100_000),
		"an endless reply":        "*4096\r\n" + strings.Repeat("$900\r\n"+strings.Repeat("x", 900)+"\r\n", 100),
		"a string's end missing":  "$1\r\nxyzzy\r\n",
	}
	for name, reply := range replies {
		t.Run(name, func(t *testing.T) {
			s := newScanner()
			if err := s.Scan([]byte(reply)); !errors.Is(err, ErrInvalid) {
				t.Errorf("the reply is accepted: %v", err)
			}
		})
	}
}

func FuzzScanner(f *testing.F) {
	for _, seed := range []string{"+OK\r\n", "$3\r\nabc\r\n", "*2\r\n:1\r\n$-1\r\n", "|1\r\n+a\r\n+b\r\n+c\r\n", "%1\r\n+a\r\n_\r\n"} {
		f.Add([]byte(seed), 1)
	}
	f.Fuzz(func(t *testing.T, stream []byte, at int) {
		whole, parted := newScanner(), newScanner()
		err := whole.Scan(stream)
		at = min(max(at, 0), len(stream))
		partedErr := parted.Scan(stream[:at])
		if partedErr == nil {
			partedErr = parted.Scan(stream[at:])
		}
		if (err == nil) != (partedErr == nil) {
			t.Errorf("scanned as a whole: %v; in two parts at %d: %v", err, at, partedErr)
		}
		if len(whole.open) > maxDepth || whole.skip > whole.MaxString+2 {
			t.Errorf("the scanner exceeds its limits: %+v", whole)
		}
	})
}
