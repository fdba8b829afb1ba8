// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/broadcast"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/source"
	"github.com/flagcache/flagcache/controllers/probe"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/flags"
)

// publishedName is the ConfigMap of published flags, and store what identifies them.
const (
	publishedName = name + "-published-flags"
	storeID       = "flagcache:" + namespace + "/" + name
)

// documents has what the user wrote and the operator published, in order. It is never modified in
// place.
type documents struct {
	// written are the flags files that existed.
	written []string
	// served is the position in written of the document that was published last, and number its
	// number.
	served int
	number int64
	// digests are those of the published documents, by number.
	digests map[int64]string
	// foreign is the highest number that somebody else wrote and pods accept.
	foreign int64
}

// published returns the published document as pods read it, its number and digest.
func (w *World) published() (document string, number int64, err error) {
	configMap, ok := live[*corev1.ConfigMap](&w.api.store, configMaps, publishedName)
	if !ok {
		return "", 0, fmt.Errorf("ConfigMap %s does not exist", publishedName)
	}
	data, current, err := source.ReadPublished(configMap, storeID)
	return string(data), current.Number, err
}

// readsFlags reports whether a pod that mounts a ConfigMap has flags to serve.
func (w *World) readsFlags(configMap string) bool {
	document, _, err := w.published()
	if configMap != publishedName {
		file, ok := live[*corev1.ConfigMap](&w.api.store, configMaps, configMap)
		if !ok {
			return false
		}
		document, err = file.Data["flags.json"], nil
	}
	if err == nil {
		_, err = flags.Validate(context.Background(), []byte(document))
	}
	return err == nil
}

// recordFlags remembers the flags files of the user. A FlagCache that is created again is another
// one, whose numbers begin again.
func (w *World) recordFlags(k kind, after client.Object) {
	if k == flagCaches && after == nil {
		w.documents = documents{written: w.documents.written}
	}
	file, ok := after.(*corev1.ConfigMap)
	if !ok || w.writer == operator {
		return
	}
	if file.Name == publishedName {
		if _, number, err := w.published(); err == nil && number <= w.time.Unix()+config.FlagsClockSkew+config.FlagsNumberLead {
			w.documents.foreign = max(w.documents.foreign, number)
		}
		return
	}
	if text, ok := file.Data["flags.json"]; ok {
		w.documents.written = append(slices.Clip(w.documents.written), text)
	}
}

// checkPublished verifies F1: what the operator publishes is complete and valid, has a higher number
// than all before, and is not older than what it published before.
func (w oracle) checkPublished(k kind, before, after client.Object) {
	w.checkLastGoodKept(k, before, after)
	if k != configMaps || after == nil || after.GetName() != publishedName || sameDocument(before, after) {
		return
	}
	data, current, err := source.ReadPublished(after.(*corev1.ConfigMap), storeID)
	if err == nil {
		_, err = flags.Validate(context.Background(), data)
	}
	if err != nil {
		w.violation("F1 flags: what was published cannot be served: %v", err)
		return
	}
	if last := max(w.documents.number, w.documents.foreign); current.Number <= last {
		w.violation("F1 flags: number %d was published after %d", current.Number, last)
	}
	at := len(w.documents.written) - 1
	for at >= 0 && w.documents.written[at] != string(data) {
		at--
	}
	if at < w.documents.served {
		w.violation("F1 flags: the flags file %d was published after %d", at, w.documents.served)
	}
	w.documents.served, w.documents.number = at, current.Number
	digests := maps.Clone(w.documents.digests)
	if digests == nil {
		digests = map[int64]string{}
	}
	digests[current.Number] = current.Digest
	w.documents.digests = digests
}

// checkLastGoodKept verifies F1: the operator deletes what pods read only to create it again.
func (w oracle) checkLastGoodKept(k kind, before, after client.Object) {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if k != configMaps || after != nil || before.GetName() != publishedName || !ok || fc.DeletionTimestamp != nil || w.plan.hasOutdatedDecisions() {
		return
	}
	file := fc.Spec.Flags.ConfigMap
	if !ptr.Deref(before.(*corev1.ConfigMap).Immutable, false) || file != nil && !w.readsFlags(file.Name) {
		w.violation("F1 flags: the published flags were deleted")
	}
}

