// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

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

// Authority stands for Amazon's CA: it signed one certificate, which all
// servers present.
type Authority struct {
	// Certificate is the CA's own, in PEM.
	Certificate []byte
	// chain and key are those of the servers, in PEM.
	chain, key []byte
	roots      *x509.CertPool
}

// NewAuthority creates a CA and a certificate for hosts, which are names or
// IP addresses.
func NewAuthority(hosts ...string) (*Authority, error) {
	var addresses []net.IP
	var hostnames []string
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			addresses = append(addresses, ip)
		} else {
			hostnames = append(hostnames, host)
		}
	}
	a := &Authority{roots: x509.NewCertPool()}
	var err error
	if a.chain, a.key, err = cert.GenerateSelfSignedCertKey("localhost", addresses, slices.Compact(hostnames)); err != nil {
		return nil, fmt.Errorf("generating certificates: %w", err)
	}
	a.Certificate = a.chain[bytes.LastIndex(a.chain, []byte("-----BEGIN ")):] // it follows the server's
	a.roots.AppendCertsFromPEM(a.Certificate)
	return a, nil
}

// Write writes the files that servers need into dir.
func (a *Authority) Write(dir string) error {
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "ca.crt"), a.Certificate, 0o600),
		os.WriteFile(filepath.Join(dir, "server.crt"), a.chain, 0o600),
		os.WriteFile(filepath.Join(dir, "server.key"), a.key, 0o600),
	)
}

// client is the TLS configuration for connecting to a server on host.
func (a *Authority) client(host string) *tls.Config {
	return &tls.Config{RootCAs: a.roots, ServerName: host, MinVersion: tls.VersionTLS12}
}
