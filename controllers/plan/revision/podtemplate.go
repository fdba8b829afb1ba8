// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package revision renders what runs a revision of the flag service: its pod template,
// by whose hash it is named, its Deployment, and what all revisions share.
package revision

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/pods"
	"github.com/flagcache/flagcache/controllers/plan/source"
	"github.com/flagcache/flagcache/service/config"
)

const containerName = "flag-service"

// Template is what the pods of a revision run.
type Template struct {
	// Revision is the hash of the pod template.
	Revision string
	Pod      corev1.PodTemplateSpec
}

// Render renders the pod template of the spec and names it by its hash. The hash
// covers what is in the template; replicas, autoscaling, the probe and the flags
// themselves are not, so changing them replaces no pod.
func Render(x *observed.Index, workload cache.Workload, connectionHash string) Template {
	return named(PodTemplate(x, workload, connectionHash))
}

// RenderUnpublished renders the pod template as operators did before they published flags.
func RenderUnpublished(x *observed.Index, workload cache.Workload, connectionHash string) Template {
	return named(source.Unpublished(x.FlagCache, PodTemplate(x, workload, connectionHash)))
}

func named(pod corev1.PodTemplateSpec) Template {
	t := Template{Pod: pod}
	sum := sha256.Sum256([]byte(observed.ToJSON(t.Pod)))
	t.Revision = hex.EncodeToString(sum[:4])
	t.Pod.Labels[v1alpha1.LabelRevision] = t.Revision
	container := &t.Pod.Spec.Containers[0]
	container.Env = append(container.Env, corev1.EnvVar{Name: config.EnvRevision, Value: t.Revision})
	return t
}

// PodTemplate is the template of flag service pods that mount a connection, "" for
// none.
func PodTemplate(s *observed.Index, workload cache.Workload, connectionHash string) corev1.PodTemplateSpec {
	fc := s.FlagCache
	labels, annotations := map[string]string{}, map[string]string{}
	for k, v := range fc.Spec.Service.PodLabels {
		labels[k] = string(v)
	}
	for k, v := range fc.Spec.Service.PodAnnotations {
		annotations[k] = string(v)
	}
	annotations[v1alpha1.AnnotationConnection] = connectionHash
	maps.Copy(annotations, workload.Annotations)
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels:      observed.With(labels, observed.SelectorLabels(fc, v1alpha1.ComponentService)),
			Annotations: annotations,
		},
		Spec: podSpec(s, workload, connectionHash),
	}
}

func podSpec(s *observed.Index, workload cache.Workload, connectionHash string) corev1.PodSpec {
	spec := s.FlagCache.Spec.Service
	return corev1.PodSpec{
		AutomountServiceAccountToken:  ptr.To(false),
		EnableServiceLinks:            ptr.To(false),
		SecurityContext:               pods.PodSecurityContext(),
		TerminationGracePeriodSeconds: ptr.To[int64](30),
		ServiceAccountName:            serviceAccountName(s.FlagCache, workload),
		ImagePullSecrets:              pullSecrets(spec.ImagePullSecrets),
		NodeSelector:                  nodeSelector(spec.NodeSelector),
		Tolerations:                   spec.Tolerations,
		Affinity:                      spec.Affinity,
		TopologySpreadConstraints:     spread(s.FlagCache),
		Containers:                    []corev1.Container{container(s)},
		Volumes:                       volumes(s.FlagCache, connectionHash),
	}
}

// Container returns the container of the flag service, by its name: a webhook may add
// others, also before it. It is nil if there is none.
func Container(pod corev1.PodSpec) *corev1.Container {
	i := slices.IndexFunc(pod.Containers, func(c corev1.Container) bool { return c.Name == containerName })
	if i < 0 {
		return nil
	}
	return &pod.Containers[i]
}

func container(s *observed.Index) corev1.Container {
	fc := s.FlagCache
	return corev1.Container{
		Name:  containerName,
		Image: image(s),
		Env:   environment(fc),
		Ports: []corev1.ContainerPort{
			{Name: config.PortNameOFREP, ContainerPort: config.PortOFREP, Protocol: corev1.ProtocolTCP},
			{Name: config.PortNameTelemetry, ContainerPort: config.PortTelemetry, Protocol: corev1.ProtocolTCP},
		},
		Resources:       resourcesOf(fc),
		SecurityContext: pods.ContainerSecurityContext(),
		StartupProbe:    httpProbe(config.PathLive, 1, 30),
		ReadinessProbe:  httpProbe(config.PathReady, 2, 2),
		LivenessProbe:   httpProbe(config.PathLive, 10, 3),
		VolumeMounts: []corev1.VolumeMount{
			{Name: source.VolumeName, MountPath: source.Dir(fc), ReadOnly: true},
			{Name: "connection", MountPath: config.BindingRoot + "/" + config.BindingName, ReadOnly: true},
			{Name: "integrity", MountPath: config.IntegrityDir, ReadOnly: true},
			{Name: "traffic", MountPath: config.TrafficDir, ReadOnly: true},
		},
	}
}

