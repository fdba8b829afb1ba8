// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// refusal is why AWS does not do what an object asks for.
type refusal struct {
	// reason of the condition, "" where nothing is refused.
	reason string
	// words say what AWS said, and what to do.
	words string
	// terminal: ACK does not ask again before the spec changes.
	terminal bool
	// retryable: asking again may help, because nothing is wrong with the spec.
	retryable bool
}

// known is what is known of an error of AWS.
type known struct {
	reason, advice string
	retryable      bool
}

const (
	adviceQuota    = "raise the quota in the AWS console (Service Quotas), or free some of it"
	adviceCapacity = "wait, or choose another elastiCache.nodeType or other subnets"
	adviceSpec     = "change the spec"
)

// knownErrors are those on which ACK ends in ACK.Terminal
// (elasticache-controller v1.8.0, generator.yaml), by the codes of the
// ElastiCache API.
var knownErrors = map[string]known{
	"ClusterQuotaForCustomerExceeded":                 {v1alpha1.ReasonAWSQuotaExceeded, adviceQuota, true},
	"ClusterQuotaForCustomerExceededFault":            {v1alpha1.ReasonAWSQuotaExceeded, adviceQuota, true},
	"NodeQuotaForClusterExceeded":                     {v1alpha1.ReasonAWSQuotaExceeded, adviceQuota, true},
	"NodeQuotaForClusterExceededFault":                {v1alpha1.ReasonAWSQuotaExceeded, adviceQuota, true},
	"NodeQuotaForCustomerExceeded":                    {v1alpha1.ReasonAWSQuotaExceeded, adviceQuota, true},
	"NodeQuotaForCustomerExceededFault":               {v1alpha1.ReasonAWSQuotaExceeded, adviceQuota, true},
	"NodeGroupsPerReplicationGroupQuotaExceeded":      {v1alpha1.ReasonAWSQuotaExceeded, adviceQuota, true},
	"NodeGroupsPerReplicationGroupQuotaExceededFault": {v1alpha1.ReasonAWSQuotaExceeded, adviceQuota, true},
	"CacheParameterGroupQuotaExceeded":                {v1alpha1.ReasonAWSQuotaExceeded, adviceQuota, true},
	"CacheSubnetGroupQuotaExceeded":                   {v1alpha1.ReasonAWSQuotaExceeded, adviceQuota, true},
	"CacheSubnetQuotaExceededFault":                   {v1alpha1.ReasonAWSQuotaExceeded, adviceQuota, true},
	"SnapshotQuotaExceededFault":                      {v1alpha1.ReasonAWSQuotaExceeded, adviceQuota, true},
	"UserQuotaExceeded":                               {v1alpha1.ReasonAWSQuotaExceeded, adviceQuota, true},
	"UserGroupQuotaExceeded":                          {v1alpha1.ReasonAWSQuotaExceeded, adviceQuota, true},
	"InsufficientCacheClusterCapacity":                {v1alpha1.ReasonAWSInsufficientCapacity, adviceCapacity, true},
	"InsufficientCacheClusterCapacityFault":           {v1alpha1.ReasonAWSInsufficientCapacity, adviceCapacity, true},
	"TagQuotaPerResourceExceeded":                     {v1alpha1.ReasonAWSRejected, "remove some of elastiCache.tags: AWS allows 50 together with FlagCache's own", false},
	"InvalidParameterValue":                           {v1alpha1.ReasonAWSRejected, adviceSpec, false},
	"InvalidParameterValueException":                  {v1alpha1.ReasonAWSRejected, adviceSpec, false},
	"InvalidParameterCombination":                     {v1alpha1.ReasonAWSRejected, adviceSpec, false},
	"InvalidParameterCombinationException":            {v1alpha1.ReasonAWSRejected, adviceSpec, false},
	"InvalidParameter":                                {v1alpha1.ReasonAWSRejected, adviceSpec, false},
	"InvalidVPCNetworkStateFault":                     {v1alpha1.ReasonAWSRejected, "look at the subnets and their VPC: they must exist, be in one VPC and have free addresses", false},
	"InvalidKMSKeyFault":                              {v1alpha1.ReasonAWSRejected, "look at elastiCache.atRestEncryption.kmsKeyID: the key must exist in the region and let ElastiCache use it", false},
	"InvalidSubnet":                                   {v1alpha1.ReasonAWSRejected, "look at elastiCache.subnetIDs", false},
	"AccessDenied":                                    {v1alpha1.ReasonAWSAccessDenied, "give the IAM role of ACK's controller the permission", false},
	"AccessDeniedException":                           {v1alpha1.ReasonAWSAccessDenied, "give the IAM role of ACK's controller the permission", false},
	"UnauthorizedOperation":                           {v1alpha1.ReasonAWSAccessDenied, "give the IAM role of ACK's controller the permission", false},
}

