// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/pods"
	"github.com/flagcache/flagcache/controllers/plan/source"
	"github.com/flagcache/flagcache/controllers/plan/traffic"
	"github.com/flagcache/flagcache/service/config"
)

const (
	containerName = "flag-service"
	// defaultReplicas keep answering while one pod moves.
	defaultReplicas = 2
	// progressDeadline is how long a revision may take to become available.
	progressDeadline = 300
)

// servicePart is the flag service.
type servicePart struct {
	objects []observed.Object
	// later are objects that exist and stay as they are.
	later   []observed.Object
	rollout rollout
	// blocked says why there is no target revision; "" when there is one.
	blocked string
	// replicas wanted of the stable revision.
	replicas int32
}

// planService plans the flag service: a Deployment for each revision that the
// rollout keeps, and what is in front of them.
func planService(s *observed.Index, requested request, desired connection.Desired, flags source.Part) servicePart {
	fc := s.FlagCache
	template, blocked := target(s, requested, desired, flags)
	part := servicePart{blocked: blocked, rollout: decideRollout(s, template)}
	part.replicas = part.rollout.full
	part.objects, part.later = part.rollout.history.objects(fc, part.rollout.inUse())
	if account := requested.workload.ServiceAccount; account != nil {
		part.objects = append(part.objects, account)
	}
	part.objects = append(part.objects, traffic.Objects(s, part.rollout.share(fc), part.rollout.atRest())...)
	part.objects = append(part.objects, revisionDeployments(fc, template, part.rollout)...)
	loadTest, running := loadTestObjects(s, part.rollout)
	part.objects, part.later = append(part.objects, loadTest...), append(part.later, running...)
	if part.rollout.serves == "" {
		return part
	}
	part.objects = append(part.objects, traffic.ClientService(fc, part.rollout.serves, part.rollout.share(fc)), disruptionBudget(fc), serviceNetworkPolicy(fc, desired, flags.Ports))
	if fc.Spec.Service.Autoscaling != nil {
		part.objects = append(part.objects, autoscaler(fc, part.rollout.serves))
	}
	return part
}

// revisionTemplate is what the pods of a revision run.
type revisionTemplate struct {
	revision string
	template corev1.PodTemplateSpec
	// intent is what the spec asks for, "" where no connection goes with a rejected
	// revision.
	intent string
}

// target is the revision that the spec asks for. Without a connection there is
// none; without usable flags a new one could not become ready, so it is not
// begun.
func target(s *observed.Index, requested request, desired connection.Desired, flags source.Part) (*revisionTemplate, string) {
	if desired.Hash == "" {
		if record := requested.rejected; record != nil {
			return &revisionTemplate{revision: record.Revision, intent: record.Intent}, ""
		}
		if requested.unreadable != "" {
			return &revisionTemplate{revision: requested.unreadable}, ""
		}
		return nil, v1alpha1.ReasonWaitingForConnection
	}
	rendered := renderRevision(s, requested, desired.Hash)
	_, begun := observed.Get[*appsv1.Deployment](s, observed.RevisionName(s.FlagCache, rendered.revision))
	if !flags.Usable && !begun {
		return nil, v1alpha1.ReasonWaitingForFlags
	}
	return rendered, ""
}

// renderRevision renders the pod template and names it by its hash. What is in
// the template is in the revision; replicas, autoscaling, the probe and the
// flags themselves are not, so changing them replaces no pod.
func renderRevision(s *observed.Index, requested request, connectionHash string) *revisionTemplate {
	template := podTemplate(s, connectionHash, requested.workload)
	text, err := json.Marshal(template)
	if err != nil {
		panic(fmt.Sprintf("a pod template made of plain data does not marshal: %v", err))
	}
	sum := sha256.Sum256(text)
	r := &revisionTemplate{revision: hex.EncodeToString(sum[:4]), template: template, intent: requested.intent}
	r.template.Labels[v1alpha1.LabelRevision] = r.revision
	container := &r.template.Spec.Containers[0]
	container.Env = append(container.Env, corev1.EnvVar{Name: config.EnvRevision, Value: r.revision})
	return r
}

