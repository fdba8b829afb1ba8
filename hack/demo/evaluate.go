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

// example is an evaluation with the variant expected from the sample's flags.
type example struct {
	flag    string
	context cluster.Context
	variant string
}

var examples = []example{
	{"maintenance", cluster.Context{}, "off"},
	{"welcome-message", cluster.Context{"targetingKey": "user-1", "locale": "de-AT"}, "german"},
	{"new-checkout", cluster.Context{"targetingKey": "user-2", "email": "ann@shop.example"}, "on"},
	{"search-page-size", cluster.Context{"targetingKey": "user-3", "appVersion": "2.4.0"}, "large"},
	{"discount-rate", cluster.Context{"targetingKey": "user-4", "country": "FI", "orders": 12}, "loyal"},
	{"payment-methods", cluster.Context{"targetingKey": "user-5", "country": "JP"}, "world"},
	{"legacy-cart", cluster.Context{"targetingKey": "user-6"}, ""},
}

// trafficInterval is the time between two evaluations of the background traffic.
const trafficInterval = 20 * time.Millisecond

// evaluate evaluates flags as an application does, and starts the background traffic.
func (d *demo) evaluate(ctx context.Context) error {
	d.section("Evaluating flags")
	fc := &v1alpha1.FlagCache{}
	if err := d.cluster.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, fc); err != nil {
		return fmt.Errorf("reading the FlagCache: %w", err)
	}
	d.endpoint = cluster.Endpoint{URL: fc.Status.Service.OFREPEndpoint, HTTP: d.cluster.HTTPClient(false)}
	d.print("An application sends its evaluation context to the Service %s with the OpenFeature Remote Evaluation Protocol:", d.endpoint.URL)
	for _, q := range examples {
		if err := d.evaluateOne(ctx, q); err != nil {
			return err
		}
	}
	if err := d.evaluateAll(ctx); err != nil {
		return err
	}
	if err := d.evaluateFraction(ctx); err != nil {
		return err
	}
	d.traffic = cluster.StartTraffic(d.endpoint, "welcome-message", cluster.Context{"targetingKey": "user-1"}, trafficInterval)
	d.print("From now on, an application evaluates a flag every %s in the background.", trafficInterval)
	return nil
}

// evaluateOne evaluates one flag and shows request and response.
func (d *demo) evaluateOne(ctx context.Context, q example) error {
	answer, err := d.endpoint.Evaluate(ctx, q.flag, q.context)
	if err != nil {
		return err
	}
	d.detail("POST %s/%s  %s", config.PathEvaluate, q.flag, compact(map[string]any{"context": q.context}))
	if answer.Variant != q.variant {
		return fmt.Errorf("flag %s must evaluate to variant %q for %s, got %q", q.flag, q.variant, compact(q.context), answer.Variant)
	}
	d.success("%s", describe(answer))
	return nil
}

// describe formats an evaluation as one line.
func describe(e cluster.Evaluation) string {
	if e.Variant == "" {
		return fmt.Sprintf("no value: the application uses its own default (%s)", e.Reason)
	}
	return fmt.Sprintf("%s (variant %s, %s)", compact(e.Value), e.Variant, e.Reason)
}

// evaluateAll evaluates every flag in one request.
func (d *demo) evaluateAll(ctx context.Context) error {
	user := cluster.Context{"targetingKey": "user-7", "country": "IT", "plan": "pro"}
	d.detail("POST %s  %s", config.PathEvaluate, compact(map[string]any{"context": user}))
	answers, err := d.endpoint.EvaluateAll(ctx, user)
	if err != nil {
		return err
	}
	var texts []string
	for _, a := range answers {
		if a.Code != "" {
			return fmt.Errorf("flag %s failed in the bulk evaluation: %s %s", a.Key, a.Code, a.Details)
		}
		if a.Variant != "" {
			texts = append(texts, a.Key+"="+a.Variant)
		}
	}
	d.success("%d flags in one response: %s", len(answers), strings.Join(texts, " "))
	return nil
}

// users is the number of users to evaluate the fractional rollout for.
const users = 400

// evaluateFraction shows that a fractional rollout reaches about the configured share.
func (d *demo) evaluateFraction(ctx context.Context) error {
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
		return fmt.Errorf("new-checkout must be on for about 25 %% of the users, is on for %d %% of %d", percent, users)
	}
	d.success("new-checkout, a rollout to 25 %%, is on for %d %% of %d users", percent, users)
	return nil
}

func compact(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}
