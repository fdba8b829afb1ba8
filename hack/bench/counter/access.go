// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package counter

import (
	"crypto/tls"
	"fmt"
	"net"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"
)

// Access is the TLS certificate of a Counter with a kubeconfig for its client.
type Access struct {
	// Certificate and Key are those of the Counter, in PEM format.
	Certificate, Key []byte
	// Kubeconfig is the client's kubeconfig.
	Kubeconfig []byte
}

// NewAccess creates the Access to a Counter on an IP address and port.
func NewAccess(address string) (Access, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return Access{}, fmt.Errorf("reading the counter's address: %w", err)
	}
	certificate, key, err := cert.GenerateSelfSignedCertKey(host, []net.IP{net.ParseIP(host)}, nil)
	if err != nil {
		return Access{}, fmt.Errorf("generating the counter's certificate: %w", err)
	}
	config := api.NewConfig()
	config.Clusters["counter"] = &api.Cluster{Server: "https://" + address, CertificateAuthorityData: certificate}
	config.Contexts["counter"] = &api.Context{Cluster: "counter"}
	config.CurrentContext = "counter"
	kubeconfig, err := clientcmd.Write(*config)
	if err != nil {
		return Access{}, fmt.Errorf("writing the counter's kubeconfig: %w", err)
	}
	return Access{Certificate: certificate, Key: key, Kubeconfig: kubeconfig}, nil
}

// KeyPair is the Counter's certificate with its key.
func (a Access) KeyPair() (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(a.Certificate, a.Key)
	if err != nil {
		return nil, fmt.Errorf("reading the counter's certificate: %w", err)
	}
	return &pair, nil
}
