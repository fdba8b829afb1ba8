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

// Bounds of a directory of keys.
const (
	// MinToken is the fewest bytes that a token may have.
	MinToken = 16
	// MaxToken is the most bytes that a token may have.
	MaxToken = 4096
	// MaxClients is how many clients there may be.
	MaxClients = 1000
)

// poll is how often the directory is looked at without a notification.
const poll = 10 * time.Second

// Client is who presents a credential.
type Client struct {
	// Name is the name of the file that holds the token.
	Name string
	// Limit bounds how often the client may ask; nil is no bound. It outlives
	// a change of the token.
	Limit *rate.Limiter
	// StreamToken is a credential for event streams alone, for browsers, which can
	// send it in a URL only. It is the same on every instance and dies with the
	// client's token, which cannot be told from it.
	StreamToken string
}

// Keys are the clients' credentials, safe for concurrent use.
type Keys struct {
	dir      string
	newLimit func() *rate.Limiter
	log      *slog.Logger
	current  atomic.Pointer[keySet]
}

// keySet is what was read at one time.
type keySet struct {
	clients []*Client
	// tokens and streams are digests, by client.
	tokens, streams [][sha256.Size]byte
	// trouble says why nobody is let in.
	trouble string
	// complaints are about single files, for the log.
	complaints string
}

// NewKeys reads the keys in a directory. Each client gets a limit of its own
// from newLimit, which may return nil.
func NewKeys(dir string, newLimit func() *rate.Limiter, log *slog.Logger) *Keys {
	k := &Keys{dir: dir, newLimit: newLimit, log: log}
	k.current.Store(&keySet{})
	k.read()
	return k
}

// Run reads the keys again when they change, until ctx is done.
func (k *Keys) Run(ctx context.Context) {
	filewatch.Watch(ctx, k.log, []string{k.dir}, poll, nil, k.read)
}

// Trouble says why nobody is let in; it is empty if somebody is.
func (k *Keys) Trouble() string { return k.current.Load().trouble }

// Find returns the client whose token it is, or nil. It takes the same time for
// all tokens of a length.
func (k *Keys) Find(token string) *Client {
	current := k.current.Load()
	return current.find(current.tokens, token)
}

// FindStream returns the client whose StreamToken it is, or nil.
func (k *Keys) FindStream(token string) *Client {
	current := k.current.Load()
	return current.find(current.streams, token)
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

// read replaces the keys by what is in the directory, and says what changed.
func (k *Keys) read() {
	previous := k.current.Load()
	next := k.load(previous)
	k.current.Store(next)
	if next.complaints != "" && next.complaints != previous.complaints {
		k.log.Warn("leaving out tokens that cannot be used", "directory", k.dir, "problems", next.complaints)
	}
	switch {
	case next.trouble != "" && next.trouble != previous.trouble:
		k.log.Error("letting nobody in", "directory", k.dir, "error", next.trouble)
	case next.trouble == "" && !sameClients(previous, next):
		k.log.Info("letting clients in", "directory", k.dir, "clients", len(next.clients))
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
	next := &keySet{}
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		next.trouble = "the tokens cannot be read: " + err.Error()
		return next
	}
	var complaints []string
	for _, entry := range entries {
		// A mount's own entries start with dots.
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		token, err := readToken(filepath.Join(k.dir, entry.Name()))
		if err == nil && len(next.clients) == MaxClients {
			err = fmt.Errorf("there are more than %d clients", MaxClients)
		}
		if err != nil {
			complaints = append(complaints, entry.Name()+": "+err.Error())
			continue
		}
		next.add(entry.Name(), token, k.limitOf(entry.Name(), previous))
	}
	next.complaints = strings.Join(complaints, "; ")
	if len(next.clients) == 0 {
		next.trouble = "there is no usable token"
	}
	return next
}

// limitOf returns the limit that the client had before, or a new one.
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

// readToken reads a token, without white space around it. Its errors do not
// quote it.
func readToken(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, errors.New("it cannot be opened")
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, MaxToken+2))
	if err != nil {
		return nil, errors.New("it cannot be read")
	}
	token := bytes.TrimSpace(content)
	if len(token) < MinToken || len(token) > MaxToken {
		return nil, fmt.Errorf("a token has %d to %d bytes", MinToken, MaxToken)
	}
	return token, nil
}
