// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"strings"
	"testing"

	operatorplan "github.com/flagcache/flagcache/controllers/plan"
)

// TestCanaries says how the stories of canaries end with nothing going wrong: what
// all plans are compared with is the right end.
func TestCanaries(t *testing.T) {
	ends := map[string]struct {
		// serves is what the image of the revision that serves ends in.
		serves string
		// outcome of the revision that was tried last.
		outcome operatorplan.Outcome
	}{
		"canaryPromoted":             {"v2", operatorplan.Promoted},
		"canaryInTwoSteps":           {"v2", operatorplan.Promoted},
		"canaryRolledBack":           {"v1", operatorplan.RolledBack},
		"canarySuperseded":           {"v3", operatorplan.Promoted},
		"canaryTakenBack":            {"v1", operatorplan.Superseded},
		"canaryPausedAndResumed":     {"v2", operatorplan.Promoted},
		"canaryPromotedByHand":       {"v2", operatorplan.Promoted},
		"canaryAborted":              {"v1", operatorplan.RolledBack},
		"canaryRetried":              {failingImage, operatorplan.Promoted},
		"canaryInconclusive":         {"v1", operatorplan.RolledBack},
		"canaryCrashes":              {"v1", operatorplan.RolledBack},
		"canaryDeleted":              {"", ""},
		"canaryByReplicas":           {"v2", operatorplan.Promoted},
		"canaryByReplicasRolledBack": {"v1", operatorplan.RolledBack},
		"canaryByReplicasSuperseded": {"v3", operatorplan.Promoted},
		"canaryByGateway":            {"v2", operatorplan.Promoted},
		"canaryByGatewayRolledBack":  {"v1", operatorplan.RolledBack},
		"canaryByGatewayDeleted":     {"", ""},
		"canaryLoadTested":           {"v2", operatorplan.Promoted},
		"canaryLoadTestFails":        {"v1", operatorplan.RolledBack},
	}
	for _, s := range canaries {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(s, plan{scenario: s.name})
			w.drive(true)
			for _, text := range w.broken {
				t.Error(text)
			}
			want, told := ends[s.name]
			if !told {
				t.Fatal("nobody said how it is to end")
			}
			var last operatorplan.Record
			for _, o := range w.api.now(controllerRevisions) {
				if record, _ := readRecord(o); record.StartedAt.After(last.StartedAt) {
					last = record
				}
			}
			if last.Outcome != want.outcome {
				t.Errorf("revision %s is on record as %q, want %q", last.Revision, last.Outcome, want.outcome)
			}
			if image := w.imageOf(w.serving()); !strings.HasSuffix(image, want.serves) || (image == "") != (want.serves == "") {
				t.Errorf("clients are served by image %q, want %q", image, want.serves)
			}
			if len(w.promised) > 0 || len(w.shares()) > 0 {
				t.Errorf("candidates have a share: promised %v, given %v", w.promised, w.shares())
			}
		})
	}
}
