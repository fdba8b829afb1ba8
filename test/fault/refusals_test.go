// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/golden"
)

// story is a World whose user and AWS act by hand, and what a user and AWS see of it, a line for
// each change.
type story struct {
	t *testing.T
	*World
	lines []string
	// ignored is the beginning of violations that the story is about, "" for none.
	ignored string
	// seen are the lines of the conditions.
	seen map[string]string
}

// revisionNames are the names of revisions, which differ with each change of the pod template.
var revisionNames = regexp.MustCompile(`(revision |Revision |Deployment demo-)[0-9a-f]{8}`)

// reportedConditions are those that a story shows.
var reportedConditions = []string{
	v1alpha1.ConditionCacheProvisioned, v1alpha1.ConditionReady, v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled,
}

// aStory begins with a FlagCache that is Ready, unless AWS keeps it from that within five minutes.
func aStory(t *testing.T, created step, before ...step) *story {
	t.Helper()
	s := newStory(t)
	for _, b := range append(before, created) {
		s.as("user", func() { b.do(s.World) })
	}
	s.run(5 * time.Minute)
	s.lines = nil
	return s
}

// newStory begins with an empty World.
func newStory(t *testing.T) *story {
	s := scenario{name: t.Name(), inCloud: true}
	w := newWorld(s, plan{scenario: s.name})
	w.log = &[]string{}
	return &story{t: t, World: w, seen: map[string]string{}}
}

// fork continues in a copy.
func (s *story) fork(t *testing.T) *story {
	w := s.World.fork(s.plan)
	w.log = &[]string{}
	return &story{t: t, World: w, seen: maps.Clone(s.seen)}
}

// do lets somebody act, and runs the World for a time.
func (s *story) do(what string, act func(*World), long time.Duration) {
	s.lines = append(s.lines, "# "+what)
	s.setTime(s.time.Add(10 * tick))
	s.as("user", func() { act(s.World) })
	s.nextTick = s.time.Add(tick)
	s.run(long)
}

// run advances the World for a time.
func (s *story) run(long time.Duration) {
	s.t.Helper()
	for end := s.time.Add(long); s.time.Before(end); {
		s.advance(false)
		s.tell()
	}
	for _, violation := range s.violations {
		if s.ignored == "" || !strings.HasPrefix(violation, s.ignored) {
			s.t.Error(violation)
		}
	}
	s.violations = nil
}

// tell adds the calls to AWS and the conditions that have changed.
func (s *story) tell() {
	for _, line := range *s.log {
		if call, ok := strings.CutPrefix(strings.TrimSpace(line), "AWS "); ok {
			s.lines = append(s.lines, strings.TrimSpace("AWS "+call))
		}
	}
	*s.log = nil
	fc, ok := live[*v1alpha1.FlagCache](&s.api.store, flagCaches, name)
	if !ok {
		if len(s.seen) > 0 {
			s.lines = append(s.lines, "the FlagCache does not exist")
		}
		s.seen = map[string]string{}
		return
	}
	reported := map[string]bool{}
	for _, kind := range reportedConditions {
		line, message := "-", ""
		if c := meta.FindStatusCondition(fc.Status.Conditions, kind); c != nil {
			line, message = fmt.Sprintf("%s %s", c.Status, c.Reason), ": "+c.Message
		}
		if s.seen[kind] != line+message {
			s.seen[kind] = line + message
			if !reported[message] { // several conditions have the same message
				line += message
			}
			s.lines = append(s.lines, "  "+kind+" "+revisionNames.ReplaceAllString(line, "${1}REVISION"))
		}
		reported[message] = true
	}
}

// condition returns a condition of the FlagCache.
func (s *story) condition(kind string) metav1.Condition {
	s.t.Helper()
	fc, ok := live[*v1alpha1.FlagCache](&s.api.store, flagCaches, name)
	if !ok {
		s.t.Fatal("the FlagCache does not exist")
	}
	c := meta.FindStatusCondition(fc.Status.Conditions, kind)
	if c == nil {
		return metav1.Condition{Status: metav1.ConditionUnknown}
	}
	return *c
}

// expect checks a condition.
func (s *story) expect(kind string, status metav1.ConditionStatus, reason string) {
	s.t.Helper()
	if c := s.condition(kind); c.Status != status || c.Reason != reason {
		s.t.Errorf("%s is %s (%s: %s), want %s (%s)", kind, c.Status, c.Reason, c.Message, status, reason)
	}
}

// expectReady checks that the spec is carried out.
func (s *story) expectReady() {
	s.t.Helper()
	s.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionTrue, v1alpha1.ReasonProvisioned)
	s.expect(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	s.expect(v1alpha1.ConditionReconciling, metav1.ConditionUnknown, "")
}

