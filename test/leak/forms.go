// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// form is how a value is written.
type form struct {
	name, text string
	// perByte is how many characters a byte of the value takes at least, in quarters of one.
	perByte int
}

// piece is the length of a piece of the text that says as much as so many bytes of the value.
func (f form) piece(bytes int) int { return bytes * f.perByte / 4 }

// forms are all forms of a value, each text once.
func forms(value string) []form {
	quoted := strconv.Quote(value)
	list := []form{
		{"raw", value, 4},
		{"hex", hex.EncodeToString([]byte(value)), 8},
		{"upper-case hex", strings.ToUpper(hex.EncodeToString([]byte(value))), 8},
		{"URL query", url.QueryEscape(value), 4},
		{"URL path", url.PathEscape(value), 4},
		{"URL user", urlUser(value), 4},
		{"JSON", inJSON(value, true), 4},
		{"JSON without HTML escapes", inJSON(value, false), 4},
		{"JSON in JSON", inJSON(inJSON(value, true), true), 4},
		{"JSON in JSON without HTML escapes", inJSON(inJSON(value, false), false), 4},
		{"Go syntax", quoted[1 : len(quoted)-1], 4},
		{"decimal bytes", decimals(value), 11},
	}
	for offset := range 3 {
		list = append(list,
			form{fmt.Sprintf("base64 at byte %d", offset), unaligned(base64.StdEncoding, value, offset), 5},
			form{fmt.Sprintf("base64url at byte %d", offset), unaligned(base64.URLEncoding, value, offset), 5})
	}
	seen := map[string]bool{}
	var unique []form
	for _, f := range list {
		if !seen[f.text] {
			seen[f.text] = true
			unique = append(unique, f)
		}
	}
	return unique
}

// unaligned are the characters of an encoding that a value alone determines when it
// begins after offset bytes of three, whatever surrounds it.
func unaligned(encoding *base64.Encoding, value string, offset int) string {
	encoded := encoding.EncodeToString([]byte(strings.Repeat("\x00", offset) + value))
	begin := (offset*8 + 5) / 6
	end := (offset + len(value)) * 8 / 6
	return encoded[begin:end]
}

// decimals are the bytes of a value as %v prints a slice of bytes.
func decimals(value string) string {
	var numbers []string
	for _, b := range []byte(value) {
		numbers = append(numbers, strconv.Itoa(int(b)))
	}
	return strings.Join(numbers, " ")
}

// urlUser escapes a value as the user information of a URL does.
func urlUser(value string) string { return strings.TrimSuffix(url.User(value).String(), "@") }

// inJSON is a value in a JSON string.
func inJSON(value string, escapeHTML bool) string {
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(escapeHTML)
	if err := encoder.Encode(value); err != nil {
		panic(err) // strings can be encoded
	}
	return strings.TrimSuffix(text.String(), "\n")[1 : text.Len()-2]
}
