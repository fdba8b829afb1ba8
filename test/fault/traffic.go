// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/analysis"
	"github.com/flagcache/flagcache/service/config"
)

// Images that start, and then disappoint.
const (
	// failingImage fails half of its requests.
	failingImage = "failing"
	// crashingImage ends again and again.
	crashingImage = "crashing"
	// slowImage does not pass a load test.
	slowImage = "slow"
)

// requestsPerSecond that clients make of all revisions together.
const requestsPerSecond = 1000

// share of the traffic that a candidate has, in percent.
type share struct {
	revision string
	weight   int32
}

// clients are what clients were answered. The maps are never changed in place.
type clients struct {
	// answered are the requests that each revision answered.
	answered map[string]analysis.Counts
	// trials are how long candidates had a share, and what they answered then, since
	// their trials began.
	trials map[share]spell
	// served are the revisions that all clients were sent to.
	served map[string]bool
}

// spell is how long something was so.
type spell struct {
	lasted   time.Duration
	requests int64
}

// answer has the revisions answer clients for a time.
func (w *World) answer(d time.Duration) {
	fc, ok := live[*v1alpha1.FlagCache](&w.api.store, flagCaches, name)
	if !ok || fc.Spec.Canary == nil || d <= 0 {
		return
	}
	requests := int64(d/time.Millisecond) * requestsPerSecond / 1000
	left := requests
	w.clients.answered = maps.Clone(w.clients.answered)
	if w.clients.answered == nil {
		w.clients.answered = map[string]analysis.Counts{}
	}
	for _, s := range w.shares() {
		if w.upReplicas(s.revision) == 0 {
			continue
		}
		taken := requests * int64(s.weight) / 100
		left -= taken
		w.count(s.revision, taken)
		w.clients.trials = maps.Clone(w.clients.trials)
		if w.clients.trials == nil {
			w.clients.trials = map[share]spell{}
		}
		before := w.clients.trials[s]
		w.clients.trials[s] = spell{before.lasted + d, before.requests + taken}
	}
	w.count(w.serving(), left)
}

// count has a revision answer requests.
func (w *World) count(revision string, requests int64) {
	counts := w.clients.answered[revision]
	counts.Total += requests
	if strings.Contains(w.imageOf(revision), failingImage) && !w.mended {
		counts.Bad += requests / 2
	}
	w.clients.answered[revision] = counts
}

// endTrial forgets what a candidate answered: another trial begins anew.
func (w *World) endTrial(revision string) {
	w.clients.trials = maps.Clone(w.clients.trials)
	maps.DeleteFunc(w.clients.trials, func(s share, _ spell) bool { return s.revision == revision })
}

// shares are those of candidates, by what pods and the gateway were told. What is
// left is the stable revision's.
func (w *World) shares() []share {
	return slices.Concat(w.splitShares(), w.podShares(w.upReplicas), w.gatewayShares())
}

// splitShares are what the stable pods hand on.
func (w *World) splitShares() []share {
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

// podShares are those of pods that the Service selects beside the stable ones, by
// how many a revision has.
func (w *World) podShares(replicas func(revision string) int32) []share {
	service, ok := live[*corev1.Service](&w.api.store, services, name)
	if !ok || revisionOf(service) != "" || w.serving() == "" {
		return nil
	}
	all := replicas(w.serving())
	var others []string
	for _, o := range w.api.now(deployments) {
		if revision := o.GetLabels()[v1alpha1.LabelRevision]; ownedByName(o) && revision != w.serving() && replicas(revision) > 0 {
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

// upReplicas are the pods of a revision that answer.
func (w *World) upReplicas(revision string) int32 {
	d, ok := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+revision)
	if !ok {
		return 0
	}
	return min(d.Status.AvailableReplicas, ptr.Deref(d.Spec.Replicas, 1))
}

func (w *World) imageOf(revision string) string {
	d, ok := live[*appsv1.Deployment](&w.api.store, deployments, name+"-"+revision)
	if !ok {
		return ""
	}
	return d.Spec.Template.Spec.Containers[0].Image
}
