// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/revision"
	"github.com/flagcache/flagcache/controllers/plan/source"
	"github.com/flagcache/flagcache/controllers/policy"
	"github.com/flagcache/flagcache/service/config"
)

// published returns the ConfigMap of published flags, nil if there is none.
func (w *world) published() *corev1.ConfigMap {
	configMap, _ := observed.Get[*corev1.ConfigMap](w.index(), "demo-published-flags")
	return configMap
}

// noteFlags adds what pods read, and what the status says, to the trace.
func (w *world) noteFlags() {
	w.t.Helper()
	line := "flags -"
	if configMap := w.published(); configMap != nil {
		data, _, err := source.ReadPublished(configMap, source.Store(w.fc))
		line = fmt.Sprintf("flags %q", data)
		if err != nil {
			line = "flags unreadable"
		}
	}
	if st := w.fc.Status.Flags; st != nil {
		serving := "?"
		if st.ServingPods != nil {
			serving = fmt.Sprint(*st.ServingPods)
		}
		line += fmt.Sprintf("  status number %d, %s of %d pods", st.Number, serving, st.Pods)
	}
	w.trace = append(w.trace, line)
	for _, kind := range []string{v1alpha1.ConditionFlagsValid, v1alpha1.ConditionFlagsDelivered} {
		c := meta.FindStatusCondition(w.fc.Status.Conditions, kind)
		if c == nil {
			w.trace = append(w.trace, "no "+kind)
			continue
		}
		w.trace = append(w.trace, fmt.Sprintf("%s=%s %s: %s", kind, c.Status, c.Reason, c.Message))
	}
}

// settle reconciles until nothing changes any more.
func (w *world) settle() {
	w.t.Helper()
	for range 3 {
		w.reconcile()
	}
	w.expectSilence()
	w.trace = w.trace[:len(w.trace)-1]
	w.noteFlags()
}

// upgraded makes the FlagCache one that another operator left, which did not publish flags: its
// pods mount the ConfigMap of the user.
func (w *world) upgraded() {
	w.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(w.index().Records.Holders)) {
		w.unpublish(name)
	}
	w.children = without(w.children, w.published())
	w.fc.Status.Flags = nil
}

// unpublish replaces a revision by the one that such an operator made of the same spec.
func (w *world) unpublish(published string) {
	w.t.Helper()
	x := w.index()
	template, ok := x.Records.Template(published)
	if !ok {
		w.t.Fatalf("revision %s has no template on record", published)
	}
	x.FlagCache = x.FlagCache.DeepCopy()
	x.FlagCache.Spec.Service.Image = revision.Container(template.Spec).Image
	workload := readRequest(x, readHistory(x)).workload
	former := revision.RenderUnpublished(x, workload, template.Annotations[v1alpha1.AnnotationConnection])
	intent, formerIntent := intents(x, workload)
	rename := strings.NewReplacer(published, former.Revision, intent, formerIntent)
	for i, child := range w.children {
		w.children[i] = renamed(w.t, child, rename)
	}
	w.fc.Status = renamed(w.t, w.fc, rename).Status
	if d, ok := observed.Get[*appsv1.Deployment](w.index(), "demo-"+former.Revision); ok {
		d.Spec.Template = former.Pod
	}
	holder := mustFind[*appsv1.ControllerRevision](w, "demo-"+former.Revision)
	holder.Data.Raw = observed.RevisionData(former.Revision, &former.Pod)
	holder.Annotations[v1alpha1.AnnotationSeal] = w.index().Records.Seal.Of(former.Revision, former.Pod)
}

// renamed returns a copy of an object with other texts.
func renamed[T observed.Object](t *testing.T, o T, rename *strings.Replacer) T {
	t.Helper()
	text := rename.Replace(observed.ToJSON(o))
	copied := reflect.New(reflect.TypeOf(o).Elem()).Interface().(T)
	if err := json.Unmarshal([]byte(text), copied); err != nil {
		t.Fatal(err)
	}
	return copied
}

