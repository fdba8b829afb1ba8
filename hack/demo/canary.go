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

// accelerated is a canary that takes seconds; the default is an hour at 5 %. Its
// latency limits are generous, because this machine may be busy.
const accelerated = `"canary": {"steps": [{"weight": 20, "duration": "8s"}], "metrics": {"interval": "1s"}, "minimumRequests": 100, ` +
	`"thresholds": {"cacheHitRate": "50%", "latencyP95": "1s", "latencyP99": "1s", "missLatencyP95": "1s"}, "scaleDownDelay": "0s"}`

// trafficUsers is the number of users whose requests a canary is evaluated on. It takes
// many, because each user sticks to one revision.
const trafficUsers = 50

// rollOut rolls out a good and a bad revision.
func (d *demo) rollOut(ctx context.Context) error {
	return d.withTraffic(ctx, d.promote, d.rollBack)
}

// withTraffic runs steps that include a canary while many users evaluate flags.
func (d *demo) withTraffic(ctx context.Context, steps ...func(context.Context) error) error {
	var traffic []*cluster.Traffic
	for i := range trafficUsers {
		user := cluster.Context{"targetingKey": fmt.Sprintf("shopper-%d", i), "locale": "de-AT"}
		traffic = append(traffic, cluster.StartTraffic(d.endpoint, "welcome-message", user, 100*time.Millisecond))
	}
	var err error
	for _, step := range steps {
		if err = step(ctx); err != nil {
			break
		}
	}
	failed := 0
	var failure error
	for _, t := range traffic {
		tally := t.Stop()
		failed += tally.Failed
		failure = cmp.Or(failure, tally.Failure)
	}
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d evaluations failed during the rollouts, for example %w", failed, failure)
	}
	if err == nil {
		d.success("no evaluation for %d users failed in the meantime", trafficUsers)
	}
	return err
}

// promote rolls out a good revision.
func (d *demo) promote(ctx context.Context) error {
	d.section("Rolling out a good revision")
	d.print("A change to the pods is first tested as a canary: here with 20 %% of the traffic for 8 seconds. The pods that")
	d.print("forward this share read it from a mounted file, which a kubelet updates 60 to 90 seconds after a change.")
	before, _, err := d.flagCache(ctx)
	if err != nil {
		return err
	}
	if err := d.patch(ctx, `{"spec": {`+accelerated+`, "service": {"env": [{"name": "RELEASE", "value": "2"}]}}}`); err != nil {
		return err
	}
	took, err := d.await(ctx, "the new revision is promoted", 5*time.Minute, d.observeCanary(promotedAfter(before)))
	if err != nil {
		return err
	}
	d.success("promoted, %s after the change", round(took))
	return nil
}

// promotedAfter reports whether the stable revision has changed and no candidate is left.
func promotedAfter(before *v1alpha1.FlagCache) func(*v1alpha1.FlagCache) bool {
	return func(fc *v1alpha1.FlagCache) bool {
		return fc.Status.Revisions.Stable != before.Status.Revisions.Stable && fc.Status.Revisions.Candidate == ""
	}
}

// rollBack rolls out a revision that cannot start, and then reverts the spec. The name of
// its image is invalid, which no waiting resolves: one that is only missing may still
// come, so that it is rejected after the progress deadline.
func (d *demo) rollBack(ctx context.Context) error {
	d.section("Rolling out a bad revision")
	if err := d.patch(ctx, `{"spec": {"service": {"image": "Flag-Service:latest"}}}`); err != nil {
		return err
	}
	took, err := d.await(ctx, "the bad revision is rolled back", 3*time.Minute, d.observeCanary(func(fc *v1alpha1.FlagCache) bool {
		return fc.Status.Revisions.Rejected != ""
	}))
	if err != nil {
		return err
	}
	d.success("rolled back automatically, %s after the change; the spec is unchanged, and Ready reports the reason", round(took))
	if err := d.patch(ctx, `{"spec": {"service": {"image": null}}}`); err != nil {
		return err
	}
	_, err = d.awaitCondition(ctx, v1alpha1.ConditionReady, "True", time.Minute)
	return err
}

func (d *demo) patch(ctx context.Context, patch string) error {
	return d.kubectl(ctx, "patch", "flagcache", name, "--type=merge", "-p", patch)
}

// observeCanary shows the progress of a canary until a condition holds.
func (d *demo) observeCanary(holds func(*v1alpha1.FlagCache) bool) func(context.Context) (observation, error) {
	return func(ctx context.Context) (observation, error) {
		fc, _, err := d.flagCache(ctx)
		if err != nil {
			return observation{}, err
		}
		if fc.Status.ObservedGeneration != fc.Generation || fc.Status.Revisions == nil {
			return observation{lines: []string{markNone + " the operator has not observed the change yet"}}, nil
		}
		return observation{lines: canaryLines(fc), done: holds(fc)}, nil
	}
}

// canaryLines summarizes a canary without the numbers that change all the time, so that
// output to a pipe stays short.
func canaryLines(fc *v1alpha1.FlagCache) []string {
	r, c := fc.Status.Revisions, fc.Status.Canary
	switch {
	case c == nil && r.Candidate == "":
		return []string{fmt.Sprintf("%s revision %s is stable", markGood, r.Stable)}
	case c == nil:
		return []string{fmt.Sprintf("%s revision %s is stable, candidate %s is starting", markNone, r.Stable, r.Candidate)}
	case r.Rejected != "", c.Phase == "":
		return []string{fmt.Sprintf("%s revision %s is stable, %s is rejected", markGood, r.Stable, cmp.Or(r.Rejected, r.Candidate))}
	}
	lines := []string{fmt.Sprintf("%s revision %s is stable, candidate %s: %s, %d %% of the traffic", markNone, r.Stable, r.Candidate, c.Phase, c.Weight)}
	if c.Phase != v1alpha1.CanaryStepping {
		return lines
	}
	for _, check := range c.Checks {
		lines = append(lines, fmt.Sprintf("%s   %-15s limit %-5s %s", markNone, check.Name, check.Limit, check.Verdict))
	}
	return lines
}
