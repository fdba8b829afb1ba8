// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/test/cluster"
)

// accelerated is a canary in seconds. A real one takes an hour, at 5 %. It is
// patient, because a busy machine says nothing about a release.
const accelerated = `"canary": {"steps": [{"weight": 20, "duration": "8s"}], "metrics": {"interval": "1s"}, "minimumRequests": 100, ` +
	`"thresholds": {"cacheHitRate": "50%", "latencyP95": "1s", "latencyP99": "1s", "missLatencyP95": "1s"}, "scaleDownDelay": "0s"}`

// shoppers are the users whose requests a canary is judged by: many, because
// each stays with the revision that it was given.
const shoppers = 50

// rollOut changes what pods run, to something good and to something bad.
func (d *demo) rollOut(ctx context.Context) error {
	return d.amongShoppers(ctx, d.promote, d.rollBack)
}

// amongShoppers tells chapters in which a canary is judged.
func (d *demo) amongShoppers(ctx context.Context, chapters ...func(context.Context) error) error {
	var traffic []*cluster.Traffic
	for i := range shoppers {
		about := cluster.Context{"targetingKey": fmt.Sprintf("shopper-%d", i), "locale": "de-AT"}
		traffic = append(traffic, cluster.StartTraffic(d.endpoint, "welcome-message", about, 100*time.Millisecond))
	}
	var err error
	for _, chapter := range chapters {
		if err = chapter(ctx); err != nil {
			break
		}
	}
	failed := 0
	for _, t := range traffic {
		failed += t.Stop().Failed
	}
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d evaluations of the shoppers failed", failed)
	}
	if err == nil {
		d.came("no evaluation of %d shoppers failed meanwhile", shoppers)
	}
	return err
}

// promote rolls a good release out.
func (d *demo) promote(ctx context.Context) error {
	d.chapter("Rolling out a good release")
	d.say("A change of what pods run is tried on 20 %% of the traffic, here for 8 seconds.")
	before, _, err := d.flagCache(ctx)
	if err != nil {
		return err
	}
	if err := d.patch(ctx, `{"spec": {`+accelerated+`, "service": {"env": [{"name": "RELEASE", "value": "2"}]}}}`); err != nil {
		return err
	}
	took, err := d.await(ctx, "the new revision is promoted", 3*time.Minute, d.drawCanary(promotedAfter(before)))
	if err != nil {
		return err
	}
	d.came("promoted, %s after the change", round(took))
	return nil
}

// promotedAfter tells whether another revision serves than did before, alone.
func promotedAfter(before *v1alpha1.FlagCache) func(*v1alpha1.FlagCache) bool {
	return func(fc *v1alpha1.FlagCache) bool {
		return fc.Status.Revisions.Stable != before.Status.Revisions.Stable && fc.Status.Revisions.Candidate == ""
	}
}

// rollBack rolls out a release that cannot run, and mends the spec.
func (d *demo) rollBack(ctx context.Context) error {
	d.chapter("Rolling out a bad release")
	if err := d.patch(ctx, `{"spec": {"service": {"image": "flag-service:no-such-release"}}}`); err != nil {
		return err
	}
	took, err := d.await(ctx, "the bad revision is rolled back", 3*time.Minute, d.drawCanary(func(fc *v1alpha1.FlagCache) bool {
		return fc.Status.Revisions.Rejected != ""
	}))
	if err != nil {
		return err
	}
	d.came("rolled back by itself, %s after the change; the spec is as its owner left it, and Ready says why", round(took))
	if err := d.patch(ctx, `{"spec": {"service": {"image": null}}}`); err != nil {
		return err
	}
	_, err = d.awaitCondition(ctx, v1alpha1.ConditionReady, "True", time.Minute)
	return err
}

func (d *demo) patch(ctx context.Context, patch string) error {
	return d.kubectl(ctx, "patch", "flagcache", name, "--type=merge", "-p", patch)
}

// drawCanary shows how a canary goes until something holds.
func (d *demo) drawCanary(holds func(*v1alpha1.FlagCache) bool) func(context.Context) (sight, error) {
	return func(ctx context.Context) (sight, error) {
		fc, _, err := d.flagCache(ctx)
		if err != nil {
			return sight{}, err
		}
		if fc.Status.ObservedGeneration != fc.Generation || fc.Status.Revisions == nil {
			return sight{picture: []string{markNone + " the operator has not seen the change yet"}}, nil
		}
		return sight{picture: canaryPicture(fc), done: holds(fc)}, nil
	}
}

// canaryPicture is a canary in a few lines, without the numbers that change with
// each look, so that a pipe is not flooded.
func canaryPicture(fc *v1alpha1.FlagCache) []string {
	r, c := fc.Status.Revisions, fc.Status.Canary
	switch {
	case c == nil && r.Candidate == "":
		return []string{fmt.Sprintf("%s revision %s serves", markGood, r.Stable)}
	case c == nil:
		return []string{fmt.Sprintf("%s revision %s serves, %s is starting", markNone, r.Stable, r.Candidate)}
	case r.Rejected != "", c.Phase == "":
		return []string{fmt.Sprintf("%s revision %s serves, %s is rejected", markGood, r.Stable, cmp.Or(r.Rejected, r.Candidate))}
	}
	picture := []string{fmt.Sprintf("%s revision %s serves, %s is on trial: %s, %d %% of the traffic", markNone, r.Stable, r.Candidate, c.Phase, c.Weight)}
	if c.Phase != v1alpha1.CanaryStepping {
		return picture
	}
	for _, check := range c.Checks {
		picture = append(picture, fmt.Sprintf("%s   %-15s limit %-5s %s", markNone, check.Name, check.Limit, check.Verdict))
	}
	return picture
}
