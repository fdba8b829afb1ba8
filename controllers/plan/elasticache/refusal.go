// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

// Refusal is why AWS does not do what an object requests. The zero Refusal means
// that nothing is refused.
type Refusal struct {
	// Reason of the condition.
	Reason string
	// Message is what AWS answered, and what to do.
	Message string
	// Terminal: ACK does not retry before the spec changes.
	Terminal bool
	// Retryable: a retry may succeed, because nothing is wrong with the spec.
	Retryable bool
}

// knownError is how an error of AWS is reported.
type knownError struct {
	reason, advice string
	retryable      bool
}

const (
	adviceQuota    = "raise the quota in the AWS console (Service Quotas), or free some of it"
	adviceCapacity = "wait, or choose another elastiCache.nodeType or other subnets"
	adviceSpec     = "change the spec" + orRetry
	// orRetry is how to retry what neither ACK nor the operator does by itself.
	orRetry = ", or set the annotation " + v1alpha1.AnnotationReconcileAt + " to a new value to retry"
	// seeEvents is the end of ACK's message about a change that AWS rolled back.
	seeEvents = ", Please refer to Events for more details"
)

// knownErrors are those on which ACK ends in ACK.Terminal
// (elasticache-controller v1.8.0, generator.yaml), by the codes of the
// ElastiCache API.
var knownErrors = map[string]knownError{
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
	"InvalidVPCNetworkStateFault":                     {v1alpha1.ReasonAWSRejected, "check the subnets and their VPC: they must exist, be in one VPC and have free addresses", false},
	"InvalidKMSKeyFault":                              {v1alpha1.ReasonAWSRejected, "check elastiCache.atRestEncryption.kmsKeyID: the key must exist in the region and let ElastiCache use it", false},
	"InvalidSubnet":                                   {v1alpha1.ReasonAWSRejected, "check elastiCache.subnetIDs", false},
	"AccessDenied":                                    {v1alpha1.ReasonAWSAccessDenied, "give the IAM role of ACK's controller the permission", false},
	"AccessDeniedException":                           {v1alpha1.ReasonAWSAccessDenied, "give the IAM role of ACK's controller the permission", false},
	"UnauthorizedOperation":                           {v1alpha1.ReasonAWSAccessDenied, "give the IAM role of ACK's controller the permission", false},
}

// alreadyExists is ACK's message for an ID that AWS has and ACK does not manage.
const alreadyExists = "Resource already exists"

// RefusalOf reads an object's conditions. Ready and ACK.ResourceSynced do not
// suffice: both are True also while a change of an available group is refused.
func RefusalOf(conditions ack.Conditions) Refusal {
	if c := conditions.Get(ack.ConditionSynced); c != nil && ack.Value(c.Message) == noRole {
		// ACK leaves the conditions of the last sync that had a role.
		return Refusal{Reason: v1alpha1.ReasonAWSAccessDenied, Message: quote(ack.Value(c.Reason)) + ". Next: give ACK a role for the account in the namespace's annotation " + ownerAccount}
	}
	if c := conditions.Get(ack.ConditionTerminal); c != nil && c.Status == corev1.ConditionTrue {
		return terminalRefusal(ack.Value(c.Message))
	}
	if c := conditions.Get(ack.ConditionReferencesResolved); c != nil && c.Status != corev1.ConditionTrue {
		return Refusal{Reason: v1alpha1.ReasonReferenceNotFound, Message: quote(ack.Value(c.Reason), ack.Value(c.Message)) + ". Next: create it; ACK retries automatically"}
	}
	if c := conditions.Get(ack.ConditionIAMRoleSelected); c != nil && c.Status != corev1.ConditionTrue {
		return Refusal{Reason: v1alpha1.ReasonAWSAccessDenied, Message: quote(ack.Value(c.Message), ack.Value(c.Reason)) + ". Next: assign the namespace an IAM role (ACK's IAMRoleSelector)"}
	}
	if c := conditions.Get(ack.ConditionRecoverable); c != nil && c.Status == corev1.ConditionTrue && !inProgress(ack.Value(c.Message)) {
		return recoverableRefusal(ack.Value(c.Message))
	}
	return Refusal{}
}

func terminalRefusal(message string) Refusal {
	if strings.Contains(message, alreadyExists) {
		return Refusal{Reason: v1alpha1.ReasonAlreadyExists, Message: "AWS has one with this ID that the ACK of this cluster does not manage", Terminal: true}
	}
	code, text := awsError(message)
	k, ok := knownErrors[code]
	if !ok {
		k = knownError{reason: v1alpha1.ReasonAWSRejected, advice: adviceSpec}
	}
	return Refusal{Reason: k.reason, Message: text + ". Next: " + k.advice, Terminal: true, Retryable: k.retryable}
}

func recoverableRefusal(message string) Refusal {
	code, text := awsError(message)
	if k, ok := knownErrors[code]; ok {
		return Refusal{Reason: k.reason, Message: text + ". Next: " + k.advice}
	}
	return Refusal{Reason: v1alpha1.ReasonAWSRetrying, Message: text + ". ACK retries automatically"}
}

// inProgress reports whether ACK calls an error what is none: it waits for AWS.
func inProgress(message string) bool {
	return slices.ContainsFunc(waiting, func(words string) bool { return strings.Contains(message, words) })
}

// waiting are the words of such errors (elasticache-controller v1.8.0). They appear during
// every change of a node type, an engine, the replicas or a user.
var waiting = []string{
	"in progress", "it is not in 'available' state", "need to wait for member clusters", "its status is not 'active'", "cannot be modified until 'active'",
}