// sameDocument reports whether a write did not change what pods read.
func sameDocument(before, after client.Object) bool {
	from, ok := before.(*corev1.ConfigMap)
	to := after.(*corev1.ConfigMap)
	return ok && from.Data[config.FlagsManifestKey] == to.Data[config.FlagsManifestKey] &&
		string(from.BinaryData[config.FlagsDocumentKey]) == string(to.BinaryData[config.FlagsDocumentKey])
}

// checkFlagsAtRest verifies F2: a flags file that can be used is what pods read, the last one that
// could be used is otherwise, and the status has its number. If somebody else has replaced that, the
// status says so.
func (w oracle) checkFlagsAtRest() {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok || fc.DeletionTimestamp != nil || fc.Spec.Flags.ConfigMap == nil || fc.Spec.Suspend {
		return
	}
	document, number, err := w.published()
	file, exists := live[*corev1.ConfigMap](&w.api.store, configMaps, fc.Spec.Flags.ConfigMap.Name)
	usable := exists && w.readsFlags(file.Name)
	last := w.documents.served
	switch {
	case usable && (err != nil || document != file.Data["flags.json"]):
		w.violation("F2 flags: pods read %q (%v) and the flags file has %q", document, err, file.Data["flags.json"])
	case !usable && err == nil && w.documents.number > 0 && number != w.documents.number:
		valid := meta.FindStatusCondition(fc.Status.Conditions, v1alpha1.ConditionFlagsValid)
		if fc.Status.Flags == nil || fc.Status.Flags.Number == number || valid == nil || !strings.Contains(valid.Message, "somebody edited ConfigMap "+publishedName) {
			w.violation("F2 flags: pods read number %d, which somebody else wrote; the status has %+v and %+v", number, fc.Status.Flags, valid)
		}
	case !usable && err == nil && w.documents.number > 0 && document != w.documents.written[last]:
		w.violation("F2 flags: pods read %q while the flags file cannot be used, and %q was published last", document, w.documents.written[last])
	case err == nil && (fc.Status.Flags == nil || fc.Status.Flags.Number != number):
		w.violation("F2 flags: number %d is published, and the status has %+v", number, fc.Status.Flags)
	case err == nil:
		w.checkRedisAtRest(fc, number)
	}
}

// broadcaster simulates what writes flags to Redis. It writes one tick after Watch, and triggers the
// operator when the result changes.
type broadcaster struct {
	target *broadcast.Target
	fresh  bool
	// accepted reports that the last probe that the operator knows of succeeded with the target's
	// login. What a later one found it cannot know.
	accepted bool
	last     broadcast.Result
}

// Watch starts or continues writing a document.
func (b *broadcaster) Watch(_ types.NamespacedName, t broadcast.Target) {
	if b.target == nil || hash(*b.target) != hash(t) {
		b.target, b.fresh = &t, true
	}
}

// Pause stops writing.
func (b *broadcaster) Pause(key types.NamespacedName) { b.Forget(key) }

// Forget stops writing.
func (b *broadcaster) Forget(types.NamespacedName) { *b = broadcaster{} }

// Last returns the latest result.
func (b *broadcaster) Last(types.NamespacedName) (broadcast.Result, bool) {
	return b.last, b.last.Reason != ""
}

// slot is the document of an environment in a Redis, as one of number 0 if there is none.
type slot struct {
	store, digest string
	number        int64
}

// broadcaster writes the document that the operator requested, like the flag service: a lower number
// never replaces a higher one of the same store.
func (w kube) broadcaster() {
	b := &w.broadcasts
	if b.target == nil || b.last.Reason == broadcast.Stored && b.last.Number == b.target.Number && !b.fresh {
		return
	}
	if b.fresh {
		b.fresh = false
		w.nextTick = w.time.Add(tick)
		return
	}
	w.oracle().checkBroadcast(*b.target)
	result := broadcast.Result{Number: b.target.Number, Reason: broadcast.Stored}
	if answer := w.probeResult(b.target.Redis); answer.Outcome != probe.Healthy {
		result.Reason = broadcast.Reason(answer.Reason)
		w.setAlarm(w.time.Add(10 * tick))
	} else {
		for _, environment := range b.target.Environments {
			place := b.target.Redis.Addr + "/" + environment
			if has := w.slots[place]; has.number < b.target.Number || has.store != b.target.Store {
				slots := maps.Clone(w.slots)
				slots[place] = slot{store: b.target.Store, digest: b.target.Digest, number: b.target.Number}
				w.slots = slots
				w.slotWrites++
				w.logf("       Redis %s gets number %d", place, b.target.Number)
			}
		}
	}
	if result.Reason != b.last.Reason {
		w.queue.enqueue(w.time)
	}
	b.last = result
}