func image(s *observed.Index) string {
	if image := s.FlagCache.Spec.Service.Image; image != "" {
		return image
	}
	return s.Operator.FlagServiceImage
}

func environment(fc *v1alpha1.FlagCache) []corev1.EnvVar {
	env := append(source.EnvVars(fc), []corev1.EnvVar{
		{Name: config.EnvEnvironment, Value: fc.Spec.Environment},
		{Name: config.EnvListenAddress, Value: ":" + strconv.Itoa(config.PortOFREP)},
		{Name: config.EnvTelemetryAddress, Value: ":" + strconv.Itoa(config.PortTelemetry)},
		{Name: config.EnvServiceBindingRoot, Value: config.BindingRoot},
		{Name: config.EnvSplitFile, Value: config.SplitFile},
		{Name: config.EnvSplitSalt, Value: fc.Namespace + "/" + fc.Name},
		{Name: config.EnvCacheTTL, Value: fc.Spec.Cache.TTL.Duration.String()},
		{Name: config.EnvCacheHMACKeyFile, Value: config.IntegrityDir + "/" + config.IntegrityKey},
		{Name: config.EnvRedisPoolSize, Value: strconv.Itoa(int(fc.Spec.Service.Redis.PoolSize))},
		{Name: config.EnvRedisDialTimeout, Value: fc.Spec.Service.Redis.DialTimeout.Duration.String()},
	}...)
	for _, e := range fc.Spec.Service.Env {
		env = append(env, corev1.EnvVar{Name: e.Name, Value: e.Value})
	}
	return env
}

func volumes(fc *v1alpha1.FlagCache, connectionHash string) []corev1.Volume {
	return []corev1.Volume{
		{Name: source.VolumeName, VolumeSource: source.Volume(fc)},
		{Name: "connection", VolumeSource: pods.SecretVolume(observed.PrivateConnectionName(fc, connectionHash))},
		{Name: "integrity", VolumeSource: pods.SecretVolume(observed.IntegrityName(fc))},
		{Name: "traffic", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: observed.TrafficName(fc)},
			DefaultMode:          ptr.To[int32](0o444),
			Optional:             ptr.To(true),
		}}},
	}
}

func httpProbe(path string, period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: path, Port: intstr.FromString(config.PortNameTelemetry), Scheme: corev1.URISchemeHTTP,
		}},
		PeriodSeconds: period, TimeoutSeconds: 2, FailureThreshold: failures,
	}
}

// serviceAccountName returns the account that the cache needs, else that of the spec.
func serviceAccountName(fc *v1alpha1.FlagCache, workload cache.Workload) string {
	if workload.ServiceAccount != nil {
		return workload.ServiceAccount.Name
	}
	return fc.Spec.Service.ServiceAccountName
}

func pullSecrets(refs []v1alpha1.LocalReference) []corev1.LocalObjectReference {
	var secrets []corev1.LocalObjectReference
	for _, ref := range refs {
		secrets = append(secrets, corev1.LocalObjectReference{Name: ref.Name})
	}
	return secrets
}

func nodeSelector(labels map[string]v1alpha1.LabelValue) map[string]string {
	if len(labels) == 0 {
		return nil
	}
	selector := make(map[string]string, len(labels))
	for k, v := range labels {
		selector[k] = string(v)
	}
	return selector
}

// spread returns the constraints of the spec, else spreads the pods over zones and nodes
// where possible.
func spread(fc *v1alpha1.FlagCache) []corev1.TopologySpreadConstraint {
	if chosen := fc.Spec.Service.TopologySpreadConstraints; len(chosen) > 0 {
		return slices.Clone(chosen)
	}
	var constraints []corev1.TopologySpreadConstraint
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelHostname} {
		constraints = append(constraints, corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: observed.SelectorLabels(fc, v1alpha1.ComponentService)},
		})
	}
	return constraints
}

func resourcesOf(fc *v1alpha1.FlagCache) corev1.ResourceRequirements {
	if r := fc.Spec.Service.Resources; r != nil {
		return corev1.ResourceRequirements{Requests: r.Requests, Limits: r.Limits}
	}
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("100m"),
			corev1.ResourceMemory: resource.MustParse("64Mi"),
		},
		Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
	}
}
