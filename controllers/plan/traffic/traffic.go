// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package traffic plans how a candidate gets its share of the traffic:
//
//	Split       the stable pods forward a share to the candidate's Service; they
//	            read it from a ConfigMap
//	GatewayAPI  the weights of an HTTPRoute of the user's
//	Replicas    the clients' Service selects the pods of both revisions
package traffic

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/service/config"
)

// Share is the share of the traffic that a candidate gets.
type Share struct {
	Candidate string
	Type      v1alpha1.TrafficType
	// Weight in percent.
	Weight int32
}

// splitFile is what stable pods read: who gets a share, and how large it is
// (package split of the flag service defines the format).
type splitFile struct {
	Revision string `json:"revision,omitempty"`
	Address  string `json:"address,omitempty"`
	Weight   int32  `json:"weight"`
}

// Objects give the candidate its share, nil if there is none. A weight of 0 stays
// in the ConfigMap of the split until the rollout is at rest, because pods may be
// slow to notice that a file was removed. The weights of a route are RouteChanges.
func Objects(x *observed.Index, share *Share, atRest bool) []observed.Object {
	fc := x.FlagCache
	var objects []observed.Object
	if share != nil && share.Type != v1alpha1.TrafficReplicas {
		objects = append(objects, candidateService(x, share.Candidate))
	}
	if share != nil && share.Type == v1alpha1.TrafficSplit {
		return append(objects, splitConfigMap(fc, splitFile{
			Revision: share.Candidate, Address: observed.RevisionEndpoint(fc, share.Candidate), Weight: share.Weight,
		}))
	}
	if _, exists := observed.Get[*corev1.ConfigMap](x, observed.TrafficName(fc)); exists && !atRest {
		objects = append(objects, splitConfigMap(fc, splitFile{}))
	}
	return objects
}

// ObservedWeight returns the weight in percent that a candidate was observed to
// have. A split that cannot be decoded gives none.
func ObservedWeight(x *observed.Index, candidate string) int32 {
	if x.SharesService() {
		return 100
	}
	if g := Gateway(x, candidate); g != nil {
		return g.MaxWeight
	}
	existing, ok := observed.Get[*corev1.ConfigMap](x, observed.TrafficName(x.FlagCache))
	if !ok {
		return 0
	}
	var file splitFile
	if json.Unmarshal([]byte(existing.Data[config.SplitKey]), &file) != nil || file.Revision != candidate {
		return 0
	}
	return file.Weight
}

func splitConfigMap(fc *v1alpha1.FlagCache, file splitFile) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: observed.ChildMeta(fc, observed.TrafficName(fc), v1alpha1.ComponentService),
		Data:       map[string]string{config.SplitKey: observed.ToJSON(file)},
	}
}

// ClientService is the Service that clients call. It selects the revision that
// serves. If the ratio of pods is the share it selects the candidate's pods too,
// and names the stable revision in an annotation.
func ClientService(fc *v1alpha1.FlagCache, serves string, share *Share) *corev1.Service {
	svc := service(fc, observed.ServiceName(fc), observed.RevisionLabels(fc, serves))
	if share != nil && share.Type == v1alpha1.TrafficReplicas && share.Weight > 0 && serves != share.Candidate {
		svc.Spec.Selector = observed.SelectorLabels(fc, v1alpha1.ComponentService)
		svc.Annotations = map[string]string{v1alpha1.AnnotationStable: serves}
	}
	return svc
}

// candidateService is where stable pods, or a gateway, reach the candidate.
func candidateService(x *observed.Index, revision string) *corev1.Service {
	fc := x.FlagCache
	svc := service(fc, observed.RevisionName(fc, revision), observed.RevisionLabels(fc, revision))
	svc.Labels[v1alpha1.LabelRevision] = revision
	if route := routeToRecord(x, revision); route != "" {
		svc.Annotations = map[string]string{v1alpha1.AnnotationRoute: route}
	}
	return svc
}

func service(fc *v1alpha1.FlagCache, name string, selector map[string]string) *corev1.Service {
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