// checkBroadcast verifies F3: what is written to Redis was published before, and the server has
// accepted the login.
func (w oracle) checkBroadcast(t broadcast.Target) {
	if published, ok := w.documents.digests[t.Number]; !w.plan.hasOutdatedDecisions() && (!ok || published != t.Digest) {
		w.violation("F3 flags: number %d is written to Redis with the digest %.8s, and was published with %.8s", t.Number, t.Digest, published)
	}
	if !w.plan.hasOutdatedDecisions() && !w.broadcasts.accepted {
		w.violation("F3 flags: flags are written to %s, which has not accepted the login", t.Redis.Addr)
	}
	if t.Store != storeID || t.Key.IsEmpty() || len(t.Environments) == 0 {
		w.violation("F3 flags: the document of store %q for environments %v is written to Redis, with a key: %t", t.Store, t.Environments, !t.Key.IsEmpty())
	}
}

// checkRedisAtRest verifies F4: a healthy Redis has the published document.
func (w oracle) checkRedisAtRest(fc *v1alpha1.FlagCache, number int64) {
	healthy := meta.IsStatusConditionTrue(fc.Status.Conditions, v1alpha1.ConditionCacheHealthy)
	serving := meta.IsStatusConditionTrue(fc.Status.Conditions, v1alpha1.ConditionServing)
	stable, ok := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+w.canaryOracle().stable())
	watched, probed := w.redis[request.NamespacedName]
	if !healthy || !serving || !ok || !probed || !slices.ContainsFunc(stable.Spec.Template.Spec.Volumes, func(v corev1.Volume) bool {
		return v.ConfigMap != nil && v.ConfigMap.Name == publishedName
	}) {
		return
	}
	for _, variable := range stable.Spec.Template.Spec.Containers[0].Env {
		if place := watched.target.Addr + "/" + variable.Value; variable.Name == config.EnvEnvironment && w.slots[place].number != number {
			w.violation("F4 flags: number %d is published, and Redis %s has %d", number, place, w.slots[place].number)
		}
	}
}

// broadcastState is what follows of writes to Redis depends on: numbers relative to the published one.
func (w digest) broadcastState() string {
	_, number, _ := w.published()
	text := fmt.Sprint(w.broadcasts.fresh, w.broadcasts.accepted, w.broadcasts.last.Reason, w.broadcasts.last.Number-number)
	if t := w.broadcasts.target; t != nil {
		text += fmt.Sprint(t.Number-number, t.Digest, t.Environments, t.Redis.Addr, t.Redis.Username)
	}
	for _, place := range slices.Sorted(maps.Keys(w.slots)) {
		text += fmt.Sprint(" ", place, w.slots[place].digest, w.slots[place].number-number)
	}
	return text
}

// withoutNumber removes the number and the time of published flags, which depend on the timing.
func withoutNumber(o client.Object) {
	switch o := o.(type) {
	case *v1alpha1.FlagCache:
		if o.Status.Flags != nil {
			o.Status.Flags.Number, o.Status.Flags.PublishedAt = 0, metav1.Time{}
		}
	case *corev1.ConfigMap:
		var manifest map[string]any
		if o.Name != publishedName || json.Unmarshal([]byte(o.Data[config.FlagsManifestKey]), &manifest) != nil {
			return
		}
		if current, ok := manifest["current"].(map[string]any); ok {
			current["number"], current["publishedAt"] = 0, ""
		}
		o.Data[config.FlagsManifestKey] = asText(manifest)
		delete(o.Annotations, v1alpha1.AnnotationApplied)
	}
}

// flagsSealed reports whether the seal of the published flags is right.
func (w digest) flagsSealed() bool {
	configMap, published := live[*corev1.ConfigMap](&w.api.store, configMaps, publishedName)
	key, sealed := live[*corev1.Secret](&w.api.store, secrets, integrityName)
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !published || !sealed || !ok {
		return false
	}
	return observed.NewIndex(observed.Snapshot{FlagCache: fc, Children: []observed.Object{key}}).Records.Seal.OnFlags(configMap)
}

