// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/plan/observed"
	"github.com/flagcache/flagcache/service/config"
)

// The operator is the only writer of what pods serve. It publishes each document that can be
// used in a ConfigMap of its own, with a number. Pods serve the highest number that they have
// seen, from the mount or from Redis, so that their order is a comparison of integers. The
// ConfigMap of the user may be deleted, created again, renamed or broken meanwhile.

// maxDocument is the maximum size of a document, as the flag service accepts it.
const maxDocument = 1 << 20

// manifest describes what a ConfigMap of published flags contains.
type manifest struct {
	// Version of this layout.
	Version int `json:"version"`
	// Store identifies the FlagCache.
	Store string `json:"store"`
	// Current is the document that is served.
	Current PublishedDocument `json:"current"`
}

// PublishedDocument identifies a document in a ConfigMap of published flags.
type PublishedDocument struct {
	// Number orders the documents of a store.
	Number int64 `json:"number"`
	// Digest is its SHA-256 in hexadecimal.
	Digest string `json:"digest"`
	// PublishedAt is when it was published.
	PublishedAt metav1.Time `json:"publishedAt"`
}

// Store identifies the documents of a FlagCache by its name. The UID would make a FlagCache
// that is created again, and adopts its cache, a stranger to its own documents.
func Store(fc *v1alpha1.FlagCache) string { return "flagcache:" + fc.Namespace + "/" + fc.Name }

// published is the observed ConfigMap of published flags. Anybody who may edit ConfigMaps can
// change it, so its content is believed only if something else vouches for it.
type published struct {
	// configMap is nil if it does not exist.
	configMap *corev1.ConfigMap
	// document is the zero value if the content is not intact.
	document PublishedDocument
	// sealed: the operator's seal of the manifest is right, or its key is not known yet.
	sealed bool
	// foreign: pods can read it, and the operator did not publish it.
	foreign bool
	// content is the last published document if only the manifest was edited.
	content []byte
	// passed is a number that pods may have read from it, 0 if there is none.
	passed int64
}

// intact reports whether pods can read it, and the operator published it.
func (p published) intact() bool { return p.document.Number > 0 }

// readPublished returns the published flags as they were observed.
func readPublished(s *observed.Index) published {
	configMap, ok := observed.Get[*corev1.ConfigMap](s, observed.PublishedFlagsName(s.FlagCache))
	if !ok {
		return published{}
	}
	seal := s.Records.Seal
	p := published{configMap: configMap, passed: numberToPass(configMap, s.Now), sealed: !seal.Usable() || seal.OnFlags(configMap)}
	_, document, err := ReadPublished(configMap, Store(s.FlagCache))
	if err == nil && vouched(s, document, p.sealed) {
		p.document = document
		return p
	}
	data, err := observed.Decompress(configMap.BinaryData[config.FlagsDocumentKey], maxDocument)
	switch last := s.FlagCache.Status.Flags; {
	case err != nil:
	case last != nil && digest(data) == last.Digest:
		p.content = data
	default:
		p.foreign = readable(configMap, Store(s.FlagCache), digest(data))
	}
	return p
}

// vouched reports whether a document is one that the operator published: the status has it; or,
// if that was not written, it has a later number and its seal is right. While the key of seals
// is not known, what would be published now counts as sealed. An earlier document was put back
// by somebody.
func vouched(s *observed.Index, document PublishedDocument, sealed bool) bool {
	last, status := lastNumber(s), s.FlagCache.Status.Flags
	if document.Number == last {
		return document.Digest == status.Digest && document.PublishedAt.Equal(&status.PublishedAt)
	}
	if !s.Records.Seal.Usable() {
		sealed = s.Flags.State == observed.FlagsLoaded && s.Flags.Digest == document.Digest
	}
	return document.Number > last && plausible(document.Number, s.Now) && sealed
}

// numberToPass returns the number in a manifest, as pods read it, 0 if no pod accepts it.
func numberToPass(configMap *corev1.ConfigMap, now time.Time) int64 {
	var m manifest
	if err := json.Unmarshal([]byte(configMap.Data[config.FlagsManifestKey]), &m); err != nil || m.Current.Number >= highestNumber(now) {
		return 0
	}
	return m.Current.Number
}

