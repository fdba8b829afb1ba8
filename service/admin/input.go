// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/source/postgres"
)

// Sizes of a page of a list.
const (
	defaultPage = 100
	maxPage     = 500
)

// environmentName is what an environment may be called; flag services accept the
// same.
var environmentName = regexp.MustCompile(`^[A-Za-z0-9._/-]{1,253}$`)

// environment is the one that the path names.
func (c *call) environment() (string, error) {
	name := c.r.PathValue("environment")
	if !environmentName.MatchString(name) {
		return "", refuse(http.StatusBadRequest, "an environment has up to 253 letters, digits, dots, underscores, slashes and dashes")
	}
	return name, nil
}

// flag is the environment and the key that the path names.
func (c *call) flag() (environment, key string, err error) {
	if environment, err = c.environment(); err != nil {
		return "", "", err
	}
	key = c.r.PathValue("key")
	return environment, key, checkKey(key)
}

// checkKey keeps keys to what can be named in a path and read in a log.
func checkKey(key string) error {
	switch {
	case key == "" || len(key) > postgres.MaxKey:
		return refuse(http.StatusBadRequest, fmt.Sprintf("a flag's key has 1 to %d bytes", postgres.MaxKey))
	case key == "." || key == "..", !utf8.ValidString(key), strings.ContainsFunc(key, unicode.IsControl):
		return refuse(http.StatusBadRequest, "a flag's key is UTF-8 without control characters, and not a dot or two")
	default:
		return nil
	}
}

// body reads the request's body, which must be of one media type.
func (c *call) body(mediaType string) ([]byte, error) {
	got, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || got != mediaType {
		return nil, refuse(http.StatusUnsupportedMediaType, "the Content-Type must be "+mediaType)
	}
	if encoding := c.r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return nil, refuse(http.StatusUnsupportedMediaType, "the body must not be compressed")
	}
	data, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, flags.MaxSize))
	if err != nil {
		return nil, bodyError(err)
	}
	if !utf8.Valid(data) {
		return nil, refuse(http.StatusBadRequest, "the body is not UTF-8")
	}
	return data, nil
}

// decode reads a JSON object with known members alone.
func decode(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return refuse(http.StatusBadRequest, "the body cannot be understood: "+err.Error())
	}
	if _, err := decoder.Token(); err != io.EOF {
		return refuse(http.StatusBadRequest, "the body has more than one JSON value")
	}
	return nil
}

// limit is the size of page that the client asks for.
func (c *call) limit() (int, error) {
	text := c.r.URL.Query().Get("limit")
	if text == "" {
		return defaultPage, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > maxPage {
		return 0, refuse(http.StatusBadRequest, fmt.Sprintf("limit must be a number from 1 to %d", maxPage))
	}
	return limit, nil
}

// after is where the page that the client asks for begins.
func (c *call) after() (string, error) {
	after := c.r.URL.Query().Get("after")
	if len(after) > postgres.MaxKey || !utf8.ValidString(after) || strings.ContainsRune(after, 0) {
		return "", refuse(http.StatusBadRequest, "after must be a value of next")
	}
	return after, nil
}

// bodyError says why a body could not be read.
func bodyError(err error) error {
	if problemOf(err).Status == http.StatusRequestEntityTooLarge {
		return err
	}
	return refuse(http.StatusBadRequest, "the body could not be read")
}
