// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package acklives

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// TestMain lets all lives run at the same time, because they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	log.SetLogger(logr.Discard())
	if err := flag.Set("test.parallel", strconv.Itoa(len(lives()))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