// readable reports whether pods accept a manifest, which need not be as an operator writes it,
// for a document.
func readable(configMap *corev1.ConfigMap, store, digest string) bool {
	var m manifest
	err := json.Unmarshal([]byte(configMap.Data[config.FlagsManifestKey]), &m)
	return err == nil && m.Version == config.FlagsManifestVersion && m.Store == store && m.Current.Number >= 1 && m.Current.Digest == digest
}

// restored reports whether the last document is published again as it was found.
func (p published) restored() bool { return p.content != nil && !p.frozen() }

// waits reports whether something is to be published as soon as it can have a number.
func (p published) waits(s *observed.Index, publish *Publication) bool {
	return publish == nil && !p.frozen() && (p.due(s) || p.content != nil)
}

// lost reports whether a published document cannot be read any more.
func (p published) lost(s *observed.Index) bool { return !p.intact() && lastNumber(s) > 0 }

// highestNumber is the highest number that pods accept, by whatever clock: see
// config.FlagsNumberLead.
func highestNumber(now time.Time) int64 {
	return now.Unix() + config.FlagsClockSkew + config.FlagsNumberLead
}

// plausible reports whether the operator can have given out a number.
func plausible(number int64, now time.Time) bool { return number <= highestNumber(now) }

// ReadPublished returns the document in a ConfigMap of published flags. What is not complete,
// is of another store, or was not written by an operator is an error: somebody has edited it.
func ReadPublished(configMap *corev1.ConfigMap, store string) ([]byte, PublishedDocument, error) {
	var m manifest
	text := configMap.Data[config.FlagsManifestKey]
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return nil, PublishedDocument{}, fmt.Errorf("decoding the manifest: %w", err)
	}
	if m.Version != config.FlagsManifestVersion || m.Store != store || m.Current.Number < 1 || m.Current.PublishedAt.IsZero() {
		return nil, PublishedDocument{}, errors.New("the manifest is of another version or store, or has no number or time")
	}
	if text != observed.ToJSON(m) {
		return nil, PublishedDocument{}, errors.New("the manifest is not as an operator writes it")
	}
	data, err := observed.Decompress(configMap.BinaryData[config.FlagsDocumentKey], maxDocument)
	if err != nil {
		return nil, PublishedDocument{}, fmt.Errorf("decompressing the document: %w", err)
	}
	if digest(data) != m.Current.Digest {
		return nil, PublishedDocument{}, errors.New("the document has another digest than the manifest")
	}
	return data, m.Current, nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Publication is a document to publish.
type Publication struct {
	// Digest of the document in the ConfigMap of the user.
	Digest string
	// Observed is the ConfigMap to change, in the version that the number follows; nil to
	// create it.
	Observed *corev1.ConfigMap
	// Content is the document, nil if it is read from the ConfigMap of the user.
	Content []byte
	// desired lacks the document.
	desired *corev1.ConfigMap
}

// Bare returns the ConfigMap without the document.
func (p *Publication) Bare() observed.Object { return p.desired }

// ConfigMap returns the ConfigMap to write, with the document.
func (p *Publication) ConfigMap(document []byte) *corev1.ConfigMap {
	desired := p.desired.DeepCopy()
	desired.BinaryData = map[string][]byte{config.FlagsDocumentKey: observed.Compress(document)}
	return desired
}

// due reports whether the document of the source is to be published: it can be used, and what
// was published is another one, cannot be read any more, or lacks the seal.
func (p published) due(s *observed.Index) bool {
	upToDate := p.intact() && p.sealed && p.document.Digest == s.Flags.Digest && metav1.IsControlledBy(p.configMap, s.FlagCache)
	return s.Flags.State == observed.FlagsLoaded && !upToDate
}

// numberInterval is how soon a document is published whose number pods do not accept yet,
// because somebody wrote the highest one that they do: it grows by one each second.
const numberInterval = time.Second

