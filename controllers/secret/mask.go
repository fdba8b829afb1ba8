// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"cmp"
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Mask replaces values in texts of others, who may repeat what they were given: AWS, an
// admission webhook, a container. The zero Mask replaces nothing.
type Mask struct {
	// forms are the values as they are written, the longest first.
	forms    []string
	replacer *strings.Replacer
}

const (
	// shortest is the length of the shortest value that is replaced: shorter ones appear by
	// chance.
	shortest = 8
	// cut ends a text that was shortened.
	cut = "…"
)

// NewMask returns a Mask of values.
func NewMask(values ...String) Mask {
	var m Mask
	for _, value := range values {
		text := value.Reveal()
		if len(text) < shortest {
			continue
		}
		quoted := strconv.Quote(text)
		m.forms = append(m.forms, text, quoted[1:len(quoted)-1], url.QueryEscape(text), url.PathEscape(text), strings.TrimSuffix(url.User(text).String(), "@"),
			base64.StdEncoding.EncodeToString([]byte(text)), base64.URLEncoding.EncodeToString([]byte(text)))
	}
	slices.SortFunc(m.forms, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	m.forms = slices.Compact(m.forms)
	var pairs []string
	for _, form := range m.forms {
		pairs = append(pairs, form, masked)
	}
	if len(pairs) > 0 {
		m.replacer = strings.NewReplacer(pairs...)
	}
	return m
}

// Text returns a text with stars in place of the values, also of one that was cut.
func (m Mask) Text(text string) string {
	if m.replacer == nil {
		return text
	}
	parts := strings.Split(m.replacer.Replace(text), cut)
	for i := range parts[:len(parts)-1] {
		parts[i] = m.maskEnd(parts[i])
	}
	return strings.Join(parts, cut)
}

// maskEnd replaces the beginning of a value at the end of a text.
func (m Mask) maskEnd(text string) string {
	for _, form := range m.forms {
		for n := len(form) - 1; n >= shortest; n-- {
			if before, found := strings.CutSuffix(text, form[:n]); found {
				return before + masked
			}
		}
	}
	return text
}

// Error returns an error with a masked text, which wraps the error; nil for nil.
func (m Mask) Error(err error) error {
	if err == nil {
		return nil
	}
	return maskedError{m.Text(err.Error()), err}
}

// maskedError is an error with a masked text.
type maskedError struct {
	text string
	err  error
}

func (e maskedError) Error() string { return e.text }
func (e maskedError) Unwrap() error { return e.err }
