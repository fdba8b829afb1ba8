// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package incluster plans caches of type InCluster: one Redis in a StatefulSet. It
// stores nothing on disk: the cache is derived data, and the flag service fills it
// again.
package incluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/cache"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/cost"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/pods"
	"github.com/flagcache/flagcache/controllers/secret"
	"github.com/flagcache/flagcache/service/config"
)

// DefaultImage runs Redis.
const DefaultImage = "docker.io/library/redis:7.2-alpine"

const (
	provider  = "in-cluster"
	portName  = "redis"
	configDir = "/etc/redis"
	configKey = "redis.conf"
	// probeUser is the name of the probe's user, and probePasswordKey the key of its password
	// in the Secret. The flag service logs in as the default user.
	probeUser        = "probe"
	probePasswordKey = "probe-password"
	// basis is that of the estimate of a cost of 0.
	basis = "An in-cluster Redis has no bill of its own; its share of the cluster's nodes is not counted"
)

// Planner implements cache.Planner.
type Planner struct{ cache.Base }

// Hints implements cache.Planner.
func (Planner) Hints() cache.Hints {
	return cache.Hints{
		HighMemory: "raise spec.cache.inCluster.resources.limits.memory",
		HighCPU:    "find out what else uses it, or move to a cache of another type",
	}
}

// ProbeConnection implements cache.Planner. The operator has a user of its own, with access to
// the key of its probe and to the documents of flags, and logs in as that from when Redis knows it: when the
// StatefulSet runs a configuration that has it, and, while it changes from one
// configuration to another, if it logged in so before.
func (Planner) ProbeConnection(x *observed.Index, c connection.Connection) connection.Connection {
	password, stored := currentProbePassword(x)
	if c.Provider != provider || !stored {
		return c
	}
	own := c
	own.Username, own.Password = probeUser, password
	if knowsProbeUser(x) || x.Probe.Of == own.Hash(x.FlagCache.UID) {
		return own
	}
	return c
}

// knowsProbeUser reports whether the StatefulSet runs a configuration with the user of the
// probe, and no pod of another one.
func knowsProbeUser(x *observed.Index) bool {
	set, ok := observed.Get[*appsv1.StatefulSet](x, observed.RedisName(x.FlagCache))
	return ok && set.Spec.Template.Annotations[v1alpha1.AnnotationProbeUser] == probeUser &&
		set.Status.ObservedGeneration >= set.Generation && set.Status.CurrentRevision == set.Status.UpdateRevision
}

// Plan implements cache.Planner. A password is used from when a Secret was observed
// to hold it: one that was only generated may differ the next time.
func (Planner) Plan(in cache.Input) cache.Part {
	fc := in.FlagCache
	password, stored := currentPassword(in.Index)
	probePassword, probeStored := currentProbePassword(in.Index)
	file := redisConfig(fc, password, probePassword)
	part := cache.Part{
		Apply: []observed.Object{redisSecret(fc, password, probePassword, file), redisService(fc), redisNetworkPolicy(fc, in.Operator.Namespace)},
		Cost:  cost.AssessFree(fc.Spec.Budget, in.Bill, basis),
	}
	part.Status, part.Provisioned = status(in.Index)
	if set := redisStatefulSet(fc, file); stored && probeStored && !hasOtherFile(in.Index, file) {
		part.Apply = slices.Insert(part.Apply, 2, observed.Object(set))
	} else {
		part.Keep = []observed.Object{set}
	}
	if !stored {
		return part
	}
	part.Connection = &connection.Connection{
		Provider: provider,
		Host:     observed.RedisName(fc) + "." + fc.Namespace + ".svc",
		Port:     connection.DefaultPort,
		Password: password,
	}
	return part
}

// hasOtherFile reports whether the Secret holds another configuration file. Redis reads it at start
// only: a StatefulSet that changed before the Secret would start a pod with that file, and no
// other one. Without a file no pod starts.
func hasOtherFile(x *observed.Index, file secret.String) bool {
	stored := x.SecretValue(observed.RedisName(x.FlagCache), configKey)
	return !stored.IsEmpty() && stored != file
}

