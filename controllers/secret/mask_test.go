// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"testing"

	"github.com/flagcache/flagcache/test/leak"
)

// TestMaskHidesValues puts values into texts in the ways in which AWS, webhooks and
// containers repeat what they were given.
func TestMaskHidesValues(t *testing.T) {
	const password = `kQ7/w rd"é%:marked`
	longer := password + "-and-more"
	m := NewMask(New(password), New("short"), String{}, New(longer), New(password))
	texts := []string{
		"InvalidParameterValue: Invalid AuthToken " + password + ".",
		"both " + password + " and " + longer,
		fmt.Sprintf("Invalid value: %q", password),
		"admission webhook denied the request: data.password: " + base64.StdEncoding.EncodeToString([]byte(password)),
		"redis://app:" + url.QueryEscape(password) + "@cache and " + url.PathEscape(password),
		(&url.URL{Scheme: "redis", User: url.UserPassword("app", password), Host: "cache"}).String(),
		"cut: " + password[:len(password)-2] + "… Next: change the spec",
	}
	searcher := leak.NewSearcher()
	if err := searcher.Add("the password", password); err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		got := m.Text(text)
		if found := searcher.Search("the text", got); len(found) > 0 || !strings.Contains(got, masked) || strings.Contains(got, "kQ7") {
			t.Errorf("%q becomes %q: %v", text, got, found)
		}
		if err := m.Error(fmt.Errorf("%s: %w", text, fs.ErrExist)); err.Error() != m.Text(text+": file already exists") || !errors.Is(err, fs.ErrExist) {
			t.Errorf("an error becomes %v", err)
		}
	}
	for _, text := range []string{"", "short", "Creating ReplicationGroup x…", "kQ7…"} {
		if got := m.Text(text); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
	if got := (Mask{}).Text(password); got != password || m.Error(nil) != nil {
		t.Errorf("a Mask of nothing returns %q, and the masked nil is %v", got, m.Error(nil))
	}
}