// alreadyExists is how ACK says that AWS has the ID and that it is not ACK's.
const alreadyExists = "Resource already exists"

// refusalOf reads an object's conditions. Ready and ACK.ResourceSynced say too
// little: both are True also while a change of an available group is refused.
func refusalOf(status ack.Status) refusal {
	if c, ok := status.Condition(ack.ConditionTerminal); ok && c.Status == corev1.ConditionTrue {
		return terminalRefusal(c)
	}
	if c, ok := status.Condition(ack.ConditionReferencesResolved); ok && c.Status != corev1.ConditionTrue {
		return refusal{reason: v1alpha1.ReasonReferenceNotFound, words: said(c.Reason, c.Message) + ". Next: see that it exists; ACK looks again by itself"}
	}
	if c, ok := status.Condition(ack.ConditionIAMRoleSelected); ok && c.Status != corev1.ConditionTrue {
		return refusal{reason: v1alpha1.ReasonAWSAccessDenied, words: said(c.Message, c.Reason) + ". Next: give the namespace a role to act in (ACK's IAMRoleSelector)"}
	}
	if c, ok := status.Condition(ack.ConditionRecoverable); ok && c.Status == corev1.ConditionTrue && !inProgress(c.Message) {
		return recoverableRefusal(c)
	}
	return refusal{}
}

func terminalRefusal(c ack.Condition) refusal {
	if strings.Contains(c.Message, alreadyExists) {
		return refusal{reason: v1alpha1.ReasonAlreadyExists, words: "AWS has one of that ID that this cluster's ACK does not manage", terminal: true}
	}
	code, text := awsError(c.Message)
	k, ok := knownErrors[code]
	if !ok {
		k = known{reason: v1alpha1.ReasonAWSRejected, advice: adviceSpec}
	}
	return refusal{reason: k.reason, words: text + ". Next: " + k.advice, terminal: true, retryable: k.retryable}
}

func recoverableRefusal(c ack.Condition) refusal {
	code, text := awsError(c.Message)
	if k, ok := knownErrors[code]; ok {
		return refusal{reason: k.reason, words: text + ". Next: " + k.advice}
	}
	return refusal{reason: v1alpha1.ReasonAWSRetrying, words: text + ". ACK tries again by itself"}
}

// inProgress tells what ACK calls an error and is only the way of things, such as
// "Modify is in progress.".
func inProgress(message string) bool { return strings.Contains(message, "in progress") }

var (
	// passing is what differs at each try: the ID of a request, the port that it came
	// from, and what EC2 encodes of one that it does not authorize.
	passing = regexp.MustCompile(`(?i)(, |\()?\s*request ?id:? ?[0-9a-z-]+\)?,?` +
		`|\S+:[0-9]+->` +
		`|\s*encoded authorization failure message: \S+`)
	errorCode = regexp.MustCompile(`(?:^|[ :])([A-Z][A-Za-z.]+): `)
)