// status follows from that of the StatefulSet.
func status(x *observed.Index) (v1alpha1.CacheStatus, metav1.Condition) {
	name := observed.RedisName(x.FlagCache)
	set, ok := observed.Get[*appsv1.StatefulSet](x, name)
	st := v1alpha1.CacheStatus{State: cache.StateProvisioning, EngineVersion: pods.ImageTag(redisImage(x.FlagCache))}
	if ok && set.Status.ReadyReplicas > 0 && set.Status.ObservedGeneration >= set.Generation {
		st.State, st.Nodes = cache.StateAvailable, set.Status.ReadyReplicas
		return st, conditions.True(v1alpha1.ConditionCacheProvisioned, v1alpha1.ReasonProvisioned, "StatefulSet %s runs Redis", name)
	}
	const kind = v1alpha1.ConditionCacheProvisioned
	failure := x.CachePods
	switch {
	case ok && overdue(x, set):
		return st, conditions.False(kind, v1alpha1.ReasonCacheDeadlineExceeded,
			"The pod of StatefulSet %s did not become ready in %d seconds: %s. If spec.cache.inCluster was wrong, correct it and delete Pod %s-0",
			name, int(deadline.Seconds()), cmp.Or(failure.Message, "see its events and its log"), name)
	case failure.Reason != "":
		return st, conditions.False(kind, failure.Reason, "Waiting for the pod of StatefulSet %s: %s", name, failure.Message)
	default:
		return st, conditions.False(kind, v1alpha1.ReasonProvisioning, "Waiting for the pod of StatefulSet %s to be ready", name)
	}
}

// deadline is how long the pod of a StatefulSet may take to become ready. A StatefulSet
// has none itself.
const deadline = 5 * time.Minute

// overdue reports whether a StatefulSet, and its pod, have existed without being ready
// for too long.
func overdue(x *observed.Index, set *appsv1.StatefulSet) bool {
	last := meta.FindStatusCondition(x.FlagCache.Status.Conditions, v1alpha1.ConditionCacheProvisioned)
	if last == nil || last.Status != metav1.ConditionFalse {
		return false
	}
	for _, since := range []time.Time{set.CreationTimestamp.Time, last.LastTransitionTime.Time, x.CachePods.Since} {
		if x.Now.Sub(since) <= deadline {
			return false
		}
	}
	return true
}

// currentPassword is the one that Redis was given, else the one that clients were
// given, so that losing either Secret changes nothing. A new one counts as stored
// only when a Secret was observed to hold it.
func currentPassword(x *observed.Index) (password secret.String, stored bool) {
	if p := x.SecretValue(observed.RedisName(x.FlagCache), connection.PasswordKey); !p.IsEmpty() {
		return p, true
	}
	if x.SecretValue(observed.ConnectionName(x.FlagCache), "provider").Reveal() == provider {
		if p := x.SecretValue(observed.ConnectionName(x.FlagCache), connection.PasswordKey); !p.IsEmpty() {
			return p, true
		}
	}
	return x.Fresh.Password, false
}

// currentProbePassword is that of the user of the probe. A new one counts as stored only
// when the Secret was observed to hold it.
func currentProbePassword(x *observed.Index) (password secret.String, stored bool) {
	if p := x.SecretValue(observed.RedisName(x.FlagCache), probePasswordKey); !p.IsEmpty() {
		return p, true
	}
	return x.Fresh.ProbePassword, false
}

// redisConfig is the configuration file. The passwords are in it because a
// command line is readable by every process of the node.
func redisConfig(fc *v1alpha1.FlagCache, password, probePassword secret.String) secret.String {
	lines := []string{
		"port 6379",
		"dir /data",
		`save ""`,
		"appendonly no",
		"maxmemory-policy allkeys-lru",
		serviceUserOf(password),
		probeUserOf(fc, probePassword),
	}
	if limit, ok := redisResources(fc).Limits[corev1.ResourceMemory]; ok {
		lines = append(lines, fmt.Sprintf("maxmemory %d", limit.Value()/4*3))
	}
	return secret.New(strings.Join(lines, "\n") + "\n")
}

// serviceUserOf is the user that clients log in as without a name, with the flag service's
// keys by their prefixes, so that another environment is no new configuration, and the
// commands that it sends. Neither scripts nor what administers the server is allowed.
func serviceUserOf(password secret.String) string {
	return fmt.Sprintf("user default on >%s ~%s* ~%s* resetchannels &%s* -@all %s", password.Reveal(),
		config.RedisKeyPrefix, config.RedisLockPrefix, config.RedisChannelPrefix, cache.ServiceCommands)
}

// probeUserOf is the user of the operator, with the key of its probe, the documents of flags and
// their channel by their prefixes, and the commands that it sends.
func probeUserOf(fc *v1alpha1.FlagCache, password secret.String) string {
	return fmt.Sprintf("user %s on >%s ~%s ~%s* resetchannels &%s* -@all %s", probeUser, password.Reveal(), cache.ProbeKey(fc),
		config.RedisKeyPrefix, config.RedisChannelPrefix, cache.ProbeCommands)
}

func redisSecret(fc *v1alpha1.FlagCache, password, probePassword, file secret.String) *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: observed.ChildMeta(fc, observed.RedisName(fc), v1alpha1.ComponentCache),
		Type:       corev1.SecretTypeOpaque,
		Data: map[string][]byte{
			connection.PasswordKey: []byte(password.Reveal()),
			probePasswordKey:       []byte(probePassword.Reveal()),
			configKey:              []byte(file.Reveal()),
		},
	}
}

