// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ack

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// absentFields are fields of the AWS API that the CRD does not have.
var absentFields = strings.Fields(`autoMinorVersionUpgrade clusterMode finalSnapshotIdentifier numCacheClusters transitEncryptionMode`)

// TestEveryFieldIsDocumented compares the table in docs/elasticache.md with the fields of
// a ReplicationGroup's spec.
func TestEveryFieldIsDocumented(t *testing.T) {
	fields := slices.Clone(absentFields)
	spec := reflect.TypeFor[ReplicationGroupSpec]()
	for i := range spec.NumField() {
		name, _, _ := strings.Cut(spec.Field(i).Tag.Get("json"), ",")
		fields = append(fields, name)
	}
	documented := documentedFields(t)
	for _, name := range fields {
		if documented[name] == "" {
			t.Errorf("%s is missing from the table", name)
		}
	}
	for name := range documented {
		if !slices.Contains(fields, name) {
			t.Errorf("%s is in the table but not a field", name)
		}
	}
}

// documentedFields returns the first two columns of the table of fields. The third must
// not be empty.
func documentedFields(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/elasticache.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Field by field\n")
	section, _, _ = strings.Cut(section, "\n## ")
	fields := map[string]string{}
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		name, how := strings.Trim(cells[1], " `"), strings.TrimSpace(cells[2])
		if !slices.Contains([]string{"settable", "fixed", "not supported"}, how) || strings.TrimSpace(cells[3]) == "" {
			t.Errorf("%s is %q, for the reason %q", name, how, cells[3])
		}
		if fields[name] != "" {
			t.Errorf("%s is documented twice", name)
		}
		fields[name] = how
	}
	return fields
}
