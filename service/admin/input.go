// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/source/postgres"
)

// Page sizes of lists.
const (
	defaultPage = 100
	maxPage     = 500
)

// environmentName matches valid names of environments; flag services accept the
// same.
var environmentName = regexp.MustCompile(`^[A-Za-z0-9._/-]{1,253}$`)

// environment returns the environment in the path.
func (c *call) environment() (string, error) {
	name := c.r.PathValue("environment")
	if !environmentName.MatchString(name) {
		return "", newProblem(http.StatusBadRequest, "an environment must have up to 253 letters, digits, dots, underscores, slashes and dashes")
	}
	return name, nil
}

// flag returns the environment and the key in the path.
func (c *call) flag() (environment, key string, err error) {
	if environment, err = c.environment(); err != nil {
		return "", "", err
	}
	key = c.r.PathValue("key")
	return environment, key, checkKey(key)
}

// checkKey restricts keys to what is safe in paths and logs.
func checkKey(key string) error {
	switch {
	case key == "" || len(key) > postgres.MaxKey:
		return newProblem(http.StatusBadRequest, fmt.Sprintf("a flag's key must have 1 to %d bytes", postgres.MaxKey))
	case key == "." || key == "..", !utf8.ValidString(key), strings.ContainsFunc(key, unicode.IsControl):
		return newProblem(http.StatusBadRequest, "a flag's key must be UTF-8 without control characters, and not . or ..")
	default:
		return nil
	}
}

// body reads the request's body, which must have the given media type.
func (c *call) body(mediaType string) ([]byte, error) {
	got, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || got != mediaType {
		return nil, newProblem(http.StatusUnsupportedMediaType, "the Content-Type must be "+mediaType)
	}
	if encoding := c.r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return nil, newProblem(http.StatusUnsupportedMediaType, "the body must not be compressed")
	}
	if size := c.r.ContentLength; size > flags.MaxSize {
		return nil, newProblem(http.StatusRequestEntityTooLarge,
			fmt.Sprintf("the body has %d bytes; the limit for all flags of an environment is %d", size, flags.MaxSize))
	}
	data, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, flags.MaxSize))
	if err != nil {
		return nil, bodyError(err)
	}
	if !utf8.Valid(data) {
		return nil, newProblem(http.StatusBadRequest, "the body is not valid UTF-8")
	}
	return data, nil
}

// decode decodes a JSON object whose members have the given names, each at most
// once.
func decode(data []byte, into any, names ...string) error {
	if err := flags.CheckSyntax(data); err != nil {
		return newProblem(http.StatusBadRequest, "the body is invalid: "+err.Error())
	}
	if err := checkMembers(data, names); err != nil {
		return newProblem(http.StatusBadRequest, "the body is invalid: "+err.Error())
	}
	if err := json.Unmarshal(data, into); err != nil {
		return newProblem(http.StatusBadRequest, "the body is invalid: "+err.Error())
	}
	return nil
}

// checkMembers checks the names of an object's members, which encoding/json
// compares without regard to case, and of which it uses the last one.
func checkMembers(object json.RawMessage, names []string) error {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if begin, err := decoder.Token(); err != nil || begin != json.Delim('{') {
		return errors.New("it must be a JSON object")
	}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		switch {
		case !slices.Contains(names, name):
			return fmt.Errorf("unknown member %q", name)
		case seen[name]:
			return fmt.Errorf("duplicate member %q", name)
		}
		seen[name] = true
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return err
		}
	}
	return nil
}

// page returns the requested start and size of a page.
func (c *call) page() (after string, limit int, err error) {
	if limit, err = c.limit(); err != nil {
		return "", 0, err
	}
	after, err = c.after()
	return after, limit, err
}

// limit returns the requested page size.
func (c *call) limit() (int, error) {
	text := c.r.URL.Query().Get("limit")
	if text == "" {
		return defaultPage, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > maxPage {
		return 0, newProblem(http.StatusBadRequest, fmt.Sprintf("limit must be a number from 1 to %d", maxPage))
	}
	return limit, nil
}

// after returns the requested start of the page.
func (c *call) after() (string, error) {
	after := c.r.URL.Query().Get("after")
	if len(after) > postgres.MaxKey || !utf8.ValidString(after) || strings.ContainsRune(after, 0) {
		return "", newProblem(http.StatusBadRequest, "after must be a value of next")
	}
	return after, nil
}

// bodyError returns the error for a body that could not be read.
func bodyError(err error) error {
	if problemOf(err).Status == http.StatusRequestEntityTooLarge {
		return err
	}
	return newProblem(http.StatusBadRequest, "the body could not be read")
}
