// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/flagcache/flagcache/service/filewatch"
)

// Limits of a directory of keys.
const (
	// MinToken is the minimum length of a token in bytes.
	MinToken = 16
	// MaxToken is the maximum length of a token in bytes.
	MaxToken = 4096
	// MaxClients is the maximum number of clients.
	MaxClients = 1000
)

// poll is the interval at which the directory is read without a notification.
const poll = 10 * time.Second

// Client is the holder of a credential.
type Client struct {
	// Name is the name of the token's file.
	Name string
	// Limit is the client's rate limit; nil is none. It survives a change of the
	// token.
	Limit *rate.Limiter
	// StreamToken is a credential for event streams only, for browsers, which can
	// only send it in a URL. It is the same on every instance, and expires with the
	// client's token, which cannot be derived from it.
	StreamToken string
}

// Keys are the clients' credentials. They are safe for concurrent use.
type Keys struct {
	dir      string
	newLimit func() *rate.Limiter
	log      *slog.Logger
	current  atomic.Pointer[keySet]
}

// keySet is the content of the directory at one time.
type keySet struct {
	clients []*Client
	// tokens and streams are the digests of the clients' tokens, by client.
	tokens, streams [][sha256.Size]byte
	// replaced is closed when other clients or tokens are loaded.
	replaced chan struct{}
	// problem is why all requests are denied, empty if they are not.
	problem string
	// invalid describes the files without a valid token, for the log.
	invalid string
}

// NewKeys reads the keys in a directory. Each client gets its own limit from
// newLimit, which may return nil.
func NewKeys(dir string, newLimit func() *rate.Limiter, log *slog.Logger) *Keys {
	k := &Keys{dir: dir, newLimit: newLimit, log: log}
	k.current.Store(&keySet{replaced: make(chan struct{})})
	k.read()
	return k
}

// Run reloads the keys when they change, until ctx is done.
func (k *Keys) Run(ctx context.Context) {
	filewatch.Watch(ctx, k.log, []string{k.dir}, poll, nil, k.read)
}

// Problem returns why all requests are denied; it is empty if there is a valid
// token.
func (k *Keys) Problem() string { return k.current.Load().problem }

// Find returns the client with the given token, or nil. It takes the same time
// for all tokens of the same length.
func (k *Keys) Find(token string) *Client {
	current := k.current.Load()
	return current.find(current.tokens, token)
}

// FindStream returns the client with the given StreamToken, or nil.
func (k *Keys) FindStream(token string) *Client {
	current := k.current.Load()
	return current.find(current.streams, token)
}

// Valid reports whether the client's token is still valid, and returns a channel
// that is closed when that may have changed. Without keys every client is valid.
func (k *Keys) Valid(client *Client) (valid bool, changed <-chan struct{}) {
	if k == nil {
		return true, nil
	}
	current := k.current.Load()
	return current.find(current.streams, client.StreamToken) != nil, current.replaced
}

func (s *keySet) find(digests [][sha256.Size]byte, token string) *Client {
	digest := sha256.Sum256([]byte(token))
	found := -1
	for i := range digests {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(digest[:], digests[i][:]), i, found)
	}
	if found < 0 {
		return nil
	}
	return s.clients[found]
}

// read reloads the keys from the directory and logs what changed.
func (k *Keys) read() {
	previous := k.current.Load()
	next := k.load(previous)
	same := sameClients(previous, next)
	if same {
		next.replaced = previous.replaced
	}
	k.current.Store(next)
	if !same {
		close(previous.replaced)
	}
	if next.invalid != "" && next.invalid != previous.invalid {
		k.log.Warn("ignoring invalid tokens", "directory", k.dir, "problems", next.invalid)
	}
	switch {
	case next.problem != "" && next.problem != previous.problem:
		k.log.Error("denying all requests", "directory", k.dir, "error", next.problem)
	case next.problem == "" && !same:
		k.log.Info("loaded the clients' tokens", "directory", k.dir, "clients", len(next.clients))
	}
}

func sameClients(a, b *keySet) bool {
	if len(a.clients) != len(b.clients) {
		return false
	}
	for i := range a.clients {
		if a.clients[i].Name != b.clients[i].Name || a.tokens[i] != b.tokens[i] {
			return false
		}
	}
	return true
}

func (k *Keys) load(previous *keySet) *keySet {
	next := &keySet{replaced: make(chan struct{})}
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		next.problem = "reading the tokens: " + err.Error()
		return next
	}
	var complaints []string
	for _, entry := range entries {
		// Entries that start with a dot belong to the mount itself.
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		token, err := readToken(filepath.Join(k.dir, entry.Name()))
		if err == nil && len(next.clients) == MaxClients {
			err = fmt.Errorf("more than %d clients", MaxClients)
		}
		if err != nil {
			complaints = append(complaints, entry.Name()+": "+err.Error())
			continue
		}
		next.add(entry.Name(), token, k.limitOf(entry.Name(), previous))
	}
	next.invalid = strings.Join(complaints, "; ")
	if len(next.clients) == 0 {
		next.problem = "no valid token"
	}
	return next
}

// limitOf returns the client's previous limit, or a new one.
func (k *Keys) limitOf(name string, previous *keySet) *rate.Limiter {
	for _, client := range previous.clients {
		if client.Name == name {
			return client.Limit
		}
	}
	return k.newLimit()
}

func (s *keySet) add(name string, token []byte, limit *rate.Limiter) {
	derived := hmac.New(sha256.New, token)
	derived.Write([]byte("flagcache event stream"))
	stream := base64.RawURLEncoding.EncodeToString(derived.Sum(nil))
	s.clients = append(s.clients, &Client{Name: name, Limit: limit, StreamToken: stream})
	s.tokens = append(s.tokens, sha256.Sum256(token))
	s.streams = append(s.streams, sha256.Sum256([]byte(stream)))
}

// readToken reads a token and trims white space. Its errors do not quote the
// token.
func readToken(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, errors.New("the file cannot be opened")
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, MaxToken+2))
	if err != nil {
		return nil, errors.New("the file cannot be read")
	}
	token := bytes.TrimSpace(content)
	if len(token) < MinToken || len(token) > MaxToken {
		return nil, fmt.Errorf("a token must have %d to %d bytes", MinToken, MaxToken)
	}
	if bytes.HasPrefix(token, []byte("\xef\xbb\xbf")) {
		return nil, errors.New("the file begins with a byte order mark, which clients do not send")
	}
	if bytes.ContainsFunc(token, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, errors.New("a token must be one line of printable ASCII")
	}
	return token, nil
}
