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

// replicationGroupFields are all fields of a ReplicationGroup's spec in the CRD of
// ACK's elasticache-controller v1.8.0.
var replicationGroupFields = strings.Fields(`
	atRestEncryptionEnabled authToken automaticFailoverEnabled cacheNodeType cacheParameterGroupName cacheParameterGroupRef
	cacheSecurityGroupNames cacheSubnetGroupName cacheSubnetGroupRef dataTieringEnabled description durability engine
	engineVersion ipDiscovery kmsKeyID kmsKeyRef logDeliveryConfigurations multiAZEnabled networkType nodeGroupConfiguration
	notificationTopicARN notificationTopicRef numNodeGroups port preferredCacheClusterAZs preferredMaintenanceWindow
	primaryClusterID replicasPerNodeGroup replicationGroupID securityGroupIDs securityGroupRefs snapshotARNs snapshotName
	snapshotRef snapshotRetentionLimit snapshotWindow tags transitEncryptionEnabled userGroupIDs userGroupRefs`)

// absentFields are what AWS' own API has and the CRD has not.
var absentFields = strings.Fields(`autoMinorVersionUpgrade clusterMode finalSnapshotIdentifier numCacheClusters transitEncryptionMode`)

// TestEveryFieldIsDocumented holds the table in docs/elasticache.md to the CRD's
// fields and to those that are written.
func TestEveryFieldIsDocumented(t *testing.T) {
	documented := documentedFields(t)
	for _, name := range slices.Concat(replicationGroupFields, absentFields) {
		if documented[name] == "" {
			t.Errorf("%s is not in the table", name)
		}
	}
	for name := range documented {
		if !slices.Contains(slices.Concat(replicationGroupFields, absentFields), name) {
			t.Errorf("%s is in the table and no field", name)
		}
	}
	spec := reflect.TypeFor[ReplicationGroupSpec]()
	written := map[string]bool{}
	for i := range spec.NumField() {
		name, _, _ := strings.Cut(spec.Field(i).Tag.Get("json"), ",")
		written[name] = true
		if !slices.Contains(replicationGroupFields, name) {
			t.Errorf("%s is written and no field of the CRD", name)
		}
		if documented[name] == "not supported" {
			t.Errorf("%s is written, and documented as not supported", name)
		}
	}
	for name, how := range documented {
		// A port that is fixed by being left out.
		if how != "not supported" && !written[name] && name != "port" {
			t.Errorf("%s is documented as %s, and not written", name, how)
		}
	}
}

// documentedFields are the first two columns of the table of fields, and fail the
// test where the third says nothing.
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
			t.Errorf("%s is there twice", name)
		}
		fields[name] = how
	}
	return fields
}