// publication returns the document to publish, nil if there is none: that of the source, or,
// while that cannot be used, the last one with another manifest.
func publication(s *observed.Index, p published) *Publication {
	fc := s.FlagCache
	publish := &Publication{Digest: s.Flags.Digest, Observed: p.configMap}
	switch {
	case p.frozen():
		return nil
	case p.due(s):
	case p.content != nil:
		publish.Digest, publish.Content = fc.Status.Flags.Digest, p.content
	default:
		return nil
	}
	document := next(s, p, publish.Digest)
	if !plausible(document.Number, s.Now) {
		return nil // see numberInterval
	}
	meta := observed.ChildMeta(fc, observed.PublishedFlagsName(fc), v1alpha1.ComponentFlags)
	if p.configMap != nil {
		labels := observed.With(meta.Labels, nil)
		if managedBy, ok := p.configMap.Labels[v1alpha1.LabelManagedBy]; ok {
			labels[v1alpha1.LabelManagedBy] = managedBy // a policy of the cluster may own it
		}
		owners := meta.OwnerReferences
		meta = *p.configMap.ObjectMeta.DeepCopy()
		meta.Labels, meta.OwnerReferences = observed.With(meta.Labels, labels), owners
	}
	text := observed.ToJSON(manifest{Version: config.FlagsManifestVersion, Store: Store(fc), Current: document})
	metav1.SetMetaDataAnnotation(&meta, v1alpha1.AnnotationFlagsSeal, observed.NewSeal(s).OfFlags(text))
	publish.desired = &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: meta,
		Data:       map[string]string{config.FlagsManifestKey: text},
	}
	return publish
}

// next returns the document to publish. One that only lacks its seal, or its owner, stays.
func next(s *observed.Index, p published, digest string) PublishedDocument {
	if p.intact() && p.document.Digest == digest {
		return p.document
	}
	return PublishedDocument{Number: nextNumber(s, p), Digest: digest, PublishedAt: metav1.NewTime(s.Now.UTC()).Rfc3339Copy()}
}

// nextNumber is the last number plus one. A series that begins, or whose last number was lost
// with the ConfigMap, begins with the time in seconds: pods that saw the former numbers, or
// find them in Redis, then see a higher one, as there are fewer changes than seconds. What
// somebody else wrote is passed as well, because pods may serve it.
func nextNumber(s *observed.Index, p published) int64 {
	if p.intact() {
		return p.document.Number + 1
	}
	return max(lastNumber(s)+1, p.passed+1, s.Now.Unix())
}

// lastNumber is the last number that the status has, 0 if it has none, or one of a clock that
// was set back since.
func lastNumber(s *observed.Index) int64 {
	if status := s.FlagCache.Status.Flags; status != nil && plausible(status.Number, s.Now) {
		return status.Number
	}
	return 0
}

// frozen reports whether somebody made the ConfigMap immutable, so that it has to be deleted and
// created again.
func (p published) frozen() bool {
	return p.configMap != nil && p.configMap.Immutable != nil && *p.configMap.Immutable
}

// keep returns the ConfigMap that exists or is to be created, and the one to delete because it
// cannot be changed.
func (p published) keep(s *observed.Index, publish *Publication) (keep, remove []observed.Object) {
	switch {
	case p.configMap == nil && publish != nil:
		return []observed.Object{publish.desired}, nil
	case p.configMap == nil:
		return nil, nil
	case p.due(s) && p.frozen() && p.configMap.DeletionTimestamp == nil:
		return nil, []observed.Object{p.configMap}
	default:
		return []observed.Object{p.configMap}, nil
	}
}

// status returns the status of the published document. The number of pods that serve it is that
// of the last complete result: a restarted operator knows nothing of pods yet.
func (p published) status(s *observed.Index, target *Target) *v1alpha1.FlagsStatus {
	before := s.FlagCache.Status.Flags
	if !p.intact() {
		return before
	}
	now := &v1alpha1.FlagsStatus{Number: p.document.Number, Digest: p.document.Digest, PublishedAt: p.document.PublishedAt}
	if target != nil {
		for _, pods := range target.Revisions {
			now.Pods += pods.Ready
		}
	}
	counted := before != nil && before.Number == now.Number && before.ServingPods != nil
	switch known := s.Delivery.Known && s.Delivery.Of == now.Digest; {
	case counted && (!known || s.Delivery.Incomplete):
		now.ServingPods = ptr.To(min(*before.ServingPods, now.Pods))
	case known:
		now.ServingPods = ptr.To(min(s.Delivery.Serving, now.Pods))
	}
	return now
}