// expectGolden compares what was reported with a golden file.
func expectGolden(t *testing.T, file string, lines []string) {
	t.Helper()
	golden.Expect(t, file, strings.Join(lines, "\n")+"\n")
}

// reasonOf a refusal is in CacheProvisioned, whether or not the group is in use.
func TestRefusedChangeOfAGroupInUse(t *testing.T) {
	ready := aStory(t, createElastiCache)
	ready.expectReady()
	const denied = "User: arn:aws:iam::123456789012:user/ack is not authorized to perform: elasticache:ModifyReplicationGroup"
	for name, test := range map[string]struct {
		refuse func(*World)
		reason string
		// ready is the status of Ready meanwhile.
		ready metav1.ConditionStatus
	}{
		"denied":    {func(w *World) { w.cloud.Refuse("ModifyReplicationGroup", "AccessDenied", denied, -1) }, v1alpha1.ReasonAWSAccessDenied, metav1.ConditionFalse},
		"throttled": {func(w *World) { w.cloud.Refuse("ModifyReplicationGroup", "Throttling", "Rate exceeded", -1) }, v1alpha1.ReasonAWSRetrying, metav1.ConditionTrue},
		"over quota": {func(w *World) {
			w.cloud.Refuse("ModifyReplicationGroup", "NodeQuotaForCustomerExceeded", "Too many nodes.", -1)
		}, v1alpha1.ReasonAWSQuotaExceeded, metav1.ConditionFalse},
		"rolled back": {func(w *World) { w.cloud.RollBack = 1 }, v1alpha1.ReasonAWSRejected, metav1.ConditionFalse},
	} {
		t.Run(name, func(t *testing.T) {
			s := ready.fork(t)
			s.events = nil
			s.do("request larger nodes", func(w *World) { test.refuse(w); requestNodes("cache.t3.small")(w) }, 3*time.Minute)
			s.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, test.reason)
			if c := s.condition(v1alpha1.ConditionReady); c.Status != test.ready {
				t.Errorf("Ready is %s (%s)", c.Status, c.Reason)
			}
			s.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
			if !slices.ContainsFunc(s.events, func(e string) bool { return strings.Contains(e, test.reason) }) {
				t.Errorf("there is no event with the reason: %q", s.events)
			}
			s.do("take that back, while AWS still refuses", requestNodes("cache.t3.micro"), 3*time.Minute)
			s.expectReady()
			expectGolden(t, "refused-change-"+strings.ReplaceAll(name, " ", "-")+".golden", s.lines)
		})
	}
}

// nodeTypeInAWS returns the node type of the only group.
func (s *story) nodeTypeInAWS() string {
	for _, g := range s.cloud.Groups {
		return *g.Spec.CacheNodeType
	}
	return ""
}

// awsCode is an error of AWS and the reason that it is reported with.
type awsCode struct{ code, reason string }

// terminalCodes are those on which ACK ends in ACK.Terminal for a group, recoverableCodes some of those
// that it retries.
var (
	terminalCodes = []awsCode{
		{"InvalidParameter", v1alpha1.ReasonAWSRejected},
		{"InvalidParameterValue", v1alpha1.ReasonAWSRejected},
		{"InvalidParameterCombination", v1alpha1.ReasonAWSRejected},
		{"InsufficientCacheClusterCapacity", v1alpha1.ReasonAWSInsufficientCapacity},
		{"ClusterQuotaForCustomerExceeded", v1alpha1.ReasonAWSQuotaExceeded},
		{"NodeQuotaForClusterExceeded", v1alpha1.ReasonAWSQuotaExceeded},
		{"NodeQuotaForCustomerExceeded", v1alpha1.ReasonAWSQuotaExceeded},
		{"InvalidVPCNetworkStateFault", v1alpha1.ReasonAWSRejected},
		{"TagQuotaPerResourceExceeded", v1alpha1.ReasonAWSRejected},
		{"NodeGroupsPerReplicationGroupQuotaExceeded", v1alpha1.ReasonAWSQuotaExceeded},
		{"InvalidCacheSecurityGroupState", v1alpha1.ReasonAWSRejected},
		{"InvalidKMSKeyFault", v1alpha1.ReasonAWSRejected},
	}
	recoverableCodes = []awsCode{
		{"AccessDenied", v1alpha1.ReasonAWSAccessDenied},
		{"AccessDeniedException", v1alpha1.ReasonAWSAccessDenied},
		{"ExpiredToken", v1alpha1.ReasonAWSRetrying},
		{"UnrecognizedClientException", v1alpha1.ReasonAWSRetrying},
		{"Throttling", v1alpha1.ReasonAWSRetrying},
		{"ThrottlingException", v1alpha1.ReasonAWSRetrying},
		{"RequestLimitExceeded", v1alpha1.ReasonAWSRetrying},
		{"InternalFailure", v1alpha1.ReasonAWSRetrying},
		{"ServiceUnavailable", v1alpha1.ReasonAWSRetrying},
		{"CacheSubnetGroupNotFoundFault", v1alpha1.ReasonAWSRetrying},
		{"CacheParameterGroupNotFound", v1alpha1.ReasonAWSRetrying},
		{"InvalidReplicationGroupState", v1alpha1.ReasonAWSRetrying},
		{"UserGroupNotFound", v1alpha1.ReasonAWSRetrying},
	}
)