// awsError finds the code in a message of ACK's, and what to tell people: the code
// and AWS' sentence, without what differs at each try.
func awsError(message string) (code, text string) {
	message = clean(message)
	if i := strings.LastIndex(message, "api error "); i >= 0 {
		message = message[i:]
	}
	message = strings.TrimPrefix(message, "api error ")
	matches := errorCode.FindAllStringSubmatchIndex(message, -1)
	for _, at := range matches {
		if _, ok := knownErrors[message[at[2]:at[3]]]; ok {
			return message[at[2]:at[3]], said(message[at[2]:])
		}
	}
	if len(matches) > 0 && matches[0][2] == 0 {
		code = message[:matches[0][3]]
	}
	return code, said(message)
}

// mostWords of somebody else's that a condition repeats.
const mostWords = 256

// said is the first text that says something, short enough for a condition.
func said(texts ...string) string {
	for _, text := range texts {
		if text = clean(text); text != "" {
			if runes := []rune(text); len(runes) > mostWords {
				text = string(runes[:mostWords]) + "…"
			}
			return text
		}
	}
	return "AWS gave no reason"
}

// clean takes out of somebody else's text what could harm a terminal or a log, and
// what differs at each try.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	text = passing.ReplaceAllString(text, "")
	return strings.TrimRight(strings.Join(strings.Fields(text), " "), " .")
}

// judge says what the cloud does, which is not what clients see: a group in use
// that is modified, snapshotted or failed over is there all the same.
func (c elastiCache) judge() metav1.Condition {
	if k := c.missing(); k != nil {
		return c.not(v1alpha1.ReasonACKNotInstalled, "The API server does not know %s: install ACK's %s (https://aws-controllers-k8s.github.io/docs). "+
			"FlagCache goes on as soon as it is there", k.CRD(), k.Controller())
	}
	if c.rejected() {
		return conditions.True(v1alpha1.ConditionCacheProvisioned, v1alpha1.ReasonReplacementRejected,
			"The cache that the spec asks for was rolled back with its revision; the one before is in use")
	}
	if c.group == nil {
		return c.judgeAbsent()
	}
	return c.judgeGroup()
}

func (c elastiCache) not(reason, format string, args ...any) metav1.Condition {
	return conditions.False(v1alpha1.ConditionCacheProvisioned, reason, format, args...)
}

// judgeAbsent says what the group waits for before it is asked for.
func (c elastiCache) judgeAbsent() metav1.Condition {
	switch {
	case c.abandoned():
		return c.not(v1alpha1.ReasonCreateRetriesExhausted, "AWS failed to create the replication group %d times: change the spec, or annotate %s with a new value to try again",
			mostFailures, v1alpha1.AnnotationReconcileAt)
	case c.failures().Count > 0:
		return c.not(v1alpha1.ReasonCreateFailed, "AWS failed to create the replication group; it is created again after a pause")
	case !c.secretSuffices():
		return c.not(v1alpha1.ReasonProvisioning, "Writing Secret %s", c.secretName())
	}
	if waiting := c.dependencies().waiting; waiting != nil {
		return c.judgeDependency(waiting.(observed.Object))
	}
	return c.not(v1alpha1.ReasonProvisioning, "Asking for ReplicationGroup %s", c.name())
}

// judgeDependency says why something that the group refers to is not there.
func (c elastiCache) judgeDependency(wanted observed.Object) metav1.Condition {
	what := observed.KindOf(wanted) + " " + wanted.GetName()
	seen := seenLike(c.s, wanted)
	if seen == nil {
		return c.not(v1alpha1.ReasonProvisioning, "Asking for %s", what)
	}
	switch r := refusalOf(seen.ACKStatus()); r.reason {
	case "":
	case v1alpha1.ReasonAlreadyExists:
		return c.alreadyExists(what, r)
	default:
		return c.not(r.reason, "%s: %s", what, r.words)
	}
	if len(seen.ACKStatus().Conditions) == 0 && c.s.Now.Sub(seen.GetCreationTimestamp().Time) >= notResponding {
		return c.silent(what, wanted.GetObjectKind().GroupVersionKind().GroupVersion())
	}
	return c.not(v1alpha1.ReasonProvisioning, "Waiting for %s", what)
}

