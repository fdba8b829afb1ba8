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

// certificateAuthority stands for Amazon's CA: it signed one certificate, which all
// servers present.
type certificateAuthority struct {
	// certificate, chain and key are PEM.
	certificate, chain, key []byte
	roots                   *x509.CertPool
}

// newCertificateAuthority creates a CA and a certificate for hosts, which are names or
// IP addresses.
func newCertificateAuthority(hosts ...string) (*certificateAuthority, error) {
	var addresses []net.IP
	var hostnames []string
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			addresses = append(addresses, ip)
		} else {
			hostnames = append(hostnames, host)
		}
	}
	a := &certificateAuthority{roots: x509.NewCertPool()}
	var err error
	if a.chain, a.key, err = cert.GenerateSelfSignedCertKey("localhost", addresses, slices.Compact(hostnames)); err != nil {
		return nil, fmt.Errorf("generating certificates: %w", err)
	}
	a.certificate = a.chain[bytes.LastIndex(a.chain, []byte("-----BEGIN ")):] // it follows the server's
	a.roots.AppendCertsFromPEM(a.certificate)
	return a, nil
}

// write writes the files that servers need into dir.
func (a *certificateAuthority) write(dir string) error {
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "ca.crt"), a.certificate, 0o600),
		os.WriteFile(filepath.Join(dir, "server.crt"), a.chain, 0o600),
		os.WriteFile(filepath.Join(dir, "server.key"), a.key, 0o600),
	)
}

// client is the TLS configuration for connecting to a server on host.
func (a *certificateAuthority) client(host string) *tls.Config {
	return &tls.Config{RootCAs: a.roots, ServerName: host, MinVersion: tls.VersionTLS12}
}