func redisService(fc *v1alpha1.FlagCache) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: observed.ChildMeta(fc, observed.RedisName(fc), v1alpha1.ComponentCache),
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceTypeClusterIP,
			Selector: observed.SelectorLabels(fc, v1alpha1.ComponentCache),
			Ports: []corev1.ServicePort{{
				Name: portName, Port: connection.DefaultPort, Protocol: corev1.ProtocolTCP,
				TargetPort: intstr.FromString(portName),
			}},
		},
	}
}

func redisStatefulSet(fc *v1alpha1.FlagCache, file secret.String) *appsv1.StatefulSet {
	labels := observed.SelectorLabels(fc, v1alpha1.ComponentCache)
	return &appsv1.StatefulSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSet"},
		ObjectMeta: observed.ChildMeta(fc, observed.RedisName(fc), v1alpha1.ComponentCache),
		Spec: appsv1.StatefulSetSpec{
			Replicas:       ptr.To[int32](1),
			ServiceName:    observed.RedisName(fc),
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: appsv1.RollingUpdateStatefulSetStrategyType},
			Selector:       &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{
					Labels: labels,
					// Redis reads its file at start only, so a new configuration is a new pod.
					Annotations: map[string]string{v1alpha1.AnnotationConfig: observed.Fingerprint(fc.UID, file.Reveal()), v1alpha1.AnnotationProbeUser: probeUser},
				},
				Spec: redisPod(fc),
			},
		},
	}
}

func redisPod(fc *v1alpha1.FlagCache) corev1.PodSpec {
	tcp := corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString(portName)}}
	return corev1.PodSpec{
		AutomountServiceAccountToken:  ptr.To(false),
		EnableServiceLinks:            ptr.To(false),
		SecurityContext:               pods.PodSecurityContext(),
		TerminationGracePeriodSeconds: ptr.To[int64](10),
		Containers: []corev1.Container{{
			Name:            "redis",
			Image:           redisImage(fc),
			Command:         []string{"redis-server", configDir + "/" + configKey},
			Ports:           []corev1.ContainerPort{{Name: portName, ContainerPort: connection.DefaultPort, Protocol: corev1.ProtocolTCP}},
			Resources:       redisResources(fc),
			SecurityContext: pods.ContainerSecurityContext(),
			ReadinessProbe:  &corev1.Probe{ProbeHandler: tcp, PeriodSeconds: 2, TimeoutSeconds: 2, FailureThreshold: 3},
			LivenessProbe:   &corev1.Probe{ProbeHandler: tcp, InitialDelaySeconds: 10, PeriodSeconds: 10, TimeoutSeconds: 5, FailureThreshold: 3},
			VolumeMounts: []corev1.VolumeMount{
				{Name: "config", MountPath: configDir, ReadOnly: true},
				{Name: "data", MountPath: "/data"},
			},
		}},
		Volumes: []corev1.Volume{
			{Name: "config", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
				SecretName:  observed.RedisName(fc),
				DefaultMode: ptr.To[int32](0o440),
				Items:       []corev1.KeyToPath{{Key: configKey, Path: configKey}},
			}}},
			{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		},
	}
}

// operatorPods are labels of the operator's pods in every installation; see
// config/manager/manager.yaml.
var operatorPods = map[string]string{"app.kubernetes.io/name": "flagcache", "control-plane": "controller-manager"}

// redisNetworkPolicy lets in the flag service and the operator's probe, and
// lets nothing out.
func redisNetworkPolicy(fc *v1alpha1.FlagCache, operatorNamespace string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"},
		ObjectMeta: observed.ChildMeta(fc, observed.RedisName(fc), v1alpha1.ComponentCache),
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: observed.SelectorLabels(fc, v1alpha1.ComponentCache)},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From: []networkingv1.NetworkPolicyPeer{
					{PodSelector: &metav1.LabelSelector{MatchLabels: observed.SelectorLabels(fc, v1alpha1.ComponentService)}},
					{
						NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: operatorNamespace}},
						PodSelector:       &metav1.LabelSelector{MatchLabels: operatorPods},
					},
				},
				Ports: []networkingv1.NetworkPolicyPort{pods.TCPPort(connection.DefaultPort)},
			}},
		},
	}
}

func redisImage(fc *v1alpha1.FlagCache) string {
	if in := fc.Spec.Cache.InCluster; in != nil && in.Image != "" {
		return in.Image
	}
	return DefaultImage
}

func redisResources(fc *v1alpha1.FlagCache) corev1.ResourceRequirements {
	if in := fc.Spec.Cache.InCluster; in != nil && in.Resources != nil {
		return corev1.ResourceRequirements{Requests: in.Resources.Requests, Limits: in.Resources.Limits}
	}
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("50m"),
			corev1.ResourceMemory: resource.MustParse("64Mi"),
		},
		Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")},
	}
}
