// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Assets is "kube assets DIR": it sets up DIR for use as KUBEBUILDER_ASSETS of envtest.
func Assets(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: kube assets DIR")
	}
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the executable: %w", err)
	}
	if err := os.MkdirAll(args[0], 0o755); err != nil {
		return fmt.Errorf("creating the directory of assets: %w", err)
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kubectl"} {
		link := filepath.Join(args[0], name)
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("replacing the link %s: %w", name, err)
		}
		if err := os.Symlink(executable, link); err != nil {
			return fmt.Errorf("linking %s: %w", name, err)
		}
	}
	return nil
}
