// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/controllers/plan/source"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/flags"
)

// Images that start but do not work properly.
const (
	// failingImage fails half of its requests.
	failingImage = "failing"
	// crashingImage crashes repeatedly.
	crashingImage = "crashing"
	// slowImage does not pass a load test.
	slowImage = "slow"
)

// requestsPerSecond is the rate of requests to all revisions together.
const requestsPerSecond = 1000

// share is a candidate's share of the traffic in percent.
type share struct {
	revision string
	weight   int32
}

// clientTraffic counts the requests of clients. The maps are never modified in place.
type clientTraffic struct {
	// answered counts the requests that each revision served.
	answered map[string]analysis.Counts
	// exposures has the time during which candidates had a share and the requests that they served
	// with it, since their canary started.
	exposures map[share]exposure
	// served has the revisions that have been stable, and ready those whose pods have been ready.
	served, ready map[string]bool
	// selected is the revision that the operator let the Service select, and last the last of them
	// whose pods were ready.
	selected, last string
}

// exposure is how long a candidate had a share, and how many requests it served.
type exposure struct {
	duration time.Duration
	requests int64
}

// serveRequests lets the revisions serve requests for some time.
func (w load) serveRequests(d time.Duration) {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok || fc.Spec.Canary == nil || d <= 0 || !w.selectsReadyPods() {
		return
	}
	requests := int64(d/time.Millisecond) * requestsPerSecond / 1000
	left := requests
	w.clients.answered = maps.Clone(w.clients.answered)
	if w.clients.answered == nil {
		w.clients.answered = map[string]analysis.Counts{}
	}
	for _, s := range w.traffic() {
		if w.availableReplicas(s.revision) == 0 {
			continue
		}
		taken := requests * int64(s.weight) / 100
		left -= taken
		w.countRequests(s.revision, taken)
		w.clients.exposures = maps.Clone(w.clients.exposures)
		if w.clients.exposures == nil {
			w.clients.exposures = map[share]exposure{}
		}
		before := w.clients.exposures[s]
		w.clients.exposures[s] = exposure{before.duration + d, before.requests + taken}
	}
	w.countRequests(w.canaryOracle().stable(), left)
}

// countRequests counts requests that a revision served.
func (w load) countRequests(revision string, requests int64) {
	counts := w.clients.answered[revision]
	counts.Total += requests
	if strings.Contains(w.imageOf(revision), failingImage) && !w.imageFixed {
		counts.Bad += requests / 2
	}
	w.clients.answered[revision] = counts
}

// resetExposure discards the exposure of a candidate, whose next canary starts from the beginning.
func (w load) resetExposure(revision string) {
	w.clients.exposures = maps.Clone(w.clients.exposures)
	maps.DeleteFunc(w.clients.exposures, func(s share, _ exposure) bool { return s.revision == revision })
}

// traffic returns the shares of candidates according to the configuration of pods and gateway. The
// stable revision has the rest.
func (w load) traffic() []share {
	return slices.Concat(w.splitTraffic(), w.podTraffic(w.availableReplicas), w.gatewayTraffic())
}

// splitTraffic returns the shares that the stable pods forward.
func (w load) splitTraffic() []share {
	traffic, ok := live[*corev1.ConfigMap](&w.api.store, configMaps, name+"-traffic")
	if !ok {
		return nil
	}
	return splitOf(traffic)
}

func splitOf(traffic *corev1.ConfigMap) []share {
	var file struct {
		Revision string
		Weight   int32
	}
	if json.Unmarshal([]byte(traffic.Data[config.SplitKey]), &file) != nil || file.Weight == 0 {
		return nil
	}
	return []share{{file.Revision, file.Weight}}
}

// podTraffic returns the shares of the other pods that the Service selects, by the number of
// replicas.
func (w load) podTraffic(replicas func(revision string) int32) []share {
	service, ok := live[*corev1.Service](&w.api.store, services, name)
	if !ok || revisionOf(service) != "" || w.canaryOracle().stable() == "" {
		return nil
	}
	all := replicas(w.canaryOracle().stable())
	var others []string
	for _, o := range w.api.now(deployments) {
		if revision := o.GetLabels()[v1alpha1.LabelRevision]; ownedByName(o) && revision != w.canaryOracle().stable() && replicas(revision) > 0 {
			others = append(others, revision)
			all += replicas(revision)
		}
	}
	var shares []share
	for _, revision := range others {
		shares = append(shares, share{revision, 100 * replicas(revision) / all})
	}
	return shares
}

// availableReplicas returns the number of a revision's pods that serve requests.
func (w load) availableReplicas(revision string) int32 {
	d, ok := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+revision)
	if !ok {
		return 0
	}
	return min(d.Status.AvailableReplicas, ptr.Deref(d.Spec.Replicas, 1))
}

func (w load) imageOf(revision string) string {
	d, ok := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+revision)
	if !ok {
		return ""
	}
	return d.Spec.Template.Spec.Containers[0].Image
}

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
		w.documents.served, w.documents.number = 0, 0
	}
	file, ok := after.(*corev1.ConfigMap)
	if !ok || w.writer == operator || file.Name == publishedName {
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
	if current.Number <= w.documents.number {
		w.violation("F1 flags: number %d was published after %d", current.Number, w.documents.number)
	}
	at := len(w.documents.written) - 1
	for at >= 0 && w.documents.written[at] != string(data) {
		at--
	}
	if at < w.documents.served {
		w.violation("F1 flags: the flags file %d was published after %d", at, w.documents.served)
	}
	w.documents.served, w.documents.number = at, current.Number
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
// could be used is otherwise, and the status has its number.
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
	case !usable && err == nil && w.documents.number > 0 && document != w.documents.written[last]:
		w.violation("F2 flags: pods read %q while the flags file cannot be used, and %q was published last", document, w.documents.written[last])
	case err == nil && (fc.Status.Flags == nil || fc.Status.Flags.Number != number):
		w.violation("F2 flags: number %d is published, and the status has %+v", number, fc.Status.Flags)
	}
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
		editPublished("choose the highest number", func(c *corev1.ConfigMap) {
			c.Data[config.FlagsManifestKey] = regexp.MustCompile(`"number":\d+`).ReplaceAllString(c.Data[config.FlagsManifestKey], fmt.Sprintf(`"number":%d`, int64(math.MaxInt64)))
		}),
		editPublished("remove the labels", func(c *corev1.ConfigMap) { c.Labels = nil }),
		changeFlags(otherFlags),
	}, waitsForRest: true},
	{name: "publishedFlagsImmutable", steps: []step{createExternal,
		editPublished("make the published flags immutable", func(c *corev1.ConfigMap) { c.Immutable = ptr.To(true) }),
		changeFlags(otherFlags),
	}, waitsForRest: true},
}

func changeFlags(text string) step {
	return step{"change the flags", func(w *World) { w.user().updateFlags(text) }}
}
