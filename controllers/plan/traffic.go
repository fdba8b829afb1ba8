// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/service/config"
)

// splitFile is what stable pods read: who gets a share, and how large it is
// (package split of the flag service has the format).
type splitFile struct {
	Revision string `json:"revision,omitempty"`
	Address  string `json:"address,omitempty"`
	Weight   int32  `json:"weight"`
}

// trafficObjects give the candidate its share of the traffic. Where stable pods do
// not hand it on, the file goes on saying so until all is at rest: pods may be
// slow to see a file that is gone. The weights of a route are routeChanges.
func trafficObjects(s *observed.Index, r rollout) []observed.Object {
	fc := s.FlagCache
	var objects []observed.Object
	traffic := v1alpha1.TrafficType("")
	if r.canary != nil {
		traffic = fc.Spec.Canary.Traffic.Type
	}
	if traffic == v1alpha1.TrafficSplit || traffic == v1alpha1.TrafficGatewayAPI {
		objects = append(objects, candidateService(s, r.target))
	}
	if traffic == v1alpha1.TrafficSplit {
		return append(objects, trafficConfigMap(fc, splitFile{Revision: r.target, Address: observed.RevisionEndpoint(fc, r.target), Weight: r.canary.Weight}))
	}
	if _, there := observed.Get[*corev1.ConfigMap](s, observed.TrafficName(fc)); there && !r.atRest() {
		objects = append(objects, trafficConfigMap(fc, splitFile{}))
	}
	return objects
}

// givenWeight is the weight that a candidate was seen to have.
func givenWeight(s *observed.Index, candidate string) int32 {
	if s.SharesService() {
		return 100
	}
	if g := readGate(s, candidate); g != nil {
		return g.most
	}
	kept, ok := observed.Get[*corev1.ConfigMap](s, observed.TrafficName(s.FlagCache))
	if !ok {
		return 0
	}
	var file splitFile
	if json.Unmarshal([]byte(kept.Data[config.SplitKey]), &file) != nil || file.Revision != candidate {
		return 0
	}
	return file.Weight
}

func trafficConfigMap(fc *v1alpha1.FlagCache, file splitFile) *corev1.ConfigMap {
	text, err := json.Marshal(file)
	if err != nil {
		panic(fmt.Sprintf("a split made of plain data does not marshal: %v", err))
	}
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: observed.ChildMeta(fc, observed.TrafficName(fc), v1alpha1.ComponentService),
		Data:       map[string]string{config.SplitKey: string(text)},
	}
}

// clientService is what clients call. It selects the stable revision; only where
// the number of pods is the share does it select the candidate's too, and then
// says which revision is stable.
func clientService(fc *v1alpha1.FlagCache, r rollout) *corev1.Service {
	svc := ofrepService(fc, observed.ServiceName(fc), revisionLabels(fc, r.serves))
	shared := r.canary != nil && r.canary.Weight > 0 && r.serves == r.stable && fc.Spec.Canary.Traffic.Type == v1alpha1.TrafficReplicas
	if shared {
		svc.Spec.Selector = observed.SelectorLabels(fc, v1alpha1.ComponentService)
		svc.Annotations = map[string]string{v1alpha1.AnnotationStable: r.stable}
	}
	return svc
}

// candidateService is where stable pods, or a gateway, reach the candidate.
func candidateService(s *observed.Index, revision string) *corev1.Service {
	fc := s.FlagCache
	svc := ofrepService(fc, observed.RevisionName(fc, revision), revisionLabels(fc, revision))
	svc.Labels[v1alpha1.LabelRevision] = revision
	if route := recordedRoute(s, revision); route != "" {
		svc.Annotations = map[string]string{v1alpha1.AnnotationRoute: route}
	}
	return svc
}

func ofrepService(fc *v1alpha1.FlagCache, name string, selector map[string]string) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: observed.ChildMeta(fc, name, v1alpha1.ComponentService),
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceTypeClusterIP,
			Selector: selector,
			Ports: []corev1.ServicePort{{
				Name: config.PortNameOFREP, Port: observed.ServicePort, Protocol: corev1.ProtocolTCP,
				TargetPort: intstr.FromString(config.PortNameOFREP),
			}},
		},
	}
}
