// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// sdkError is how the AWS SDK wraps an error of AWS; the ID differs at each attempt.
func sdkError(code, text string, try int) string {
	return fmt.Sprintf("operation error ElastiCache: CreateReplicationGroup, https response error StatusCode: 400, RequestID: 6f0a-%d, api error %s: %s", try, code, text)
}

// ackReports writes conditions as ACK reports them about the group.
func (c *cloud) ackReports(conditions ...*ack.Condition) {
	c.now = c.now.Add(time.Second)
	for _, condition := range conditions {
		condition.LastTransitionTime = ptr.To(metav1.NewTime(c.now))
	}
	c.group().Status.Conditions = conditions
}

func terminal(message string) []*ack.Condition {
	return []*ack.Condition{
		{Type: ack.ConditionTerminal, Status: corev1.ConditionTrue, Message: &message},
		{Type: ack.ConditionSynced, Status: corev1.ConditionFalse, Reason: ptr.To("resource is in terminal condition"), Message: ptr.To("Resource not synced")},
		{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Reason: ptr.To("ACK.Terminal"), Message: &message},
	}
}

func recoverable(message string) []*ack.Condition {
	return []*ack.Condition{
		{Type: ack.ConditionRecoverable, Status: corev1.ConditionTrue, Message: &message},
		{Type: ack.ConditionSynced, Status: corev1.ConditionUnknown, Reason: &message, Message: ptr.To("Unable to determine if desired resource state matches latest observed state")},
		{Type: ack.ConditionReady, Status: corev1.ConditionFalse, Reason: ptr.To("ACK.Recoverable"), Message: &message},
	}
}

// refusalCase is what ACK reports about a group that AWS does not create, at each attempt,
// and the message for users.
type refusalCase struct {
	conditions func(try int) []*ack.Condition
	reason     string
	message    []string
	stalled    bool
}

func terminalCodes() map[string]refusalCase {
	of := func(code, reason, next string, stalled bool) refusalCase {
		return refusalCase{
			conditions: func(try int) []*ack.Condition {
				return terminal(sdkError(code, "The request cannot be processed.", try))
			},
			reason: reason, message: []string{code, "The request cannot be processed", "Next: " + next}, stalled: stalled,
		}
	}
	cases := map[string]refusalCase{}
	for _, code := range []string{
		"ClusterQuotaForCustomerExceeded", "ClusterQuotaForCustomerExceededFault", "NodeQuotaForClusterExceeded", "NodeQuotaForClusterExceededFault",
		"NodeQuotaForCustomerExceeded", "NodeQuotaForCustomerExceededFault", "NodeGroupsPerReplicationGroupQuotaExceeded",
		"NodeGroupsPerReplicationGroupQuotaExceededFault",
	} {
		cases[code] = of(code, v1alpha1.ReasonAWSQuotaExceeded, "raise the quota", false)
	}
	for _, code := range []string{"InsufficientCacheClusterCapacity", "InsufficientCacheClusterCapacityFault"} {
		cases[code] = of(code, v1alpha1.ReasonAWSInsufficientCapacity, "wait, or choose another elastiCache.nodeType", false)
	}
	for _, code := range []string{
		"InvalidParameterValue", "InvalidParameterValueException", "InvalidParameterCombination", "InvalidParameterCombinationException", "InvalidParameter",
		"SomethingUnknown",
	} {
		cases[code] = of(code, v1alpha1.ReasonAWSRejected, "change the spec", true)
	}
	cases["InvalidVPCNetworkStateFault"] = of("InvalidVPCNetworkStateFault", v1alpha1.ReasonAWSRejected, "check the subnets", true)
	cases["InvalidKMSKeyFault"] = of("InvalidKMSKeyFault", v1alpha1.ReasonAWSRejected, "check elastiCache.atRestEncryption.kmsKeyID", true)
	cases["TagQuotaPerResourceExceeded"] = of("TagQuotaPerResourceExceeded", v1alpha1.ReasonAWSRejected, "remove some of elastiCache.tags", true)
	return cases
}

