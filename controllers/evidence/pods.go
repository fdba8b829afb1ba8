// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/canary"
	"github.com/flagcache/flagcache/controllers/dial"
	"github.com/flagcache/flagcache/service/config"
)

// Limits of a scrape.
const (
	scrapeTimeout = 2 * time.Second
	// maxPods of one revision that are scraped.
	maxPods = 200
	// maxConcurrentScrapes of one canary.
	maxConcurrentScrapes = 16
)

// Pods scrapes the pods of a canary's revisions.
type Pods struct {
	// Client lists pods.
	Client client.Reader
	// Clock is the time of samples.
	Clock clock.PassiveClock
	// HTTP is the client for scraping pods; see NewHTTPClient.
	HTTP *http.Client

	// parsing lets one text at a time cost the memory of being parsed, over all canaries.
	// It is held by nothing that waits for a pod.
	parsing sync.Mutex
}

// Sample implements Source: it scrapes the running pods of both revisions.
func (p *Pods) Sample(ctx context.Context, t Target) canary.Evidence {
	sample := canary.Evidence{At: p.Clock.Now()}
	pods, all, err := p.list(ctx, t.FlagCache, t.Candidate, t.Stable)
	if err != nil {
		sample.Missing = "cannot list the pods"
		return sample
	}
	if !all {
		sample.Missing = fmt.Sprintf("a revision has more pods than the %d that are scraped", maxPods)
	}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(maxConcurrentScrapes)
	failed := 0
	for _, pod := range pods {
		group.Go(func() error {
			scraped, err := p.scrape(ctx, pod, t)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
			}
			sample.Streams = append(sample.Streams, scraped...)
			return nil
		})
	}
	_ = group.Wait() // no scrape returns an error
	slices.SortFunc(sample.Streams, func(a, b canary.Stream) int { return strings.Compare(a.ID, b.ID) })
	if failed > 0 {
		sample.Missing = "the metrics of some pods cannot be read"
	}
	return sample
}

// list returns the running pods of revisions; all is false if there are more.
func (p *Pods) list(ctx context.Context, fc types.NamespacedName, revisions ...string) (found []*corev1.Pod, all bool, err error) {
	all = true
	for _, revision := range revisions {
		pods := &corev1.PodList{}
		err := p.Client.List(ctx, pods, client.InNamespace(fc.Namespace), client.Limit(maxPods), client.MatchingLabels{
			v1alpha1.LabelName: fc.Name, v1alpha1.LabelComponent: v1alpha1.ComponentService, v1alpha1.LabelRevision: revision,
		})
		if err != nil {
			return nil, false, fmt.Errorf("listing the pods of revision %s: %w", revision, err)
		}
		all = all && pods.Continue == ""
		for i := range pods.Items {
			if scrapable(&pods.Items[i], fc.Name+"-"+revision) {
				found = append(found, usedOf(&pods.Items[i]))
			}
		}
	}
	return found, all, nil
}

// usedOf returns what is used of a pod: others may make the rest large, and it is held until the
// pod has answered.
func usedOf(pod *corev1.Pod) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: pod.Name, UID: pod.UID, DeletionTimestamp: pod.DeletionTimestamp,
			Labels: map[string]string{v1alpha1.LabelRevision: pod.Labels[v1alpha1.LabelRevision]},
		},
		Status: corev1.PodStatus{PodIP: pod.Status.PodIP, Conditions: slices.DeleteFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type != corev1.PodReady
		})},
	}
}

// scrapable reports whether a pod runs and was created by a revision's Deployment.
// The labels do not prove it: any user who can create pods can set them.
func scrapable(pod *corev1.Pod, deployment string) bool {
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.APIVersion != appsv1.SchemeGroupVersion.String() || owner.Kind != "ReplicaSet" || !strings.HasPrefix(owner.Name, deployment+"-") || pod.Spec.HostNetwork {
		return false
	}
	addr, err := netip.ParseAddr(pod.Status.PodIP)
	if err != nil || pod.Status.Phase != corev1.PodRunning {
		return false
	}
	_, err = (&dial.Rules{}).Check(netip.AddrPortFrom(addr, config.PortTelemetry))
	return err == nil
}

var errStatus = errors.New("response status is not 200")

// scrape returns the streams of one pod.
func (p *Pods) scrape(ctx context.Context, pod *corev1.Pod, t Target) ([]canary.Stream, error) {
	parsed, err := p.metrics(ctx, pod)
	if err != nil {
		return nil, err
	}
	found, err := streams(parsed, string(pod.UID), pod.Labels[v1alpha1.LabelRevision], t)
	if err != nil {
		return nil, fmt.Errorf("reading the metrics of pod %s: %w", pod.Name, err)
	}
	return found, nil
}

// metrics reads and parses the metrics of one pod.
func (p *Pods) metrics(ctx context.Context, pod *corev1.Pod) (families, error) {
	url := "http://" + net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(config.PortTelemetry)) + config.PathMetrics
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("scraping pod %s: %w", pod.Name, err)
	}
	response, err := p.HTTP.Do(request)
	if err != nil {
		return nil, fmt.Errorf("scraping pod %s: %w", pod.Name, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("scraping pod %s: %w", pod.Name, errStatus)
	}
	text, err := keepWanted(response.Body)
	if err != nil {
		return nil, fmt.Errorf("scraping pod %s: %w", pod.Name, err)
	}
	p.parsing.Lock()
	defer p.parsing.Unlock()
	parsed, err := parse(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("scraping pod %s: %w", pod.Name, err)
	}
	return parsed, nil
}