// reconcileNow requests a reconcile.
func reconcileNow(value string) func(*World) {
	return func(w *World) {
		updateAs(&w.api, flagCaches, name, func(fc *v1alpha1.FlagCache) { setAnnotation(fc, v1alpha1.AnnotationReconcileAt, value) })
	}
}

// refusedStory is about one kind of call that AWS refuses.
type refusedStory struct {
	// action is the call, request what makes ACK call it, nil for what creates the FlagCache.
	action  string
	created step
	request func(*World)
	// revert takes the request back; nil if it is the creation.
	revert func(*World)
	// done reports whether AWS has what was requested.
	done func(*World) bool
}

func refusedStories() map[string]refusedStory {
	nodes := func(nodeType string) func(*World) bool {
		return func(w *World) bool {
			for _, g := range w.cloud.Groups {
				return *g.Spec.CacheNodeType == nodeType
			}
			return false
		}
	}
	parameter := func(value v1alpha1.ParameterValue) func(*World) {
		return func(w *World) {
			w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) {
				s.Cache.ElastiCache.Parameters = map[string]v1alpha1.ParameterValue{"maxmemory-policy": value}
			})
		}
	}
	return map[string]refusedStory{
		"create-a-group": {action: "CreateReplicationGroup", created: createElastiCache, done: nodes("cache.t3.micro")},
		"change-the-node-type": {
			action: "ModifyReplicationGroup", created: createElastiCache,
			request: requestNodes("cache.t3.small"), revert: requestNodes("cache.t3.micro"), done: nodes("cache.t3.small"),
		},
		"rotate-the-token": {
			action: "ModifyReplicationGroup", created: createElastiCache, request: requestRotation("today").do, done: twoTokensAccepted,
		},
		"create-a-parameter-group": {
			action: "CreateCacheParameterGroup", created: createElastiCache, request: parameter("allkeys-lru"),
			revert: func(w *World) {
				w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Cache.ElastiCache.Parameters = nil })
			},
			done: func(w *World) bool {
				for _, g := range w.cloud.Groups {
					return !strings.HasPrefix(*g.Spec.CacheParameterGroupName, "default.")
				}
				return false
			},
		},
		"create-users": {action: "CreateUser", created: createInCloud(withAllParts(withElastiCache(aFlagCache()))), done: nodes("cache.t3.micro")},
	}
}

// TestWayBackFromEachRefusal verifies that no error of AWS ends in a state that a user cannot leave: by
// taking the change back while AWS still refuses it, and by reconcile-at once AWS does not.
func TestWayBackFromEachRefusal(t *testing.T) {
	for what, test := range refusedStories() {
		t.Run(what, func(t *testing.T) {
			var lines []string
			var ready *story
			if test.request != nil {
				ready = aStory(t, test.created)
				ready.expectReady()
			}
			for _, code := range slices.Concat(terminalCodes, recoverableCodes) {
				refuse := step{"refuse", func(w *World) { w.cloud.Refuse(test.action, code.code, "The request cannot be processed.", -1) }}
				var s *story
				lines = append(lines, "", "== "+test.action+" "+code.code)
				if test.request == nil {
					s = aStory(t, test.created, refuse)
					s.expect(v1alpha1.ConditionReady, metav1.ConditionFalse, s.condition(v1alpha1.ConditionCacheProvisioned).Reason)
					lines = append(lines, "  "+v1alpha1.ConditionCacheProvisioned+" "+s.seen[v1alpha1.ConditionCacheProvisioned])
				} else {
					s = ready.fork(t)
					s.as("aws", func() { refuse.do(s.World) })
					s.do("request it", test.request, 5*time.Minute)
					s.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
				}
				if test.action == "CreateReplicationGroup" || test.action == "ModifyReplicationGroup" {
					s.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, code.reason)
				}
				lines = append(lines, withoutRetries(s.lines)...)
				if test.revert != nil {
					back := s.fork(t)
					back.lines = nil
					back.do("take it back, while AWS still refuses", test.revert, 5*time.Minute)
					back.expectReady()
					lines = append(lines, withoutRetries(back.lines)...)
				}
				s.lines = nil
				s.do("AWS permits it, and the user requests a reconcile", func(w *World) { w.cloud.Permit(); reconcileNow("now")(w) }, 5*time.Minute)
				s.expectReady()
				if !test.done(s.World) {
					t.Errorf("%s: AWS does not have what was requested", code.code)
				}
				if test.request == nil {
					s.lines = slices.DeleteFunc(s.lines, func(line string) bool {
						return strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, "  Ready True")
					})
				}
				lines = append(lines, withoutRetries(s.lines)...)
			}
			expectGolden(t, "refused-to-"+what+".golden", lines)
		})
	}
}