func otherRefusals() map[string]refusalCase {
	always := func(conditions ...*ack.Condition) func(int) []*ack.Condition {
		return func(int) []*ack.Condition { return conditions }
	}
	return map[string]refusalCase{
		"a code without the SDK's prefix": {
			conditions: always(terminal("ClusterQuotaForCustomerExceeded: The request cannot be processed because it would exceed the quota")...),
			reason:     v1alpha1.ReasonAWSQuotaExceeded, message: []string{"it would exceed the quota. Next: raise the quota"},
		},
		"a code after other text": {
			conditions: always(terminal("Cannot create ReplicationGroup: InvalidParameterValue: bad node type")...),
			reason:     v1alpha1.ReasonAWSRejected, message: []string{": InvalidParameterValue: bad node type. Next: change the spec"}, stalled: true,
		},
		"the ID is taken":  {conditions: always(terminal("Resource already exists")...), reason: v1alpha1.ReasonAlreadyExists, message: []string{"whoever owns it deletes it in AWS, or lets this FlagCache adopt it"}, stalled: true},
		"throttled":        {conditions: always(recoverable("api error Throttling: Rate exceeded")...), reason: v1alpha1.ReasonAWSRetrying, message: []string{"Throttling: Rate exceeded. ACK retries automatically"}},
		"an outage":        {conditions: always(recoverable("api error ServiceUnavailable: 503")...), reason: v1alpha1.ReasonAWSRetrying, message: []string{"ACK retries automatically"}},
		"no subnet group":  {conditions: always(recoverable("api error CacheSubnetGroupNotFoundFault: no such group")...), reason: v1alpha1.ReasonAWSRetrying, message: []string{"no such group"}},
		"not available":    {conditions: always(recoverable("api error InvalidReplicationGroupState: modifying")...), reason: v1alpha1.ReasonAWSRetrying, message: []string{"modifying"}},
		"no Secret":        {conditions: always(recoverable("kubernetes secret not found")...), reason: v1alpha1.ReasonAWSRetrying, message: []string{"kubernetes secret not found. ACK retries automatically"}},
		"a wrong Secret":   {conditions: always(recoverable("only opaque secrets can be used")...), reason: v1alpha1.ReasonAWSRetrying, message: []string{"only opaque secrets can be used"}},
		"tags in progress": {conditions: always(recoverable("tags Update is in progress")...), reason: v1alpha1.ReasonProvisioning, message: []string{"Waiting for AWS"}},
		"the group is changed": {
			conditions: always(recoverable("Replication Group can not be modified, it is not in 'available' state.")...),
			reason:     v1alpha1.ReasonProvisioning, message: []string{"Waiting for AWS"},
		},
		"nodes are added": {
			conditions: always(recoverable("Replication Group can not be modified, need to wait for member clusters and node group members.")...),
			reason:     v1alpha1.ReasonProvisioning, message: []string{"Waiting for AWS"},
		},
		"a user is changed": {
			conditions: always(recoverable("User cannot be modified as its status is not 'active'.")...),
			reason:     v1alpha1.ReasonProvisioning, message: []string{"Waiting for AWS"},
		},
		"a user group is changed": {
			conditions: always(recoverable("User group in 'modifying' state, cannot be modified until 'active'.")...),
			reason:     v1alpha1.ReasonProvisioning, message: []string{"Waiting for AWS"},
		},
		"no role for the account": {
			conditions: always(&ack.Condition{
				Type: ack.ConditionSynced, Status: corev1.ConditionFalse, Message: ptr.To("IAM Role is not available"),
				Reason: ptr.To(`retrieving role ARN for account/team ID "210987654321" from "ack-role-account-map" configmap: CARM configmap not found`),
			}),
			reason: v1alpha1.ReasonAWSAccessDenied, message: []string{`"ack-role-account-map" configmap: CARM configmap not found. Next: give ACK a role`},
		},
		"no permission": {
			conditions: func(try int) []*ack.Condition {
				return recoverable(sdkError("AccessDenied", "User is not authorized to perform elasticache:CreateReplicationGroup", try))
			},
			reason: v1alpha1.ReasonAWSAccessDenied, message: []string{"elasticache:CreateReplicationGroup. Next: give the IAM role of ACK's controller the permission"},
		},
		"a reference is missing": {
			conditions: always(&ack.Condition{Type: ack.ConditionReferencesResolved, Status: corev1.ConditionUnknown, Reason: ptr.To(`cachesubnetgroups "nosuch" not found`)}),
			reason:     v1alpha1.ReasonReferenceNotFound, message: []string{`cachesubnetgroups "nosuch" not found. Next: create it`},
		},
		"no role": {
			conditions: always(&ack.Condition{Type: ack.ConditionIAMRoleSelected, Status: corev1.ConditionFalse, Message: ptr.To("no selector matches")}),
			reason:     v1alpha1.ReasonAWSAccessDenied, message: []string{"no selector matches. Next: assign the namespace an IAM role"},
		},
		"control characters, another spelling of the ID, a source port, and a long text": {
			conditions: func(try int) []*ack.Condition {
				return terminal(fmt.Sprintf("InvalidParameterValue: \x1b[31mbad\x07\nvalue\u202e (Request ID: ab%d-cd) read tcp 10.0.0.7:%d->52.0.0.1:443: %s", try, 40000+try, strings.Repeat("é", 300)))
			},
			reason: v1alpha1.ReasonAWSRejected, message: []string{"InvalidParameterValue: [31mbad value", "read tcp 52.0.0.1:443: é", "…. Next: change the spec"}, stalled: true,
		},
		"what EC2 encodes": {
			conditions: func(try int) []*ack.Condition {
				return recoverable(sdkError("UnauthorizedOperation", fmt.Sprintf("You are not authorized. Encoded authorization failure message: x%dYz", try), try))
			},
			reason: v1alpha1.ReasonAWSAccessDenied, message: []string{"You are not authorized. Next: give"},
		},
		"nothing at all": {conditions: always(terminal("")...), reason: v1alpha1.ReasonAWSRejected, message: []string{"AWS gave no reason. Next: change the spec"}, stalled: true},
	}
}

