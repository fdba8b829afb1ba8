// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package elasticache

import (
	"encoding/json"
	"reflect"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/controllers/plan/observed"
)

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
