// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/source"
)

// watched is a pod whose event stream is read.
type watched struct {
	name, url string
	client    *http.Client
	events    chan event
	ended     sync.WaitGroup
	// etag is that of the latest event.
	etag string
}

// event is a change that a pod has notified.
type event struct {
	at   time.Time
	etag string
}

// watch opens an event stream to each pod, until ctx ends.
func (f *fleet) watch(ctx context.Context) error {
	pods := &corev1.PodList{}
	err := f.Client.List(ctx, pods, client.InNamespace(f.namespace), client.MatchingLabels{
		v1alpha1.LabelName: flagCacheName, v1alpha1.LabelComponent: v1alpha1.ComponentService,
	})
	if err != nil {
		return fmt.Errorf("listing the pods: %w", err)
	}
	if len(pods.Items) != f.size {
		return fmt.Errorf("there are %d pods", len(pods.Items))
	}
	for _, pod := range pods.Items {
		p := &watched{
			name:   pod.Name,
			url:    "http://" + net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(config.PortOFREP)),
			client: &http.Client{Transport: &http.Transport{DialContext: f.Dial}},
			events: make(chan event, 1000),
		}
		if err := p.start(ctx); err != nil {
			return fmt.Errorf("opening the event stream of pod %s: %w", p.name, err)
		}
		f.pods = append(f.pods, p)
	}
	return nil
}

// unwatch waits for the end of all event streams.
func (f *fleet) unwatch() {
	for _, p := range f.pods {
		p.ended.Wait()
		p.client.CloseIdleConnections()
	}
}

// start reads the events of a pod until ctx ends.
func (p *watched) start(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+config.PathEvents, nil)
	if err != nil {
		return err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		_ = response.Body.Close()
		return fmt.Errorf("it is answered with %s", response.Status)
	}
	p.ended.Go(func() {
		defer close(p.events)
		defer func() { _ = response.Body.Close() }()
		p.read(ctx, response.Body)
	})
	return nil
}

func (p *watched) read(ctx context.Context, from io.Reader) {
	for lines := bufio.NewScanner(from); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var notified struct{ Etag string }
		if err := json.Unmarshal([]byte(data), &notified); err != nil {
			return
		}
		select {
		case p.events <- event{time.Now(), notified.Etag}:
		case <-ctx.Done():
			return
		}
	}
}

// digestDigits is the number of digits of a document's digest in an event.
const digestDigits = 32

// awaitEverywhere waits until each pod has notified its clients of a document, and returns
// how long after a time that was.
func (f *fleet) awaitEverywhere(ctx context.Context, document string, began time.Time) ([]time.Duration, error) {
	digest := source.Digest([]byte(document))[:digestDigits]
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	var times []time.Duration
	for _, p := range f.pods {
		e, err := p.await(ctx, digest)
		if err != nil {
			return nil, fmt.Errorf("pod %s: %w", p.name, err)
		}
		p.etag = e.etag
		times = append(times, e.at.Sub(began))
	}
	return times, nil
}

func (p *watched) await(ctx context.Context, digest string) (event, error) {
	for {
		select {
		case <-ctx.Done():
			return event{}, fmt.Errorf("waiting for a change: %w", context.Cause(ctx))
		case e, open := <-p.events:
			if !open {
				return event{}, fmt.Errorf("the event stream ended")
			}
			if strings.Contains(e.etag, digest) {
				return e, nil
			}
		}
	}
}

// ask requests all flags of each pod as its client that was just notified, and returns how
// many answers have another value.
func (f *fleet) ask(ctx context.Context) (stale int, err error) {
	want := fmt.Sprintf(`"value":%d,`, f.value)
	for _, p := range f.pods {
		body, err := p.all(ctx)
		if err != nil {
			return 0, fmt.Errorf("requesting the flags of pod %s: %w", p.name, err)
		}
		if !strings.Contains(strings.ReplaceAll(body, "}", ","), want) {
			stale++
		}
	}
	return stale, nil
}

func (p *watched) all(ctx context.Context) (string, error) {
	address := p.url + config.PathEvaluate + "?flagConfigEtag=" + url.QueryEscape(p.etag)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader("{}"))
	if err != nil {
		return "", err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("it is answered with %s", response.Status)
	}
	return string(body), err
}