// revisionDeployments are the Deployments of the revisions that the rollout
// keeps. Of one that is not the target only the size is still ours to say: its
// template is history.
func revisionDeployments(fc *v1alpha1.FlagCache, template *revisionTemplate, r rollout) []observed.Object {
	var objects []observed.Object
	for _, revision := range r.kept() {
		observed := r.observed[revision]
		replicas, ours := r.replicas(revision)
		switch {
		case !ours:
		case template != nil && revision == template.revision:
			objects = append(objects, deployment(fc, revision, template.template, replicas))
		case observed != nil && ptr.Deref(observed.Spec.Replicas, 1) != replicas:
			objects = append(objects, deployment(fc, revision, observed.Spec.Template, replicas))
		}
	}
	return objects
}

// wantedReplicas is the size of a revision that carries all traffic. Under
// autoscaling it is what the autoscaler made of the serving revision, so that a
// new one takes over at the same size.
func wantedReplicas(fc *v1alpha1.FlagCache, r rollout) int32 {
	auto := fc.Spec.Service.Autoscaling
	if auto == nil {
		return ptr.Deref(fc.Spec.Service.Replicas, defaultReplicas)
	}
	replicas := auto.MinReplicas
	if serving := r.observed[cmp.Or(r.stable, r.target)]; serving != nil {
		replicas = ptr.Deref(serving.Spec.Replicas, replicas)
	}
	return min(max(replicas, auto.MinReplicas), auto.MaxReplicas)
}

func deployment(fc *v1alpha1.FlagCache, revision string, template corev1.PodTemplateSpec, replicas int32) *appsv1.Deployment {
	meta := observed.ChildMeta(fc, observed.RevisionName(fc, revision), v1alpha1.ComponentService)
	meta.Labels[v1alpha1.LabelRevision] = revision
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: meta,
		Spec: appsv1.DeploymentSpec{
			Replicas:                ptr.To(replicas),
			RevisionHistoryLimit:    ptr.To[int32](1),
			ProgressDeadlineSeconds: ptr.To[int32](progressDeadline),
			Strategy:                appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType},
			Selector:                &metav1.LabelSelector{MatchLabels: observed.RevisionLabels(fc, revision)},
			Template:                template,
		},
	}
}

// podTemplate is a flag service pod.
func podTemplate(s *observed.Index, connectionHash string, workload cache.Workload) corev1.PodTemplateSpec {
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
		Spec: podSpec(s, connectionHash, workload),
	}
}