// broken is a flags file that cannot be used.
func broken() observed.Flags {
	return observed.Flags{State: observed.FlagsUnparseable, Error: "line 1, column 1: unexpected end"}
}

// loaded is a flags file that can.
func loaded() observed.Flags { return observed.Flags{State: observed.FlagsLoaded} }

// What happens to the flags, and what pods read then.
func TestPublishedFlags(t *testing.T) {
	tests := map[string]func(*world){
		"first": func(w *world) {
			w.note("there is no ConfigMap yet")
			w.flags = observed.Flags{State: observed.FlagsNoConfigMap}
			w.settle()
			w.note("it is created")
			w.flags = loaded()
			w.settle()
			w.podsAvailable()
			w.settle()
			w.note("the pods are asked")
			w.delivery = observed.Delivery{Of: digestOf(w.document), Known: true, Serving: 2, Asked: 2}
			w.settle()
		},
		"hashed-name": func(w *world) {
			w.ready().settle()
			w.note("the ConfigMap has another name and other flags, as kustomize generates it")
			w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Flags.ConfigMap.Name = "demo-flags-7h2k" })
			w.document = "other flags"
			w.settle()
			w.note("it has another key and the same flags")
			w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Flags.ConfigMap.Key = "production.json" })
			w.settle()
		},
		"made-again": func(w *world) {
			w.ready().settle()
			w.note("the ConfigMap is deleted")
			w.flags = observed.Flags{State: observed.FlagsNoConfigMap}
			w.settle()
			w.note("a node is lost, and its pods are made again")
			w.podsAvailable()
			w.settle()
			w.note("the ConfigMap is created again with other flags")
			w.flags, w.document = loaded(), "other flags"
			w.settle()
		},
		"unusable": func(w *world) {
			w.ready().settle()
			for _, state := range []observed.Flags{{State: observed.FlagsNoKey}, broken(), {State: observed.FlagsUnparseable, Error: "it has 1,048,577 bytes; the limit is 1,048,576"}} {
				w.flags, w.document = state, ""
				w.settle()
			}
			w.note("a release meanwhile")
			w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = "flag-service:v2" })
			w.settle()
			w.podsAvailable()
			w.settle()
			w.note("some flags are rejected, the others are served")
			w.flags, w.document = observed.Flags{State: observed.FlagsLoaded, Problems: []string{"flag a is rejected"}}, "some good flags"
			w.settle()
		},
		"delivered": func(w *world) {
			w.ready().settle()
			w.note("the flags change")
			w.document = "other flags"
			w.settle()
			w.note("one pod serves them")
			of := digestOf(w.document)
			w.delivery = observed.Delivery{Of: of, Known: true, Serving: 1, Asked: 2, Behind: []string{"demo-1"}, Since: w.now}
			w.settle()
			w.note("one pod does not answer")
			w.delivery = observed.Delivery{Of: of, Known: true, Asked: 1, Incomplete: true}
			w.settle()
			w.note("Redis refuses the flags, and all pods serve them")
			w.broadcast = observed.Broadcast{Number: 1, Reason: "PermissionDenied"}
			w.delivery = observed.Delivery{Of: of, Known: true, Serving: 2, Asked: 2}
			w.settle()
			w.note("the operator restarts")
			w.delivery, w.broadcast = observed.Delivery{}, observed.Broadcast{}
			w.settle()
			w.note("Redis has the flags")
			w.delivery, w.broadcast = observed.Delivery{Of: of, Known: true, Serving: 2, Asked: 2}, observed.Broadcast{Number: 1, Stored: true, Reason: "Stored"}
			w.settle()
			w.note("there are four pods, and two were asked")
			w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Service.Replicas = ptr.To[int32](4) })
			w.reconcile()
			w.podsAvailable()
			w.settle()
			w.note("the others have an image that does not report what they serve")
			w.delivery.Asked = 4
			w.settle()
			w.note("no pod is ready")
			for _, d := range w.index().Revisions {
				d.Status.ReadyReplicas, d.Status.AvailableReplicas = 0, 0
			}
			w.settle()
			w.note("all pods are ready")
			w.podsAvailable()
			w.delivery.Serving = 4
			w.settle()
		},
		"edited-by-others": func(w *world) {
			w.ready().settle()
			for _, edit := range []struct {
				what string
				do   func(*corev1.ConfigMap)
			}{
				{"the document is replaced", func(c *corev1.ConfigMap) {
					c.BinaryData[config.FlagsDocumentKey] = observed.Compress([]byte("evil flags"))
				}},
				{"document and digest are replaced", func(c *corev1.ConfigMap) {
					c.BinaryData[config.FlagsDocumentKey] = observed.Compress([]byte("evil flags"))
					c.Data[config.FlagsManifestKey] = strings.Replace(c.Data[config.FlagsManifestKey], digestOf(w.document), digestOf("evil flags"), 1)
				}},
				{"the document is removed", func(c *corev1.ConfigMap) { c.BinaryData = nil }},
				{"the manifest is removed", func(c *corev1.ConfigMap) { c.Data = nil }},
				{"the manifest has a lower number", func(c *corev1.ConfigMap) { replaceNumber(c, "7") }},
				{"the manifest has a number that no later one reaches", func(c *corev1.ConfigMap) { replaceNumber(c, "9223372036854775807") }},
				{"the manifest has a number of the future", func(c *corev1.ConfigMap) { replaceNumber(c, fmt.Sprint(noon.Unix()+config.FlagsNumberLead+1)) }},
				{"the manifest is that of another FlagCache", func(c *corev1.ConfigMap) {
					c.Data[config.FlagsManifestKey] = strings.Replace(c.Data[config.FlagsManifestKey], "shop/demo", "shop/other", 1)
				}},
			} {
				w.note(edit.what)
				edit.do(w.published())
				w.settle()
			}
			w.note("it is edited while the flags are broken")
			w.flags = broken()
			w.published().BinaryData = nil
			w.settle()
		},
		"forged": func(w *world) {
			w.ready().settle()
			w.note("the flags change")
			before := w.published().DeepCopy()
			w.document = "other flags"
			w.settle()
			w.note("the flags are broken, and what was published before is put back with its seal")
			w.flags = broken()
			good := w.published().DeepCopy()
			forge := func(edit func(*corev1.ConfigMap)) {
				o := w.published()
				o.Data, o.BinaryData, o.Annotations = maps.Clone(good.Data), maps.Clone(good.BinaryData), maps.Clone(good.Annotations)
				edit(o)
				w.settle()
			}
			forge(func(c *corev1.ConfigMap) {
				c.Data, c.BinaryData, c.Annotations = maps.Clone(before.Data), maps.Clone(before.BinaryData), maps.Clone(before.Annotations)
			})
			w.note("document, digest and number are replaced")
			forge(func(c *corev1.ConfigMap) { forgeFlags(c, "evil flags", noon.Unix()+1000) })
			w.note("a release meanwhile")
			w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = "flag-service:v2" })
			w.settle()
			w.note("only the number is replaced, by one that pods accept")
			forge(func(c *corev1.ConfigMap) { replaceNumber(c, fmt.Sprint(noon.Unix()+config.FlagsNumberLead+1000)) })
			w.note("only the time is replaced")
			good = w.published().DeepCopy()
			forge(func(c *corev1.ConfigMap) {
				c.Data[config.FlagsManifestKey] = strings.Replace(c.Data[config.FlagsManifestKey], "2026-", "2016-", 1)
			})
			w.note("the manifest is removed")
			good = w.published().DeepCopy()
			forge(func(c *corev1.ConfigMap) { c.Data = nil })
			w.note("the status is lost")
			w.fc.Status.Flags = nil
			w.settle()
			w.note("the status is lost, and document, digest and number are replaced")
			w.fc.Status.Flags = nil
			good = w.published().DeepCopy()
			forge(func(c *corev1.ConfigMap) { forgeFlags(c, "evil flags", noon.Unix()+2*config.FlagsNumberLead-5) })
			w.note("the flags are fixed")
			w.flags, w.document = loaded(), "good flags"
			w.settle()
			w.note("the highest number that pods accept is chosen: the next one waits for a second")
			forge(func(c *corev1.ConfigMap) { forgeFlags(c, "evil flags", noon.Unix()+2*config.FlagsNumberLead-1) })
			w.published().BinaryData = nil
			if p := w.reconcile(); p.Publish != nil || p.RequeueAfter != time.Second {
				t.Errorf("published %v, again in %s", p.Publish, p.RequeueAfter)
			}
			w.now = w.now.Add(time.Second)
			w.settle()
		},
		"sealed-by-an-upgrade": func(w *world) {
			w.ready().settle()
			unsealed := w.published()
			delete(unsealed.Annotations, v1alpha1.AnnotationFlagsSeal)
			w.note("an earlier release published them, without a seal, and the flags are broken")
			w.flags = broken()
			w.settle()
			w.note("the flags are fixed: they are sealed")
			w.flags = loaded()
			w.settle()
			if seal := w.published().Annotations[v1alpha1.AnnotationFlagsSeal]; seal != w.index().Records.Seal.OfFlags(unsealed.Data[config.FlagsManifestKey]) {
				t.Errorf("the seal is %q", seal)
			}
		},
		"deleted-by-others": func(w *world) {
			w.ready().settle()
			w.note("it is deleted")
			w.children = without(w.children, w.published())
			w.settle()
			w.note("it is deleted an hour later, and the status is lost")
			w.now = w.now.Add(time.Hour)
			w.children = without(w.children, w.published())
			w.fc.Status = v1alpha1.FlagCacheStatus{Operator: w.fc.Status.Operator}
			w.settle()
			w.note("it is deleted while the flags are broken")
			w.children = without(w.children, w.published())
			w.flags = broken()
			w.settle()
		},
		"immutable": func(w *world) {
			w.ready().settle()
			w.note("somebody makes it immutable")
			w.published().Immutable = ptr.To(true)
			w.settle()
			w.note("the flags break")
			w.flags = broken()
			w.settle()
			w.note("the flags are fixed")
			w.flags, w.document = loaded(), "other flags"
			w.settle()
		},
		"name-taken": func(w *world) {
			w.children = append(w.children, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
				Name: "demo-published-flags", Namespace: "shop", Labels: map[string]string{v1alpha1.LabelName: "demo"},
			}})
			w.settle()
			w.expect(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonNameConflict)
		},
		"suspended": func(w *world) {
			w.ready().settle()
			w.note("spec.suspend, and other flags")
			w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Suspend = true })
			w.document = "other flags"
			w.settle()
			w.note("it is made immutable, and the flags change")
			w.published().Immutable, w.document = ptr.To(true), "more flags"
			w.settle()
			w.note("it is deleted meanwhile")
			w.children = without(w.children, w.published())
			w.settle()
			w.note("the FlagCache is resumed")
			w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Suspend = false })
			w.settle()
		},
		"not-permitted": func(w *world) {
			w.note("the policy does not permit the FlagCache")
			w.violations = []policy.Violation{{Field: "cache.type", Problem: "is not permitted"}}
			w.settle()
		},
		"database-and-back": func(w *world) {
			w.ready().settle()
			w.note("the flags move to a database")
			w.database = databaseSecret("postgres://flags:s3cret@db.example.com/flags?sslmode=require")
			w.edit(func(s *v1alpha1.FlagCacheSpec) { withPostgres(w.fc) })
			for range 3 {
				w.podsAvailable()
				w.reconcile()
			}
			w.now = w.now.Add(time.Hour)
			w.settle()
			w.note("the flags move back")
			w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Flags = aFlagCache().Spec.Flags })
			w.settle()
		},
		"clock-set-back": func(w *world) {
			w.ready().settle()
			w.note("the clock is a year ahead, and the published flags are deleted")
			w.now = w.now.Add(365 * 24 * time.Hour)
			w.children = without(w.children, w.published())
			w.settle()
			w.note("the clock is right again")
			w.now = noon.Add(time.Hour)
			w.settle()
		},
		"upgrade": func(w *world) {
			w.ready()
			w.upgraded()
			w.note("another operator publishes flags")
			w.settle()
			w.note("the flags change, which the old pods read themselves")
			w.document = "other flags"
			w.settle()
			w.note("the stable Deployment is deleted")
			w.children = without(w.children, mustFind[*appsv1.Deployment](w, "demo-"+w.fc.Status.Revisions.Stable))
			w.settle()
			w.podsAvailable()
			w.settle()
			w.note("another image")
			w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = "flag-service:v2" })
			w.settle()
			w.podsAvailable()
			w.settle()
			w.note("the former image")
			w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = "flag-service:v1" })
			w.settle()
		},
		"upgrade-with-hashed-names": func(w *world) {
			w.ready()
			w.upgraded()
			w.settle()
			for i, name := range []string{"demo-flags-7h2k", "demo-flags-m4t9", "demo-flags"} {
				w.note("the ConfigMap is " + name)
				w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Flags.ConfigMap.Name = name })
				w.document = fmt.Sprintf("flags %d", i)
				w.settle()
				w.podsAvailable()
				w.settle()
			}
		},
		"upgrade-while-a-change-is-rejected": func(w *world) {
			w.fc = withCanary(w.fc)
			w.ready()
			w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = "flag-service:v2" })
			w.reconcile()
			w.reconcile()
			w.note("another operator publishes flags during the canary")
			w.upgraded()
			w.settle()
			w.note("the candidate is stuck")
			w.candidateStuck()
			w.settle()
			w.note("the former image")
			w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = "flag-service:v1" })
			w.settle()
		},
		"upgrade-while-the-flags-are-broken": func(w *world) {
			w.ready()
			w.upgraded()
			w.flags = broken()
			w.settle()
			w.note("the image changes")
			w.edit(func(s *v1alpha1.FlagCacheSpec) { s.Service.Image = "flag-service:v2" })
			w.settle()
			w.note("the flags are fixed")
			w.flags = loaded()
			w.settle()
		},
	}
	for name, script := range tests {
		t.Run(name, func(t *testing.T) {
			w := aWorld(t, aFlagCache())
			script(w)
			expectGolden(t, "flags-"+name+".golden", strings.Join(w.trace, "\n")+"\n")
		})
	}
}

// forgeFlags replaces the published flags consistently, as pods read them.
func forgeFlags(c *corev1.ConfigMap, document string, number int64) {
	c.Data = map[string]string{config.FlagsManifestKey: fmt.Sprintf(
		`{"version":1,"store":"flagcache:shop/demo","current":{"number":%d,"digest":%q,"publishedAt":"2026-06-01T12:00:00Z"}}`, number, digestOf(document))}
	c.BinaryData = map[string][]byte{config.FlagsDocumentKey: observed.Compress([]byte(document))}
}

// replaceNumber replaces the number in a manifest.
func replaceNumber(configMap *corev1.ConfigMap, number string) {
	text := configMap.Data[config.FlagsManifestKey]
	before, rest, _ := strings.Cut(text, `"number":`)
	_, after, _ := strings.Cut(rest, ",")
	configMap.Data[config.FlagsManifestKey] = before + `"number":` + number + "," + after
}
