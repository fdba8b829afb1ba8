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
	leastTimeout   = 10 * time.Millisecond
	// mostTimeout leaves a stable pod time to answer by itself before its own
	// limits and those of clients.
	mostTimeout = 5 * time.Second
)

// order is what the operator's file says. The zero value hands nothing on.
type order struct {
	revision string
	// host is the candidate's Service, host:port.
	host string
	// share is in parts of the traffic.
	share   uint64
	timeout time.Duration
}

// readOrder reads the file. An absent one is the zero order, and so is, with its
// error, one that cannot be understood.
func readOrder(path string) (order, error) {
	data, err := readFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return order{}, nil
	case err != nil:
		return order{}, fmt.Errorf("reading the split: %w", err)
	}
	o, err := parseOrder(data)
	if err != nil {
		return order{}, fmt.Errorf("understanding the split: %w", err)
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

// parseOrder understands the file. Fields that it does not know are another
// version's and mean nothing.
func parseOrder(data []byte) (order, error) {
	var file struct {
		Revision string  `json:"revision"`
		Address  string  `json:"address"`
		Weight   float64 `json:"weight"`
		Timeout  string  `json:"timeout"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return order{}, err
	}
	if file.Weight == 0 {
		return order{}, nil
	}
	o := order{revision: file.Revision, share: uint64(math.Round(file.Weight * parts / 100)), timeout: defaultTimeout}
	if file.Weight < 0 || file.Weight > 100 || o.share == 0 {
		return order{}, fmt.Errorf("weight is %v; it must be a percentage from 0.01 to 100, or 0", file.Weight)
	}
	if !revisionForm.MatchString(o.revision) {
		return order{}, fmt.Errorf("revision is %q; it must be up to 253 letters, digits, dots, underscores and dashes", o.revision)
	}
	var err error
	if o.host, err = hostOf(file.Address); err != nil {
		return order{}, err
	}
	if file.Timeout == "" {
		return o, nil
	}
	if o.timeout, err = time.ParseDuration(file.Timeout); err != nil || o.timeout < leastTimeout || o.timeout > mostTimeout {
		return order{}, fmt.Errorf("timeout is %q; it must be a duration from %s to %s, such as %s", file.Timeout, leastTimeout, mostTimeout, defaultTimeout)
	}
	return o, nil
}

// hostOf takes an address apart. Between pods of one FlagCache it is plain HTTP,
// and the path is the request's.
func hostOf(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || *u != (url.URL{Scheme: "http", Host: u.Host}) {
		return "", fmt.Errorf("address is %q; it must be a URL such as http://name.namespace.svc:80", address)
	}
	return u.Host, nil
}
