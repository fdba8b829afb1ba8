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

// Access is what a Counter and its client need to know of each other.
type Access struct {
	// Certificate and Key are the Counter's, in PEM format.
	Certificate, Key []byte
	// Kubeconfig leads the client to the Counter.
	Kubeconfig []byte
}

// NewAccess makes the Access to a Counter on an IP address and port.
func NewAccess(address string) (Access, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return Access{}, fmt.Errorf("reading the counter's address: %w", err)
	}
	certificate, key, err := cert.GenerateSelfSignedCertKey(host, []net.IP{net.ParseIP(host)}, nil)
	if err != nil {
		return Access{}, fmt.Errorf("making the counter's certificate: %w", err)
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
