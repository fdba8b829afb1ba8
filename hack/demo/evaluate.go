// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/test/cluster"
)

// question is an evaluation and the variant that the sample's flags give it.
type question struct {
	flag    string
	about   cluster.Context
	variant string
}

var questions = []question{
	{"maintenance", cluster.Context{}, "off"},
	{"welcome-message", cluster.Context{"targetingKey": "user-1", "locale": "de-AT"}, "german"},
	{"new-checkout", cluster.Context{"targetingKey": "user-2", "email": "ann@shop.example"}, "on"},
	{"search-page-size", cluster.Context{"targetingKey": "user-3", "appVersion": "2.4.0"}, "large"},
	{"discount-rate", cluster.Context{"targetingKey": "user-4", "country": "FI", "orders": 12}, "loyal"},
	{"payment-methods", cluster.Context{"targetingKey": "user-5", "country": "JP"}, "world"},
	{"legacy-cart", cluster.Context{"targetingKey": "user-6"}, ""},
}

// trafficInterval is the time between two evaluations of the traffic in the
// background.
const trafficInterval = 20 * time.Millisecond

// evaluate asks for flags as an application does, and starts the traffic.
func (d *demo) evaluate(ctx context.Context) error {
	d.chapter("Evaluating flags")
	fc := &v1alpha1.FlagCache{}
	if err := d.cluster.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, fc); err != nil {
		return fmt.Errorf("reading the FlagCache: %w", err)
	}
	d.endpoint = cluster.Endpoint{URL: fc.Status.Service.OFREPEndpoint, HTTP: d.cluster.HTTPClient(false)}
	d.say("An application sends who its user is to the Service, %s, by OpenFeature's protocol:", d.endpoint.URL)
	for _, q := range questions {
		if err := d.ask(ctx, q); err != nil {
			return err
		}
	}
	if err := d.askForAll(ctx); err != nil {
		return err
	}
	if err := d.askForMany(ctx); err != nil {
		return err
	}
	d.traffic = cluster.StartTraffic(d.endpoint, "welcome-message", cluster.Context{"targetingKey": "user-1"}, trafficInterval)
	d.say("From here on an application evaluates a flag every %s in the background.", trafficInterval)
	return nil
}

// ask evaluates one flag and shows question and answer.
func (d *demo) ask(ctx context.Context, q question) error {
	answer, err := d.endpoint.Evaluate(ctx, q.flag, q.about)
	if err != nil {
		return err
	}
	d.aside("POST %s/%s  %s", config.PathEvaluate, q.flag, compact(map[string]any{"context": q.about}))
	if answer.Variant != q.variant {
		return fmt.Errorf("flag %s is to give variant %q for %s, and gives %q", q.flag, q.variant, compact(q.about), answer.Variant)
	}
	d.came("%s", describe(answer))
	return nil
}

// describe is an answer in a line.
func describe(e cluster.Evaluation) string {
	if e.Variant == "" {
		return fmt.Sprintf("no value: the application's own default holds (%s)", e.Reason)
	}
	return fmt.Sprintf("%s (variant %s, %s)", compact(e.Value), e.Variant, e.Reason)
}

// askForAll evaluates every flag in one request.
func (d *demo) askForAll(ctx context.Context) error {
	about := cluster.Context{"targetingKey": "user-7", "country": "IT", "plan": "pro"}
	d.aside("POST %s  %s", config.PathEvaluate, compact(map[string]any{"context": about}))
	answers, err := d.endpoint.EvaluateAll(ctx, about)
	if err != nil {
		return err
	}
	var texts []string
	for _, a := range answers {
		if a.Code != "" {
			return fmt.Errorf("flag %s fails in a bulk evaluation: %s %s", a.Key, a.Code, a.Details)
		}
		if a.Variant != "" {
			texts = append(texts, a.Key+"="+a.Variant)
		}
	}
	d.came("%d flags in one answer: %s", len(answers), strings.Join(texts, " "))
	return nil
}

// users is how many users the fractional rollout is shown with.
const users = 400

// askForMany shows that a fractional rollout gives about the share it says.
func (d *demo) askForMany(ctx context.Context) error {
	endpoint := cluster.Endpoint{URL: d.endpoint.URL, HTTP: d.cluster.HTTPClient(true)}
	defer endpoint.HTTP.CloseIdleConnections()
	on := 0
	for i := range users {
		answer, err := endpoint.Evaluate(ctx, "new-checkout", cluster.Context{"targetingKey": fmt.Sprintf("customer-%d", i)})
		if err != nil {
			return err
		}
		if answer.Value == true {
			on++
		}
	}
	percent := 100 * on / users
	if percent < 15 || percent > 35 {
		return fmt.Errorf("new-checkout is to be on for 25 %% of the users, and is for %d %% of %d", percent, users)
	}
	d.came("new-checkout, a rollout to 25 %%, is on for %d %% of %d users", percent, users)
	return nil
}

func compact(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}
