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