// statusNumber is the number in the status relative to the published one.
func (w digest) statusNumber() int64 {
	_, number, err := w.published()
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if err != nil || !ok || fc.Status.Flags == nil {
		return 0
	}
	return fc.Status.Flags.Number - number
}

// editPublished edits the ConfigMap of published flags as somebody else.
func editPublished(what string, edit func(*corev1.ConfigMap)) step {
	return step{what, func(w *World) { updateAs(&w.api, configMaps, publishedName, edit) }}
}

// setNumber replaces the number in a manifest.
func setNumber(c *corev1.ConfigMap, number int64) {
	c.Data[config.FlagsManifestKey] = regexp.MustCompile(`"number":\d+`).ReplaceAllString(c.Data[config.FlagsManifestKey], fmt.Sprintf(`"number":%d`, number))
}

// otherFlags is another file with good flags.
const otherFlags = `{"flags":{"b":{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on"}}}`

// flagScenarios are about what happens to the flags.
var flagScenarios = []scenario{
	{name: "flagsChanged", steps: []step{createExternal, changeFlags(otherFlags), changeFlags(goodFlags)}},
	{name: "flagsRenamed", steps: []step{createExternal, {"rename the ConfigMap of the flags", func(w *World) {
		renamed := flagsFile(otherFlags)
		renamed.Name = "demo-flags-7h2k"
		w.user().mustCreate(renamed)
		w.user().updateSpec(func(s *v1alpha1.FlagCacheSpec) { s.Flags.ConfigMap.Name = renamed.Name })
		w.user().userDeletes(configMaps, "demo-flags")
	}}}},
	{name: "flagsMadeAgain", steps: []step{createExternal,
		{"delete the ConfigMap of the flags", func(w *World) { w.user().userDeletes(configMaps, "demo-flags") }},
		newImage("flag-service:v2"),
		{"create it again with other flags", func(w *World) { w.user().mustCreate(flagsFile(otherFlags)) }},
	}},
	{name: "publishedFlagsDeleted", steps: []step{createExternal, changeFlags(otherFlags),
		{"delete the published flags", func(w *World) { w.user().userDeletes(configMaps, publishedName) }},
		changeFlags(goodFlags),
	}},
	{name: "publishedFlagsEdited", steps: []step{createExternal,
		editPublished("remove the document", func(c *corev1.ConfigMap) { c.BinaryData = nil }),
		editPublished("overwrite the manifest", func(c *corev1.ConfigMap) { c.Data[config.FlagsManifestKey] = notJSON }),
		editPublished("choose the highest number", func(c *corev1.ConfigMap) { setNumber(c, math.MaxInt64-1) }),
		editPublished("replace the document and its digest", func(c *corev1.ConfigMap) {
			c.BinaryData[config.FlagsDocumentKey] = observed.Compress([]byte(otherFlags))
			c.Data[config.FlagsManifestKey] = regexp.MustCompile(`"digest":"[^"]*"`).ReplaceAllString(c.Data[config.FlagsManifestKey], fmt.Sprintf(`"digest":"%x"`, sha256.Sum256([]byte(otherFlags))))
		}),
		editPublished("remove the labels", func(c *corev1.ConfigMap) { c.Labels = nil }),
		changeFlags(otherFlags),
	}, waitsForRest: true},
	{name: "publishedFlagsForged", steps: []step{createExternal, changeFlags("{"),
		{"publish other flags", func(w *World) {
			document := []byte(otherFlags)
			editPublished("", func(c *corev1.ConfigMap) {
				c.Data[config.FlagsManifestKey] = fmt.Sprintf(`{"version":1,"store":%q,"current":{"number":%d,"digest":"%x","publishedAt":"2026-06-01T12:00:00Z"}}`,
					storeID, w.time.Unix()+config.FlagsNumberLead+1000, sha256.Sum256(document))
				c.BinaryData[config.FlagsDocumentKey] = observed.Compress(document)
			}).do(w)
		}},
		changeFlags(goodFlags),
	}, waitsForRest: true},
	{name: "publishedFlagsRestored", steps: []step{createExternal, changeFlags("{"),
		{"choose a higher number", func(w *World) {
			editPublished("", func(c *corev1.ConfigMap) { setNumber(c, w.time.Unix()+config.FlagsNumberLead+1000) }).do(w)
		}},
		editPublished("remove the manifest", func(c *corev1.ConfigMap) { c.Data = nil }),
	}, waitsForRest: true},
	{name: "publishedFlagsImmutable", steps: []step{createExternal,
		editPublished("make the published flags immutable", func(c *corev1.ConfigMap) { c.Immutable = ptr.To(true) }),
		changeFlags(otherFlags),
	}, waitsForRest: true},
}

