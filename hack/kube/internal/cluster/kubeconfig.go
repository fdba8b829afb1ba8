// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// user is a user that the API server authenticates by a token.
type user struct {
	file   string // base name of the kubeconfig in the state directory
	name   string
	groups string
	token  string
}

// newUsers returns the users of a cluster, each with its own token. Their names are
// those that the default roles of Kubernetes are bound to.
func newUsers() []user {
	users := []user{
		{file: "admin", name: "admin", groups: "system:masters"},
		{file: "controller-manager", name: "system:kube-controller-manager"},
		{file: "scheduler", name: "system:kube-scheduler"},
		{file: "kubelet", name: "system:node:local", groups: "system:nodes"},
		{file: "proxy", name: "system:kube-proxy"},
	}
	for i := range users {
		users[i].token = newToken()
	}
	return users
}

func newToken() string {
	token := make([]byte, 16)
	rand.Read(token) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(token)
}

// tokenFile is the content for kube-apiserver --token-auth-file.
func tokenFile(users []user) string {
	var lines strings.Builder
	for _, u := range users {
		fmt.Fprintf(&lines, "%s,%s,%s,%q\n", u.token, u.name, u.name, u.groups)
	}
	return lines.String()
}

// writeKubeconfig writes a kubeconfig for a user of the API server at url.
func writeKubeconfig(path, name, url string, authority []byte, u user) error {
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: url, CertificateAuthorityData: authority}
	config.AuthInfos[u.name] = &clientcmdapi.AuthInfo{Token: u.token}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: u.name}
	config.CurrentContext = name
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("writing the kubeconfig of %s: %w", u.name, err)
	}
	return nil
}

// writeServiceAccountKey generates the key that signs service account tokens.
func writeServiceAccountKey(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("generating the service account key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding the service account key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("writing the service account key: %w", err)
	}
	return nil
}
