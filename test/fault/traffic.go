// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

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

const (
	// routeName is the name of the user's HTTPRoute.
	routeName = "shop"
	// annotationWeights are the weights with which the gateway currently distributes requests.
	annotationWeights = "world.test/programs"
)

// aRoute returns an HTTPRoute with the Service as its only backend.
func aRoute() *gatewayv1.HTTPRoute {
	return &gatewayv1.HTTPRoute{
		ObjectMeta: metav1.ObjectMeta{Name: routeName, Namespace: namespace},
		Spec: gatewayv1.HTTPRouteSpec{
			CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Name: "public"}}},
			Rules: []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
				BackendObjectReference: gatewayv1.BackendObjectReference{Name: name, Port: ptr.To[gatewayv1.PortNumber](80)},
			}}}}},
		},
	}
}

// gateway accepts the current routes: it sets their status, and distributes requests by their
// weights from then on.
func (w kube) gateway() {
	for _, o := range w.api.now(httpRoutes) {
		updateAs(&w.api, httpRoutes, o.GetName(), func(route *gatewayv1.HTTPRoute) {
			programs, err := json.Marshal(weightsOf(route))
			if err != nil {
				panic(fmt.Sprintf("writing the weights of a route: %v", err))
			}
			setAnnotation(route, annotationWeights, string(programs))
			w.setRouteStatus(route)
		})
	}
}

// setRouteStatus sets Accepted, and ResolvedRefs if all backends exist.
func (w kube) setRouteStatus(route *gatewayv1.HTTPRoute) {
	resolved := metav1.ConditionTrue
	for _, ref := range route.Spec.Rules[0].BackendRefs {
		if find(w.api.now(services), string(ref.Name)) == nil {
			resolved = metav1.ConditionFalse
		}
	}
	parent := gatewayv1.RouteParentStatus{ParentRef: route.Spec.ParentRefs[0], ControllerName: "world.test/gateway"}
	for _, c := range []metav1.Condition{
		{Type: string(gatewayv1.RouteConditionAccepted), Status: metav1.ConditionTrue, Reason: string(gatewayv1.RouteReasonAccepted)},
		{Type: string(gatewayv1.RouteConditionResolvedRefs), Status: resolved, Reason: "Checked"},
	} {
		c.ObservedGeneration = route.Generation
		parent.Conditions = append(parent.Conditions, c)
	}
	route.Status.Parents = []gatewayv1.RouteParentStatus{parent}
}

// weightsOf returns the weights of a route's backends by name.
func weightsOf(route *gatewayv1.HTTPRoute) map[string]int32 {
	weights := map[string]int32{}
	for _, ref := range route.Spec.Rules[0].BackendRefs {
		weights[string(ref.Name)] += ptr.Deref(ref.Weight, 1)
	}
	return weights
}

// gatewayTraffic returns the shares that the gateway sends to candidates.
func (w load) gatewayTraffic() []share {
	route, ok := live[*gatewayv1.HTTPRoute](&w.api.store, httpRoutes, routeName)
	if !ok {
		return nil
	}
	var programs map[string]int32
	if json.Unmarshal([]byte(route.Annotations[annotationWeights]), &programs) != nil {
		return nil
	}
	return sharesOf(programs)
}

// sharesOf returns the shares of candidates according to the weights of backends.
func sharesOf(weights map[string]int32) []share {
	all := int32(0)
	for _, weight := range weights {
		all += weight
	}
	var shares []share
	for _, backend := range slices.Sorted(maps.Keys(weights)) {
		revision, isCandidate := strings.CutPrefix(backend, name+"-")
		if isCandidate && weights[backend] > 0 {
			shares = append(shares, share{revision, 100 * weights[backend] / all})
		}
	}
	return shares
}

// checkRoute verifies S1: only the weights of the FlagCache's Services are changed in a user's
// route.
func (w oracle) checkRoute(before, after client.Object) {
	if before == nil || after == nil {
		w.violation("S1 ownership: the operator created or deleted an HTTPRoute")
		return
	}
	old, updated := before.(*gatewayv1.HTTPRoute), after.(*gatewayv1.HTTPRoute)
	if hash(withoutCandidates(old)) != hash(withoutCandidates(updated)) {
		w.violation("S1 ownership: the operator changed more of an HTTPRoute than its weights")
	}
}

// withoutCandidates returns a route as its user wrote it.
func withoutCandidates(route *gatewayv1.HTTPRoute) *gatewayv1.HTTPRoute {
	r := route.DeepCopy()
	r.ResourceVersion, r.Generation, r.ManagedFields = "", 0, nil
	rule := &r.Spec.Rules[0]
	var others []gatewayv1.HTTPBackendRef
	for _, ref := range rule.BackendRefs {
		if !strings.HasPrefix(string(ref.Name), name+"-") {
			ref.Weight = nil
			others = append(others, ref)
		}
	}
	rule.BackendRefs = others
	return r
}

// withGateway sets traffic routing by an HTTPRoute.
func withGateway(fc *v1alpha1.FlagCache) *v1alpha1.FlagCache {
	fc.Spec.Canary.Traffic = v1alpha1.TrafficSpec{Type: v1alpha1.TrafficGatewayAPI, HTTPRouteRef: &v1alpha1.LocalReference{Name: routeName}}
	return fc
}