func podSpec(s *observed.Index, connectionHash string, workload cache.Workload) corev1.PodSpec {
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
		Resources:       serviceResources(fc),
		SecurityContext: pods.ContainerSecurityContext(),
		StartupProbe:    httpProbe(config.PathLive, 1, 30),
		ReadinessProbe:  httpProbe(config.PathReady, 2, 2),
		LivenessProbe:   httpProbe(config.PathLive, 10, 3),
		VolumeMounts: []corev1.VolumeMount{
			{Name: "flags", MountPath: source.Dir(fc), ReadOnly: true},
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
	env := []corev1.EnvVar{
		{Name: config.EnvEnvironment, Value: fc.Spec.Environment},
		source.EnvVar(fc),
		{Name: config.EnvListenAddress, Value: ":" + strconv.Itoa(config.PortOFREP)},
		{Name: config.EnvTelemetryAddress, Value: ":" + strconv.Itoa(config.PortTelemetry)},
		{Name: config.EnvServiceBindingRoot, Value: config.BindingRoot},
		{Name: config.EnvSplitFile, Value: config.SplitFile},
		{Name: config.EnvSplitSalt, Value: fc.Namespace + "/" + fc.Name},
		{Name: config.EnvCacheTTL, Value: fc.Spec.Cache.TTL.Duration.String()},
		{Name: config.EnvCacheHMACKeyFile, Value: config.IntegrityDir + "/" + config.IntegrityKey},
		{Name: config.EnvRedisPoolSize, Value: strconv.Itoa(int(fc.Spec.Service.Redis.PoolSize))},
		{Name: config.EnvRedisDialTimeout, Value: fc.Spec.Service.Redis.DialTimeout.Duration.String()},
	}
	for _, e := range fc.Spec.Service.Env {
		env = append(env, corev1.EnvVar{Name: e.Name, Value: e.Value})
	}
	return env
}

func volumes(fc *v1alpha1.FlagCache, connectionHash string) []corev1.Volume {
	return []corev1.Volume{
		{Name: "flags", VolumeSource: source.Volume(fc)},
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

// serviceAccountName is that of the account that the cache needs, else the spec's.
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

// spread is the user's choice, else over zones and nodes where possible.
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

func serviceResources(fc *v1alpha1.FlagCache) corev1.ResourceRequirements {
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

// disruptionBudget lets nodes drain one pod at a time, of any revision.
func disruptionBudget(fc *v1alpha1.FlagCache) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
		ObjectMeta: observed.ChildMeta(fc, observed.ServiceName(fc), v1alpha1.ComponentService),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable:             ptr.To(intstr.FromInt32(1)),
			Selector:                   &metav1.LabelSelector{MatchLabels: observed.SelectorLabels(fc, v1alpha1.ComponentService)},
			UnhealthyPodEvictionPolicy: ptr.To(policyv1.AlwaysAllow),
		},
	}
}

// serviceNetworkPolicy lets clients and scrapers in, and the pods out to DNS
// and to the ports of the caches and of the source, which may be anywhere, and to
// each other: stable pods ask the candidate's.
func serviceNetworkPolicy(fc *v1alpha1.FlagCache, desired connection.Desired, sourcePorts []int32) *networkingv1.NetworkPolicy {
	selected := metav1.LabelSelector{MatchLabels: observed.SelectorLabels(fc, v1alpha1.ComponentService)}
	egress := []networkingv1.NetworkPolicyEgressRule{
		{Ports: []networkingv1.NetworkPolicyPort{pods.UDPPort(53), pods.TCPPort(53)}},
		{Ports: pods.TCPPorts(desired.Ports)},
		{
			To:    []networkingv1.NetworkPolicyPeer{{PodSelector: &selected}},
			Ports: []networkingv1.NetworkPolicyPort{pods.TCPPort(config.PortOFREP)},
		},
	}
	if len(sourcePorts) > 0 {
		egress = append(egress, networkingv1.NetworkPolicyEgressRule{Ports: pods.TCPPorts(sourcePorts)})
	}
	if desired.IAM {
		egress = append(egress, credentialsEgress()...)
	}
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: observed.ChildMeta(fc, observed.ServiceName(fc), v1alpha1.ComponentService),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: selected,
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				Ports: []networkingv1.NetworkPolicyPort{pods.TCPPort(config.PortOFREP), pods.TCPPort(config.PortTelemetry)},
			}},
			Egress: egress,
		},
	}
}

// credentialsEgress lets pods fetch AWS credentials: from STS, which may be anywhere,
// or from the agent of EKS Pod Identity on their node
// (https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html).
func credentialsEgress() []networkingv1.NetworkPolicyEgressRule {
	agent := []networkingv1.NetworkPolicyPeer{
		{IPBlock: &networkingv1.IPBlock{CIDR: "169.254.170.23/32"}},
		{IPBlock: &networkingv1.IPBlock{CIDR: "fd00:ec2::23/128"}},
	}
	return []networkingv1.NetworkPolicyEgressRule{
		{Ports: []networkingv1.NetworkPolicyPort{pods.TCPPort(443)}},
		{To: agent, Ports: []networkingv1.NetworkPolicyPort{pods.TCPPort(80)}},
	}
}

func autoscaler(fc *v1alpha1.FlagCache, revision string) *autoscalingv2.HorizontalPodAutoscaler {
	auto := fc.Spec.Service.Autoscaling
	return &autoscalingv2.HorizontalPodAutoscaler{
		TypeMeta:   metav1.TypeMeta{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"},
		ObjectMeta: observed.ChildMeta(fc, observed.ServiceName(fc), v1alpha1.ComponentService),
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{
				APIVersion: "apps/v1", Kind: "Deployment", Name: observed.RevisionName(fc, revision),
			},
			MinReplicas: ptr.To(auto.MinReplicas),
			MaxReplicas: auto.MaxReplicas,
			Metrics: []autoscalingv2.MetricSpec{{
				Type: autoscalingv2.ResourceMetricSourceType,
				Resource: &autoscalingv2.ResourceMetricSource{
					Name: corev1.ResourceCPU,
					Target: autoscalingv2.MetricTarget{
						Type: autoscalingv2.UtilizationMetricType, AverageUtilization: ptr.To(auto.TargetCPUPercent),
					},
				},
			}},
		},
	}
}
