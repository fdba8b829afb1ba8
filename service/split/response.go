// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/ofrep"
)

const (
	maxResponse     = 4 << 20
	contentTypeJSON = "application/json"
	encodingGzip    = "gzip"
)

// candidateResponse is a complete response of the candidate.
type candidateResponse struct {
	status int
	header http.Header
	body   []byte
}

// question is the request that a response must answer.
type question struct {
	// key is the flag's key; "" is a request for all flags.
	key string
	// body is the request's body.
	body []byte
	// header are the forwarded headers.
	header http.Header
	// served are the flags of the stable pod; nil if it has none yet.
	served *flags.Set
	// room limits the memory of the response.
	room *room
}

// keyOf returns the key of the flag that a request is about, "" for all.
func keyOf(r *http.Request) string {
	return strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, config.PathEvaluate), "/")
}

// newQuestion returns the question of a client's request.
func newQuestion(r *http.Request, body []byte, forwarded http.Header, served *flags.Set, memory *room) question {
	key := keyOf(r)
	// JSON replaces what is not UTF-8 likewise.
	return question{key: string([]rune(key)), body: body, header: forwarded, served: served, room: memory}
}

// missingError is returned for a response without a flag that the stable pod
// serves.
type missingError struct{ key string }

func (e *missingError) Error() string {
	return fmt.Sprintf("flag %q, which this pod serves, is missing", e.key)
}

// check returns an error for a response that does not answer the question. The
// stable pod has already validated the request's method, size and credentials,
// so any other status, such as 401 or 429, is a failure of the candidate.
func (a candidateResponse) check(q question, revision string) error {
	if answered := a.header.Get(config.HeaderRevision); answered != "" && answered != revision {
		return fmt.Errorf("revision %q answered", answered)
	}
	switch {
	case a.status == http.StatusNotModified && q.key == "":
		return a.checkNotModified(q)
	case a.status == http.StatusOK, a.status == http.StatusBadRequest, a.status == http.StatusNotFound && q.key != "":
	default:
		return fmt.Errorf("the status is %d", a.status)
	}
	content, err := a.content(q)
	if err != nil {
		return err
	}
	answer, err := readObject(content)
	switch {
	case err != nil:
		return err
	case a.status != http.StatusOK:
		return answer.checkFailure(a.status, q)
	case q.key == "":
		return answer.checkBulk(q)
	default:
		return answer.checkSuccess(q.key)
	}
}

// checkNotModified checks that a 304 has one of the tags of the request. The
// tags of a compressed response and of the same one without compression are
// equivalent.
func (a candidateResponse) checkNotModified(q question) error {
	plain := func(tags string) string { return strings.ReplaceAll(tags, `-gzip"`, `"`) }
	known, tag := plain(strings.Join(q.header["If-None-Match"], ",")), strings.TrimPrefix(plain(a.header.Get("ETag")), "W/")
	if len(tag) > 2 && (strings.Contains(known, tag) || strings.Contains(known, "*")) {
		return nil
	}
	return errors.New("the status is 304, without a tag of the request")
}

// content returns the body without compression.
func (a candidateResponse) content(q question) ([]byte, error) {
	mediaType, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	coding := strings.Join(a.header["Content-Encoding"], ",")
	switch {
	case len(a.body) > maxResponse:
		return nil, errTooLarge
	case !strings.EqualFold(strings.TrimSpace(mediaType), contentTypeJSON):
		return nil, fmt.Errorf("the content type is %q", mediaType)
	case coding == "":
		return a.body, nil
	case coding != encodingGzip || q.header["Accept-Encoding"] == nil:
		return nil, fmt.Errorf("the content encoding is %q", coding)
	}
	reader, err := gzip.NewReader(bytes.NewReader(a.body))
	if err != nil {
		return nil, fmt.Errorf("decompressing the body: %w", err)
	}
	content, err := q.room.read(reader)
	switch {
	case err != nil:
		return nil, fmt.Errorf("decompressing the body: %w", err)
	case len(content) > maxResponse:
		return nil, errTooLarge
	}
	return content, nil
}

var errTooLarge = fmt.Errorf("the body is larger than %d bytes", maxResponse)

// object is a JSON object of the protocol.
type object map[string]json.RawMessage

func readObject(content []byte) (object, error) {
	if !utf8.Valid(content) {
		return nil, errors.New("the body is not UTF-8")
	}
	var o object
	if err := json.Unmarshal(content, &o); err != nil {
		return nil, fmt.Errorf("the body is not a JSON object: %w", err)
	}
	return o, nil
}

// text returns a member that is a non-empty string, "" for any other.
func (o object) text(name string) string {
	var text string
	if json.Unmarshal(o[name], &text) != nil {
		return ""
	}
	return text
}

