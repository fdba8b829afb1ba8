// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ackcrds

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/programs"
)

//go:embed metricalarms.yaml
var metricAlarms []byte

// sources are the files of ACK's modules. The common ones are of ACK's runtime, and every
// controller has them too.
var sources = []struct{ module, files string }{
	{"github.com/aws-controllers-k8s/elasticache-controller", "config/crd/bases/*.yaml"},
	{"github.com/aws-controllers-k8s/elasticache-controller", "config/crd/common/bases/*.yaml"},
	{"github.com/aws-controllers-k8s/ec2-controller", "config/crd/bases/*_securitygroups.yaml"},
}

// All returns all CRDs that the elasticache-controller needs, and those of the other kinds
// that FlagCache uses. They are larger than a client-side kubectl apply allows: apply them
// with --server-side.
func All(ctx context.Context) ([]*unstructured.Unstructured, error) {
	alarms, err := decode(metricAlarms)
	if err != nil {
		return nil, fmt.Errorf("reading metricalarms.yaml: %w", err)
	}
	crds := []*unstructured.Unstructured{alarms}
	for _, source := range sources {
		found, err := read(ctx, source.module, source.files)
		if err != nil {
			return nil, fmt.Errorf("reading the CRDs of %s: %w", source.module, err)
		}
		crds = append(crds, found...)
	}
	return crds, nil
}

// Of returns the CRD of a kind that FlagCache uses.
func Of(ctx context.Context, kind ack.Kind) (*unstructured.Unstructured, error) {
	crds, err := All(ctx)
	if err != nil {
		return nil, err
	}
	for _, crd := range crds {
		if crd.GetName() == kind.CRD() {
			return crd, nil
		}
	}
	return nil, fmt.Errorf("no module of ACK has the CRD %s", kind.CRD())
}

// read decodes the files of a module that match a pattern.
func read(ctx context.Context, module, pattern string) ([]*unstructured.Unstructured, error) {
	dir, err := programs.Module(ctx, ".", module)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no file matches %s (%w)", pattern, err)
	}
	var crds []*unstructured.Unstructured
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		crd, err := decode(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
		crds = append(crds, crd)
	}
	return crds, nil
}

func decode(text []byte) (*unstructured.Unstructured, error) {
	crd := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(text, &crd.Object); err != nil {
		return nil, err
	}
	if crd.GroupVersionKind() != definitions {
		return nil, fmt.Errorf("it is a %s", crd.GroupVersionKind())
	}
	return crd, nil
}
