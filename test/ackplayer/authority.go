// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackplayer

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/client-go/util/cert"
)

// authority stands for Amazon's: it has signed one certificate, which all servers
// show.
type authority struct {
	// ca, chain and key are PEM.
	ca, chain, key []byte
	roots          *x509.CertPool
}

// newAuthority makes an authority and a certificate for hosts, names or addresses.
func newAuthority(hosts ...string) (*authority, error) {
	var addresses []net.IP
	var hostnames []string
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			addresses = append(addresses, ip)
		} else {
			hostnames = append(hostnames, host)
		}
	}
	a := &authority{roots: x509.NewCertPool()}
	var err error
	if a.chain, a.key, err = cert.GenerateSelfSignedCertKey("localhost", addresses, slices.Compact(hostnames)); err != nil {
		return nil, fmt.Errorf("making certificates: %w", err)
	}
	a.ca = a.chain[bytes.LastIndex(a.chain, []byte("-----BEGIN ")):] // it comes after the servers'
	a.roots.AppendCertsFromPEM(a.ca)
	return a, nil
}

// write puts what servers need into dir.
func (a *authority) write(dir string) error {
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "ca.crt"), a.ca, 0o600),
		os.WriteFile(filepath.Join(dir, "server.crt"), a.chain, 0o600),
		os.WriteFile(filepath.Join(dir, "server.key"), a.key, 0o600),
	)
}

// client is how to connect to a server of host.
func (a *authority) client(host string) *tls.Config {
	return &tls.Config{RootCAs: a.roots, ServerName: host, MinVersion: tls.VersionTLS12}
}