// alreadyExists says how to take over what AWS has.
func (c elastiCache) alreadyExists(what string, r refusal) metav1.Condition {
	return c.not(r.reason, "%s: %s. To take it over, annotate the FlagCache with %s=%s", what, r.words, v1alpha1.AnnotationAdopt, c.awsID())
}

// silent tells an ACK that does not work from an AWS that is slow.
func (c elastiCache) silent(what string, api schema.GroupVersion) metav1.Condition {
	return c.not(v1alpha1.ReasonACKNotResponding, "ACK has not looked at %s for %d minutes: see that its %s runs and watches this namespace",
		what, int(notResponding.Minutes()), ack.ControllerOf(api))
}

func (c elastiCache) judgeGroup() metav1.Condition {
	what := "ReplicationGroup " + c.name()
	group := c.group
	refused := c.refused()
	switch {
	case group.DeletionTimestamp != nil:
		return c.not(v1alpha1.ReasonProvisioning, "%s is being deleted and is made again after that", what)
	case group.Status.State == ack.GroupCreateFailed && c.abandoned():
		return c.not(v1alpha1.ReasonCreateRetriesExhausted, "AWS failed to create %s %d times%s: change the spec, or annotate %s with a new value to try again",
			what, mostFailures, c.lastEvent(), v1alpha1.AnnotationReconcileAt)
	case group.Status.State == ack.GroupCreateFailed:
		return c.not(v1alpha1.ReasonCreateFailed, "AWS failed to create %s%s; it is deleted and created again", what, c.lastEvent())
	case refused.reason == v1alpha1.ReasonAlreadyExists:
		return c.alreadyExists(what, refused)
	case refused.terminal:
		return c.not(refused.reason, "%s: %s", what, refused.words)
	case !c.looked() && c.s.Now.Sub(c.lastChange().At) >= notResponding:
		return c.silent(what, ack.ElastiCache)
	case c.usable():
		return c.judgeUsable(what)
	case refused.reason != "":
		return c.not(refused.reason, "%s: %s", what, refused.words)
	case c.looked() && c.s.Now.Sub(c.group.Status.LastSyncTime().Time) >= notResponding:
		return c.silent(what, ack.ElastiCache)
	default:
		return c.not(v1alpha1.ReasonProvisioning, "Waiting for AWS to make %s available", what)
	}
}

// judgeUsable says what else the spec asks for and AWS refuses, or nobody can make.
func (c elastiCache) judgeUsable(what string) metav1.Condition {
	for _, o := range c.dependencies().objects {
		seen := seenLike(c.s, o)
		if seen == nil {
			continue
		}
		if r := refusalOf(seen.ACKStatus()); r.terminal {
			return c.not(r.reason, "%s %s: %s", observed.KindOf(o), o.GetName(), r.words)
		}
	}
	if c.spec.VPCID != "" && !c.s.ACK["SecurityGroup"] {
		return conditions.True(v1alpha1.ConditionCacheProvisioned, v1alpha1.ReasonProvisioned, "%s is there, in the security groups that it has: the API server does not know "+
			"securitygroups.ec2.services.k8s.aws, install ACK's ec2-controller to have one made", what)
	}
	return conditions.True(v1alpha1.ConditionCacheProvisioned, v1alpha1.ReasonProvisioned, "%s is there", what)
}

// usable says that the group serves. At first that takes all that ACK can say; a
// group in use stays usable through whatever AWS does to it.
func (c elastiCache) usable() bool {
	status := c.group.Status
	if c.group.PrimaryEndpoint() == nil {
		return false
	}
	if len(c.users()) > 0 {
		return status.State != ack.GroupCreating && status.State != ack.GroupDeleting
	}
	return status.State == ack.GroupAvailable && status.Is(ack.ConditionReady)
}

// lastEvent is AWS' own word on a creation that failed.
func (c elastiCache) lastEvent() string {
	if len(c.group.Status.Events) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s)", said(c.group.Status.Events[0].Message))
}
