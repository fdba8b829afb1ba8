// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/conditions"
	"github.com/flagcache/flagcache/controllers/plan/connection"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/controllers/plan/pods"
	"github.com/flagcache/flagcache/service/config"
)

const (
	postgresPort = 5432
	// maxDatabaseHosts bounds what one URI adds to a NetworkPolicy.
	maxDatabaseHosts = 8
)

// checkDatabase reports whether the Secret of flags.type Postgres is valid. The
// operator does not connect to the database: the flag service does, and is not
// ready until it has flags.
func checkDatabase(s *observed.Index) Part {
	ref := s.FlagCache.Spec.Flags.Postgres.SecretRef
	refuse := func(reason, format string, args ...any) Part {
		return Part{Ports: allowedPorts(s), Valid: conditions.False(v1alpha1.ConditionFlagsValid, reason, format, args...)}
	}
	if reason, message := s.DatabaseSecret.Problem(ref.Name, "the key "+ref.Key); reason != "" {
		return refuse(reason, "%s", message)
	}
	ports, err := databasePorts(connection.Text(s.DatabaseSecret.Data, ref.Key))
	if err != nil {
		return refuse(v1alpha1.ReasonSecretInvalid, "Secret %s, key %s: %v", ref.Name, ref.Key, err)
	}
	return Part{
		Usable: true, Ports: ports, Delivery: databaseTarget(s),
		Valid: conditions.True(v1alpha1.ConditionFlagsValid, v1alpha1.ReasonStoredInDatabase, "Secret %s, key %s has the URI of the database of the flags", ref.Name, ref.Key),
	}
}

// sslModes are the modes that the flag service accepts.
var sslModes = strings.Split(config.PostgresSSLModes, ", ")

// errNoSSLMode is the error of a URI that leaves it open whether the connection is encrypted, with
// which pods do not become ready.
var errNoSSLMode = errors.New("the URI must have the parameter sslmode, such as ?sslmode=verify-full; one of " +
	config.PostgresSSLModes + ", where disable sends the password and the flags in plain text")

// databasePorts returns the ports of a PostgreSQL URI with one or more hosts,
// sorted, without duplicates. Errors never contain the value.
func databasePorts(uri string) ([]int32, error) {
	rest, ok := strings.CutPrefix(uri, "postgres://")
	if !ok {
		rest, ok = strings.CutPrefix(uri, "postgresql://")
	}
	if !ok {
		return nil, errors.New("expected postgres://user:password@host[:port]/database")
	}
	address, query, _ := strings.Cut(rest, "?")
	address, _, _ = strings.Cut(address, "/")
	if strings.Contains(rest, "#") || strings.Contains(rest[len(address):], "@") {
		// What seems to be the port, or the name of the database, may be a part of the password.
		return nil, errors.New("special characters in the user name and the password must be percent-encoded")
	}
	parameters, err := url.ParseQuery(query)
	if err != nil || parameters.Has("host") || parameters.Has("port") {
		return nil, errors.New("the URI's parameters are invalid: hosts and ports belong before the name of the database")
	}
	if !slices.Contains(sslModes, parameters.Get("sslmode")) {
		return nil, errNoSSLMode
	}
	hosts := strings.Split(address[strings.LastIndex(address, "@")+1:], ",")
	if len(hosts) > maxDatabaseHosts {
		return nil, errors.New("the URI has more than 8 hosts")
	}
	var ports []int32
	for _, host := range hosts {
		port, err := databasePort(host)
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	slices.Sort(ports)
	return slices.Compact(ports), nil
}

func databasePort(address string) (int32, error) {
	host, port := address, strconv.Itoa(postgresPort)
	if i := strings.LastIndex(address, ":"); i > strings.LastIndex(address, "]") {
		host, port = address[:i], address[i+1:]
	}
	if inner, bracketed := strings.CutPrefix(host, "["); bracketed {
		ip, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !ip.Is6() {
			return 0, errors.New("the URI has no valid host")
		}
	} else if host == "" || strings.ContainsAny(host, " \t\r\n:%[]") {
		return 0, errors.New("the URI has no valid host")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("the port must be a number from 1 to 65535")
	}
	return int32(n), nil
}

// allowedPorts returns the ports of the source that the existing NetworkPolicy
// allows, so that losing the Secret does not cut the pods off their database.
func allowedPorts(s *observed.Index) []int32 {
	policy, ok := observed.Get[*networkingv1.NetworkPolicy](s, observed.ServiceName(s.FlagCache))
	if !ok || len(policy.Spec.Egress) <= EgressRule {
		return nil
	}
	var ports []int32
	for _, port := range policy.Spec.Egress[EgressRule].Ports {
		ports = append(ports, ptr.Deref(port.Port, intstr.IntOrString{}).IntVal)
	}
	return ports
}

// EnvVars are the variables about the source of the flags. A ConfigMap is identified by the
// name of its FlagCache; a database identifies itself.
func EnvVars(fc *v1alpha1.FlagCache) []corev1.EnvVar {
	vars := []corev1.EnvVar{EnvVar(fc)}
	if fc.Spec.Flags.Postgres == nil {
		vars = append(vars, corev1.EnvVar{Name: config.EnvFlagsStore, Value: Store(fc)})
	}
	return vars
}

// EnvVar is the variable that names the source of the flags.
func EnvVar(fc *v1alpha1.FlagCache) corev1.EnvVar {
	if database := fc.Spec.Flags.Postgres; database != nil {
		return corev1.EnvVar{Name: config.EnvPostgresURIFile, Value: config.PostgresDir + "/" + database.SecretRef.Key}
	}
	return corev1.EnvVar{Name: config.EnvFlagsManifest, Value: config.FlagsDir + "/" + config.FlagsManifestKey}
}

// Dir is where the flags, or the URI of their database, are mounted.
func Dir(fc *v1alpha1.FlagCache) string {
	if fc.Spec.Flags.Postgres != nil {
		return config.PostgresDir
	}
	return config.FlagsDir
}

// Unpublished returns a pod template that reads published flags as operators rendered it
// before they published flags: it mounts the ConfigMap of the user. That of a database is
// the same.
func Unpublished(fc *v1alpha1.FlagCache, pod corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	if fc.Spec.Flags.Postgres != nil {
		return pod
	}
	pod = *pod.DeepCopy()
	for i, v := range pod.Spec.Volumes {
		if v.Name == VolumeName {
			pod.Spec.Volumes[i].ConfigMap.Name = fc.Spec.Flags.ConfigMap.Name
		}
	}
	for _, container := range pod.Spec.Containers {
		for i, v := range container.Env {
			if v == EnvVar(fc) {
				container.Env[i] = fileVariable(fc)
			}
		}
	}
	return pod
}

// VolumeName is the name of the volume of the flags.
const VolumeName = "flags"

// Volume is the ConfigMap of the published flags or the Secret of their database. The name
// of the user's ConfigMap is no part of a revision, so that a new name for each change, as
// kustomize generates it, does not replace pods. The Secret is mounted as a whole, so that it may hold certificates beside the URI.
func Volume(fc *v1alpha1.FlagCache) corev1.VolumeSource {
	if database := fc.Spec.Flags.Postgres; database != nil {
		return pods.SecretVolume(database.SecretRef.Name)
	}
	return corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: observed.PublishedFlagsName(fc)},
		DefaultMode:          ptr.To[int32](0o444),
	}}
}

// EgressRule is the index of the egress rule for the source in the NetworkPolicy of
// the pods, if it has one.
const EgressRule = 3