// kindOf returns the first character of a member's value, 0 if it is absent.
func (o object) kindOf(name string) byte {
	if value := bytes.TrimSpace(o[name]); len(value) > 0 {
		return value[0]
	}
	return 0
}

// checkMetadata checks the member that all responses may have.
func (o object) checkMetadata() error {
	if kind := o.kindOf("metadata"); kind != 0 && kind != '{' {
		return errors.New("metadata is not an object")
	}
	return nil
}

// checkSuccess checks a successful evaluation of a flag.
func (o object) checkSuccess(key string) error {
	switch {
	case o.text("key") != key:
		return fmt.Errorf("it is about flag %q", o.text("key"))
	case o["errorCode"] != nil:
		return errors.New("a successful evaluation has an error code")
	case o.text("reason") == "", o.text("reason") == string(flags.ReasonError):
		return errors.New("a successful evaluation has no reason")
	case o.kindOf("value") == 'n':
		return errors.New("the value is null")
	case o["variant"] != nil && o.kindOf("variant") != '"':
		return errors.New("the variant is not a string")
	}
	return o.checkMetadata()
}

// checkFailure checks an error response and its status.
func (o object) checkFailure(status int, q question) error {
	code := o.text("errorCode")
	switch {
	case code == "":
		return errors.New("an error response has no error code")
	case o.text("key") != q.key && (q.key != "" || o["key"] != nil):
		return fmt.Errorf("it is about flag %q", o.text("key"))
	case (code == codeFlagNotFound) != (status == http.StatusNotFound):
		return fmt.Errorf("the status is %d with error code %q", status, code)
	case o["errorDetails"] != nil && o.kindOf("errorDetails") != '"':
		return errors.New("errorDetails is not a string")
	case code == codeInvalidContext && q.isValid():
		return errors.New("the candidate rejects a valid context")
	case (status == http.StatusNotFound || o.text("errorDetails") == ofrep.DetailsRejected) && q.serves(q.key):
		return &missingError{q.key}
	}
	return o.checkMetadata()
}

// Error codes of the protocol whose meaning is checked.
const (
	codeFlagNotFound   = "FLAG_NOT_FOUND"
	codeInvalidContext = "INVALID_CONTEXT"
)

// isValid reports whether the stable pod accepts the request's body.
func (q question) isValid() bool {
	if q.served == nil {
		return false
	}
	context := flags.NewContext()
	defer context.Release()
	return context.Read(string(q.body), q.served.Attributes()) == nil
}

func (q question) serves(key string) bool {
	if q.served == nil {
		return false
	}
	_, served := q.served.Flag(key)
	return served
}

// checkBulk checks a response with all flags.
func (o object) checkBulk(q question) error {
	var list []object
	if o.kindOf("flags") != '[' || json.Unmarshal(o["flags"], &list) != nil {
		return errors.New("flags is not a list of objects")
	}
	seen := make(map[string]struct{}, len(list))
	for _, flag := range list {
		key := flag.text("key")
		if _, twice := seen[key]; twice || key == "" {
			return fmt.Errorf("the key of a flag is missing or duplicate: %q", key)
		}
		seen[key] = struct{}{}
		err := flag.checkSuccess(key)
		if flag["errorCode"] != nil {
			err = flag.checkFailure(http.StatusBadRequest, question{key: key})
		}
		if err != nil {
			return fmt.Errorf("checking flag %q: %w", key, err)
		}
	}
	if q.served != nil {
		for _, flag := range q.served.Flags() {
			if _, ok := seen[string([]rune(flag.Key))]; !ok {
				return &missingError{flag.Key}
			}
		}
	}
	if kind := o.kindOf("eventStreams"); kind != 0 && kind != '[' {
		return errors.New("eventStreams is not a list")
	}
	return o.checkMetadata()
}

// send sends the response to the client. Headers that only the stable pod has
// set are kept.
func (a candidateResponse) send(w http.ResponseWriter) (status int) {
	header := w.Header()
	for name, values := range endToEnd(a.header) {
		header[name] = values
	}
	if a.status != http.StatusNotModified {
		header["Content-Length"] = []string{strconv.Itoa(len(a.body))}
	}
	w.WriteHeader(a.status)
	// A failed write means that the client has disconnected.
	_, _ = w.Write(a.body)
	return a.status
}

// rejectDraining is the response of a draining pod to a forwarded request.
func rejectDraining(w http.ResponseWriter) (status int) {
	header := w.Header()
	header[headerSplit] = []string{config.SplitDraining}
	header["Connection"] = []string{"close"}
	header["Content-Length"] = []string{"0"}
	w.WriteHeader(http.StatusServiceUnavailable)
	return http.StatusServiceUnavailable
}