// withoutRetries removes calls that repeat the previous one.
func withoutRetries(lines []string) []string {
	return slices.CompactFunc(slices.Clone(lines), func(a, b string) bool { return a == b && strings.HasPrefix(a, "AWS ") })
}

// TestNodeTypeIsRequestedAgain verifies that a node type that AWS rolled back can be requested again,
// by reconcile-at and by another change of the spec.
func TestNodeTypeIsRequestedAgain(t *testing.T) {
	rolledBack := aStory(t, createElastiCache)
	rolledBack.do("request larger nodes, which AWS rolls back", func(w *World) { w.cloud.RollBack = 1; requestNodes("cache.t3.small")(w) }, 3*time.Minute)
	rolledBack.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonAWSRejected)
	for what, again := range map[string]func(*story){
		"reconcile-at": func(s *story) { s.do("request a reconcile", reconcileNow("now"), 3*time.Minute) },
		"the-spec": func(s *story) {
			s.do("take that back", requestNodes("cache.t3.micro"), 3*time.Minute)
			s.expectReady()
			s.do("request larger nodes again", requestNodes("cache.t3.small"), 3*time.Minute)
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := rolledBack.fork(t)
			s.lines = slices.Clone(rolledBack.lines)
			again(s)
			s.expectReady()
			if got := s.nodeTypeInAWS(); got != "cache.t3.small" {
				t.Errorf("AWS has %s", got)
			}
			expectGolden(t, "rolled-back-and-again-by-"+what+".golden", s.lines)
		})
	}
}

// TestHandEditedNodeTypeIsPutRight verifies that what somebody else requests of AWS, and AWS holds back, is
// replaced, whatever the last change was.
func TestHandEditedNodeTypeIsPutRight(t *testing.T) {
	s := aStory(t, createElastiCache)
	s.do("change the maintenance window", func(w *World) {
		w.user().updateSpec(func(spec *v1alpha1.FlagCacheSpec) { spec.Cache.ElastiCache.MaintenanceWindow = "sun:05:00-sun:06:00" })
	}, 2*time.Minute)
	s.expectReady()
	s.as("aws", func() {
		s.cloud.Refuse("ModifyReplicationGroup", "InvalidParameterValue", "Invalid Cache Node Type.", -1)
	})
	s.do("edit the node type of the group while the operator starts", func(w *World) {
		w.queue.ready = w.time.Add(3 * time.Minute)
		editGroups(w, func(g *ack.ReplicationGroup) { g.Spec.CacheNodeType = ptr.To("cache.nonsense") })
	}, 8*time.Minute)
	s.expectReady()
}

// TestEngineVersionIsTakenBack verifies that a version that AWS does not have can be taken back, and that
// what AWS says about an older version is reported.
func TestEngineVersionIsTakenBack(t *testing.T) {
	set := func(version string) func(*World) {
		return func(w *World) {
			w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Cache.ElastiCache.EngineVersion = version })
		}
	}
	s := aStory(t, createElastiCache)
	s.do("request a version that does not exist", func(w *World) {
		w.cloud.Refuse("ModifyReplicationGroup", "InvalidParameterValue", "Cannot find version 7.9 for redis.", -1)
		set("7.9")(w)
	}, 3*time.Minute)
	s.expect(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonAWSRejected)
	s.do("take that back", func(w *World) { w.cloud.Permit(); set("7.1")(w) }, 3*time.Minute)
	s.expectReady()
	s.do("request an older version", set("7.0"), 3*time.Minute)
	s.expect(v1alpha1.ConditionCacheProvisioned, metav1.ConditionFalse, v1alpha1.ReasonAWSRejected)
	s.expect(v1alpha1.ConditionServing, metav1.ConditionTrue, v1alpha1.ReasonServing)
	s.do("take that back", set("7.1"), 3*time.Minute)
	s.expectReady()
	expectGolden(t, "engine-version-taken-back.golden", s.lines)
}
