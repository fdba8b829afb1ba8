// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package observed

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/secret"
	"github.com/flagcache/flagcache/service/config"
)

// Seal authenticates what the operator reads back from objects that others may edit: the pod
// templates on record, from which a Deployment is made again, so that whoever may edit
// ControllerRevisions cannot have the operator run other pods; and the manifest of published
// flags, so that whoever may edit ConfigMaps cannot have it believe that other flags are the
// last good ones. The key is that of the FlagCache, in a Secret.
type Seal struct {
	key secret.String
	uid types.UID
}

// SealKey is the name of the key in the Secret with the keys of cached values. Those are
// replaced, and this one is not: templates are on record for years.
const SealKey = "seal-key"

// sealOf returns the seal of a FlagCache, whose key may not have been observed yet. Before
// there was one, the key of cached values was used, which became this one.
func sealOf(x *Index) Seal {
	name := IntegrityName(x.FlagCache)
	return Seal{key: cmp.Or(x.SecretValue(name, SealKey), x.SecretValue(name, config.IntegrityKey)), uid: x.FlagCache.UID}
}

// NewSeal returns the seal of what is written now. A key that was not observed is the one that
// the same plan creates.
func NewSeal(x *Index) Seal {
	s := x.Records.Seal
	s.key = cmp.Or(s.key, x.Fresh.IntegrityKey)
	return s
}

// Usable reports whether the key was observed.
func (s Seal) Usable() bool { return !s.key.IsEmpty() }

// Of returns the seal of a revision's pod template. It is good for no other revision, and for
// no other FlagCache.
func (s Seal) Of(revision string, template corev1.PodTemplateSpec) string {
	mac := hmac.New(sha256.New, []byte(s.key.Reveal()))
	fmt.Fprintf(mac, "flagcache.dev pod template\n%s\n%s\n%s", s.uid, revision, ToJSON(template))
	return hex.EncodeToString(mac.Sum(nil))
}

// Template returns the pod template of a revision that its ControllerRevision holds and that was
// sealed; false if there is none.
func (s Seal) Template(revision string, holder *appsv1.ControllerRevision) (corev1.PodTemplateSpec, bool) {
	if !s.Usable() {
		return corev1.PodTemplateSpec{}, false
	}
	for _, template := range TemplatesOf(holder) {
		if hmac.Equal([]byte(s.Of(revision, template)), []byte(holder.Annotations[v1alpha1.AnnotationSeal])) {
			return template, true
		}
	}
	return corev1.PodTemplateSpec{}, false
}

// OfFlags returns the seal of the manifest of published flags, which has the digest of the
// document, its number and the name of the FlagCache.
func (s Seal) OfFlags(manifest string) string {
	mac := hmac.New(sha256.New, []byte(s.key.Reveal()))
	fmt.Fprintf(mac, "flagcache.dev published flags\n%s", manifest)
	return hex.EncodeToString(mac.Sum(nil))
}

// OnFlags reports whether the manifest in a ConfigMap of published flags was sealed.
func (s Seal) OnFlags(configMap *corev1.ConfigMap) bool {
	want := s.OfFlags(configMap.Data[config.FlagsManifestKey])
	return s.Usable() && hmac.Equal([]byte(want), []byte(configMap.Annotations[v1alpha1.AnnotationFlagsSeal]))
}

// Unprivileged reports whether a pod template requests nothing on its node that the operator
// never renders. One that was observed to run, and may have been edited, is sealed only then.
func Unprivileged(template corev1.PodTemplateSpec) bool {
	spec := template.Spec
	if spec.HostNetwork || spec.HostPID || spec.HostIPC {
		return false
	}
	for _, volume := range spec.Volumes {
		if volume.HostPath != nil {
			return false
		}
	}
	for _, c := range append(append([]corev1.Container{}, spec.InitContainers...), spec.Containers...) {
		security := c.SecurityContext
		if security == nil || security.Privileged != nil && *security.Privileged ||
			security.AllowPrivilegeEscalation == nil || *security.AllowPrivilegeEscalation ||
			security.Capabilities != nil && len(security.Capabilities.Add) > 0 {
			return false
		}
	}
	return true
}
