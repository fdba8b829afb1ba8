// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"errors"
	"net/http"
	"strings"

	"connectrpc.com/connect"
)

// selectorHeader has the selector of a request.
const selectorHeader = "Flagd-Selector"

// Keys of a selector.
const (
	selectFlagSet = "flagSetId"
	selectSource  = "source"
)

var errSelector = errors.New("the selector must be " + selectFlagSet + "=ID or " + selectSource + "=NAME")

// selector selects flags: those of one set of flags, or those of one source.
type selector struct {
	// all means that flags of every set are selected, none that the source is another one.
	all, none bool
	// flagSet is the identifier of the selected set; empty selects flags without one.
	flagSet string
}

// readSelector reads the selector in a header, or else in the body of a request. As in
// flagd, a selector without a key is the name of a source. All flags have one source.
func readSelector(header http.Header, body, source string) (selector, error) {
	text := body
	if inHeader := header.Get(selectorHeader); inHeader != "" {
		text = inHeader
	}
	key, value, found := strings.Cut(text, "=")
	switch {
	case text == "":
		return selector{all: true}, nil
	case !found:
		return selector{all: text == source, none: text != source}, nil
	case key == selectSource:
		return selector{all: value == source, none: value != source}, nil
	case key == selectFlagSet:
		return selector{flagSet: value}, nil
	default:
		return selector{}, connect.NewError(connect.CodeInvalidArgument, errSelector)
	}
}

// selects reports whether flags of a set of flags are selected.
func (s selector) selects(flagSet string) bool {
	return s.all || !s.none && s.flagSet == flagSet
}
