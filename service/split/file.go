// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package split

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/url"
	"os"
	"regexp"
	"time"
)

const (
	maxFileSize    = 16 << 10
	defaultTimeout = time.Second
	minTimeout     = 10 * time.Millisecond
	// maxTimeout leaves a stable pod time to answer locally before its own timeouts
	// and those of clients.
	maxTimeout = 5 * time.Second
)

// spec is the content of the operator's file. The zero value forwards nothing.
type spec struct {
	revision string
	// host is host:port of the candidate's Service.
	host string
	// share is the share in parts of the traffic.
	share   uint64
	timeout time.Duration
}

// readSpec reads the file. It returns the zero spec for an absent file, and
// with an error for an invalid one.
func readSpec(path string) (spec, error) {
	data, err := readFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return spec{}, nil
	case err != nil:
		return spec{}, fmt.Errorf("reading the split: %w", err)
	}
	o, err := parseSpec(data)
	if err != nil {
		return spec{}, fmt.Errorf("parsing the split: %w", err)
	}
	return o, nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err == nil && len(data) > maxFileSize {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFileSize)
	}
	return data, err
}

var revisionForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,253}$`)

// parseSpec parses the file. Unknown fields, which another version may have
// added, are ignored.
func parseSpec(data []byte) (spec, error) {
	var file struct {
		Revision string  `json:"revision"`
		Address  string  `json:"address"`
		Weight   float64 `json:"weight"`
		Timeout  string  `json:"timeout"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return spec{}, err
	}
	if file.Weight == 0 {
		return spec{}, nil
	}
	o := spec{revision: file.Revision, share: uint64(math.Round(file.Weight * parts / 100)), timeout: defaultTimeout}
	if file.Weight < 0 || file.Weight > 100 || o.share == 0 {
		return spec{}, fmt.Errorf("weight is %v; it must be a percentage from 0.01 to 100, or 0", file.Weight)
	}
	if !revisionForm.MatchString(o.revision) {
		return spec{}, fmt.Errorf("revision is %q; it must be up to 253 letters, digits, dots, underscores and dashes", o.revision)
	}
	var err error
	if o.host, err = hostOf(file.Address); err != nil {
		return spec{}, err
	}
	if file.Timeout == "" {
		return o, nil
	}
	if o.timeout, err = time.ParseDuration(file.Timeout); err != nil || o.timeout < minTimeout || o.timeout > maxTimeout {
		return spec{}, fmt.Errorf("timeout is %q; it must be a duration from %s to %s, such as %s", file.Timeout, minTimeout, maxTimeout, defaultTimeout)
	}
	return o, nil
}

// hostOf returns the host of an address. Pods of a FlagCache use plain HTTP,
// and the path is that of the request.
func hostOf(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || *u != (url.URL{Scheme: "http", Host: u.Host}) {
		return "", fmt.Errorf("address is %q; it must be a URL such as http://name.namespace.svc:80", address)
	}
	return u.Host, nil
}
