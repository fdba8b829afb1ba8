// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"net/url"

	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/controllers/secret"
	"github.com/flagcache/flagcache/service/config"
)

// Keys of Secrets whose values are credentials, besides config.IntegrityKey. Others have
// addresses, user names and certificates, or URLs.
const (
	PasswordKey = "password"
	TokenKey    = "token"
)

// Credentials are all that were observed or generated: whatever others report may repeat
// them.
func (s Snapshot) Credentials() []secret.String {
	found := []secret.String{s.Fresh.Password, s.Fresh.Token, s.Fresh.IntegrityKey}
	for _, child := range s.Children {
		if holder, ok := child.(*corev1.Secret); ok {
			found = append(found, credentialsIn(holder.Data)...)
		}
	}
	return append(append(found, credentialsIn(s.ExternalSecret.Data)...), credentialsIn(s.DatabaseSecret.Data)...)
}

// credentialsIn are those in the data of a Secret.
func credentialsIn(data map[string][]byte) []secret.String {
	var found []secret.String
	for key, value := range data {
		switch key {
		case PasswordKey, TokenKey, config.IntegrityKey:
			found = append(found, secret.New(string(value)))
			continue
		}
		if address, err := url.Parse(string(value)); err == nil {
			if password, ok := address.User.Password(); ok {
				found = append(found, secret.New(password))
			}
		}
	}
	return found
}