const (
	// noRole is ACK's message where it has no IAM role for a namespace, which it does not
	// report as an error.
	noRole = "IAM Role is not available"
	// ownerAccount is the annotation of a namespace with the account of its resources.
	ownerAccount = "services.k8s.aws/owner-account-id"
)

var (
	// volatile is what differs at each attempt: the ID of a request, its source port,
	// and what EC2 encodes of one that it does not authorize.
	volatile = regexp.MustCompile(`(?i)(, |\()?\s*request ?id:? ?[0-9a-z-]+\)?,?` +
		`|\S+:[0-9]+->` +
		`|\s*encoded authorization failure message: \S+`)
	errorCode = regexp.MustCompile(`(?:^|[ :])([A-Z][A-Za-z.]+): `)
)

// awsError finds the error code in a message of ACK's, and the text to show: the
// code and AWS' message, without what differs at each attempt.
func awsError(message string) (code, text string) {
	message = clean(message)
	if i := strings.LastIndex(message, "api error "); i >= 0 {
		message = message[i:]
	}
	message = strings.TrimPrefix(message, "api error ")
	matches := errorCode.FindAllStringSubmatchIndex(message, -1)
	for _, at := range matches {
		if _, ok := knownErrors[message[at[2]:at[3]]]; ok {
			return message[at[2]:at[3]], quote(message[at[2]:])
		}
	}
	if len(matches) > 0 && matches[0][2] == 0 {
		code = message[:matches[0][3]]
	}
	return code, quote(message)
}

// maxQuote is how many characters of a foreign text a condition repeats.
const maxQuote = 256

// quote is the first text that is not empty, short enough for a condition.
func quote(texts ...string) string {
	for _, text := range texts {
		if text = clean(text); text != "" {
			if runes := []rune(text); len(runes) > maxQuote {
				text = string(runes[:maxQuote]) + "…"
			}
			return text
		}
	}
	return "AWS gave no reason"
}

// clean removes from a foreign text what could harm a terminal or a log, and what
// differs at each attempt.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	text = volatile.ReplaceAllString(text, "")
	return strings.TrimRight(strings.Join(strings.Fields(text), " "), " .")
}

// ACK syncs an object when its spec changes, and otherwise when it decides to: never
// after a terminal error, up to 17 minutes after others, and ten hours after a success.
// The order of tags is the one part of a spec that means nothing to AWS, and ACK
// compares tags as a set: in another order, they have ACK sync the object and nothing
// else.

// reconcileAt identifies the reconcile that the user requests, "" for none.
func reconcileAt(fc *v1alpha1.FlagCache) string {
	value := fc.Annotations[v1alpha1.AnnotationReconcileAt]
	if value == "" {
		return ""
	}
	return observed.Fingerprint(fc.UID, v1alpha1.AnnotationReconcileAt, value)
}

// changeOf is what is on record about the last change of an object that a group refers
// to; none if it cannot be decoded, because ACK may sync such an object at any time.
func changeOf(o observed.Object) change {
	var last change
	if err := json.Unmarshal([]byte(o.GetAnnotations()[v1alpha1.AnnotationChange]), &last); err != nil {
		return change{}
	}
	return last
}

// woken reports whether ACK is to sync an object although its spec does not change,
// because the user requests that or a retry may succeed.
func woken(x *observed.Index, seen observed.Object, last change) bool {
	refused := RefusalOf(ack.ConditionsOf(seen))
	retry := refused.Terminal && refused.Retryable && x.Since(ack.ConditionsOf(seen).LastSyncTime().Time) >= refusedRetry && x.Since(last.At) >= refusedRetry
	return retry || last.requests(x.FlagCache)
}

// requests reports whether the user requests a reconcile that was not made yet.
func (c change) requests(fc *v1alpha1.FlagCache) bool {
	requested := reconcileAt(fc)
	return requested != "" && requested != c.Request
}

// synchronized completes an object that a group refers to: it has the order of the
// observed tags, or another one that has ACK sync it.
func synchronized[T observed.Object](x *observed.Index, o T, seen observed.Object) T {
	last := change{Request: reconcileAt(x.FlagCache)}
	if seen != nil {
		last = changeOf(seen)
		keepOrder(o, seen)
	}
	if seen != nil && woken(x, seen, last) {
		rotateTags(o)
		last = change{At: toSecond(x.Now), Request: reconcileAt(x.FlagCache)}
	}
	if last != (change{}) {
		annotations := o.GetAnnotations()
		annotations[v1alpha1.AnnotationChange] = observed.ToJSON(last)
		o.SetAnnotations(annotations)
	}
	return o
}

// keepOrder gives tags the order of those observed, if they are the same.
func keepOrder(o, seen observed.Object) {
	if have := tagsOf(seen); sameTags(tagsOf(o), have) {
		tagsOf(o).Set(have)
	}
}

// rotateTags moves the first tag to the end.
func rotateTags(o observed.Object) {
	tags := tagsOf(o)
	if tags.Len() == 0 {
		return
	}
	rotated := reflect.MakeSlice(tags.Type(), 0, tags.Len())
	rotated = reflect.AppendSlice(rotated, tags.Slice(1, tags.Len()))
	tags.Set(reflect.Append(rotated, tags.Index(0)))
}

// tagsOf are the tags of an object of ACK's, which every kind has.
func tagsOf(o observed.Object) reflect.Value {
	return reflect.ValueOf(o).Elem().FieldByName("Spec").FieldByName("Tags")
}

// sameTags reports whether two lists of tags differ at most in their order.
func sameTags(a, b reflect.Value) bool {
	if a.Len() != b.Len() {
		return false
	}
	count := map[string]int{}
	for i := range a.Len() {
		count[observed.ToJSON(a.Index(i).Interface())]++
		count[observed.ToJSON(b.Index(i).Interface())]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}