func changeFlags(text string) step {
	return step{"change the flags", func(w *World) { w.user().updateFlags(text) }}
}

// The keys that authenticate documents in Redis are replaced while pods run, which read them from a
// Secret, each at its own time.

const (
	// keyPeriod is the time between two steps of a rotation, longer than a World at rest is verified.
	keyPeriod = 48 * time.Hour
	// keyStep is when the next step is due, whatever FlagCache it is, with time for faults.
	keyStep = keyPeriod + keyPeriod/8 + time.Hour

	integrityName = name + "-integrity"
)

// keyHistory is what the Secret with the keys had.
type keyHistory struct {
	// current is the key that documents are sealed with, seal that of what the operator reads back.
	current, seal string
	// known has when each of the keys that pods accept was first in the Secret. It is never
	// modified in place.
	known map[string]time.Time
	// replaced counts the replacements of the current key.
	replaced int
}

// keyScenarios are about the rotation of keys.
var keyScenarios = []scenario{
	{name: "keysRotated", steps: []step{createInCluster, passTime(keyStep), passTime(keyStep), passTime(keyStep)}, waitsForRest: true, keyPeriod: keyPeriod},
}

// passTime lets time pass in which nothing happens but what the operator has planned.
func passTime(d time.Duration) step {
	return step{"let " + d.String() + " pass", func(w *World) {
		w.setTime(w.time.Add(d))
		w.start, w.lastStep = w.start.Add(d), w.time
		w.queue.enqueue(w.time)
	}}
}

// checkKeys verifies S13: a key is used a period after pods could know it, the previous one is
// accepted after that, and the key of seals stays.
func (w oracle) checkKeys(k kind, before, after client.Object) {
	switch {
	case k != secrets:
	case after == nil && before.GetName() == integrityName:
		w.keys = keyHistory{}
	case after != nil && after.GetName() == integrityName:
		w.recordKeys(after.(*corev1.Secret))
	}
}

func (w oracle) recordKeys(holder *corev1.Secret) {
	was, now := w.keys, keyHistory{current: string(holder.Data[config.IntegrityKey]), seal: string(holder.Data[observed.SealKey]), known: map[string]time.Time{}, replaced: w.keys.replaced}
	for _, suffix := range []string{"", config.IntegrityNextSuffix, config.IntegrityPreviousSuffix} {
		if key := string(holder.Data[config.IntegrityKey+suffix]); key != "" {
			now.known[key] = w.time
			if since, ok := was.known[key]; ok {
				now.known[key] = since
			}
		}
	}
	if now.current != was.current {
		now.replaced++
	}
	w.keys = now
	if was.current == "" || w.writer != operator {
		return
	}
	if _, accepted := now.known[was.current]; !accepted {
		w.violation("S13 keys: what was sealed with the key in use until now is not accepted any more")
	}
	since, known := was.known[now.current]
	early := w.time.Sub(since) < w.scenario.keyPeriod-tick && len(w.plan.clockJumps) == 0
	if now.current != was.current && (!known || early) {
		w.violation("S13 keys: a key is used %v after pods could know it", w.time.Sub(since))
	}
	if was.seal != "" && now.seal != was.seal {
		w.violation("S13 keys: the key of seals was replaced")
	}
}

// checkKeysAtRest verifies S13: the key is replaced.
func (w oracle) checkKeysAtRest() {
	ended := w.step == len(w.scenario.steps) && w.keys.current != ""
	if w.scenario.keyPeriod > 0 && ended && w.keys.replaced < 2 {
		w.violation("S13 keys: the first key is still in use")
	}
}