func TestRefusalMessages(t *testing.T) {
	cases := terminalCodes()
	for name, c := range otherRefusals() {
		cases[name] = c
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			c := aCloud(t, withElastiCache(aFlagCache()))
			c.ackStopped = true
			c.until("a group", func() bool { return len(observed.All[*ack.ReplicationGroup](c.index())) > 0 })
			c.ackReports(test.conditions(0)...)
			c.reconcileOnce()
			c.expect(v1alpha1.ConditionCacheProvisioned, "False", test.reason)
			c.expectMessage(v1alpha1.ConditionCacheProvisioned, test.message...)
			c.expect(v1alpha1.ConditionReady, "False", test.reason)
			if stalled := meta.IsStatusConditionTrue(c.fc.Status.Conditions, v1alpha1.ConditionStalled); stalled != test.stalled {
				t.Errorf("stalled is %v", stalled)
			}
			message := c.condition(v1alpha1.ConditionCacheProvisioned).Message
			if strings.ContainsFunc(message, func(r rune) bool { return !unicode.IsPrint(r) }) || len([]rune(message)) > 600 {
				t.Errorf("the message is not suitable for a condition: %q", message)
			}
			for try := range 3 {
				c.ackReports(test.conditions(try + 1)...)
				c.reconcileOnce()
				if again := c.condition(v1alpha1.ConditionCacheProvisioned).Message; again != message {
					t.Errorf("the message differs between attempts:\n%s\n%s", message, again)
				}
			}
		})
	}
}

// A refused dependency is reported like a refused group, also when the group is in use.
func TestRefusedDependencyIsReported(t *testing.T) {
	c := aReadyCloud(t, withParameters(withElastiCache(aFlagCache()), "maxmemory-policy", "allkeys-lru"))
	c.refuse("InvalidParameterValue", "no such parameter", "ModifyCacheParameterGroup")
	c.change(func(e *v1alpha1.ElastiCacheSpec) { e.Parameters["nonsense"] = "1" })
	c.runFor(time.Minute)
	c.expect(v1alpha1.ConditionReady, "False", v1alpha1.ReasonAWSRejected)
	c.expect(v1alpha1.ConditionServing, "True", v1alpha1.ReasonServing)
	c.expectMessage(v1alpha1.ConditionReady, "CacheParameterGroup demo-", "no such parameter. Next: change the spec")
	c.aws.Permit()
	c.change(func(e *v1alpha1.ElastiCacheSpec) { delete(e.Parameters, "nonsense") })
	c.until("Ready", c.ready)
}

func withParameters(fc *v1alpha1.FlagCache, name string, value v1alpha1.ParameterValue) *v1alpha1.FlagCache {
	fc.Spec.Cache.ElastiCache.Parameters = map[string]v1alpha1.ParameterValue{name: value}
	return fc
}
