// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers/ack"
	"github.com/flagcache/flagcache/test/cluster"
)

// checkSimulation reports what is missing to run ACK and to simulate ElastiCache.
func checkSimulation(p cluster.Programs, embedded bool) error {
	switch {
	case p.ACK == "" || p.AWSPlayer == "":
		return errors.New("ACK and the simulation of AWS are not built: run make ack awsplayer")
	case p.Redis == "" || embedded:
		return errors.New("the simulation of ElastiCache requires redis-server: run hack/setup/redis.sh")
	}
	return nil
}

// installACK deploys a simulation of AWS, and ACK, which uses it.
func (d *demo) installACK(ctx context.Context) error {
	d.section("Installing ACK")
	d.print("Without an AWS account, the API of ElastiCache is simulated on this machine with real redis-servers over TLS.")
	d.print("They start in seconds, where AWS takes about ten minutes.")
	d.command("kubectl apply --server-side -f test/awsplayer/deploy.yaml")
	began := time.Now()
	if err := d.cluster.DeployAWS(ctx); err != nil {
		return err
	}
	d.success("the API responds, after %s", round(time.Since(began)))
	d.print("ACK's elasticache-controller is the released one, with its own manifests. It calls the simulated API, and polls")
	d.print("every second instead of every 30 seconds.")
	began = time.Now()
	if err := d.cluster.DeployACK(ctx); err != nil {
		return err
	}
	d.print("No namespace may use ElastiCache until the administrator's policy permits it, as this one does for all.")
	d.command("kubectl apply --server-side -f test/awsplayer/policy.yaml")
	if err := d.cluster.TrustAWS(ctx); err != nil {
		return err
	}
	d.success("the kinds of ACK are served, the policy is set and the operator trusts the servers' CA, after %s", round(time.Since(began)))
	return nil
}

// showGroup shows the replication group and its estimated cost.
func (d *demo) showGroup(ctx context.Context) error {
	d.section("Inspecting the replication group")
	if err := d.getGroups(ctx); err != nil {
		return err
	}
	return d.kubectl(ctx, "get", "flagcache", name, "--output",
		"custom-columns=USD-A-MONTH:.status.cost.monthlyUSD,BASIS:.status.cost.basis")
}

func (d *demo) getGroups(ctx context.Context) error {
	return d.kubectl(ctx, "get", "replicationgroups", "--output",
		"custom-columns=NAME:.metadata.name,ENGINE:.spec.engine,VERSION:.spec.engineVersion,STATUS:.status.status,AWS:.spec.replicationGroupID")
}

// failOver triggers a failover, which ACK does not notice.
func (d *demo) failOver(ctx context.Context) error {
	d.section("Failing over")
	d.print("The replica becomes the primary behind the same endpoint; open connections to the old primary become read-only.")
	fc, _, err := d.flagCache(ctx)
	if err != nil {
		return err
	}
	before := d.traffic.Tally()
	if err := d.cluster.ControlAWS(ctx, "/failover?id="+fc.Status.Cache.ReplicationGroupID); err != nil {
		return err
	}
	if err := d.awaitStable(ctx, "the cache is healthy", d.observeCondition(v1alpha1.ConditionCacheHealthy, metav1.ConditionTrue)); err != nil {
		return err
	}
	d.success("the operator's probe writes to the new primary")
	return d.expectNoFailures(ctx, "the failover", before.Succeeded)
}

// rotateAndReplace changes the pods' connection: first the token, then the cache.
func (d *demo) rotateAndReplace(ctx context.Context) error {
	return d.withTraffic(ctx, d.rotate, d.replace)
}

// rotate rotates the token of the cache. ACK is stopped at first, to show that a token is
// not handed out before AWS accepts it.
func (d *demo) rotate(ctx context.Context) error {
	d.section("Rotating the AUTH token")
	d.print("A new connection is tested as a canary too: here with 20 %% of the traffic for 8 seconds.")
	if err := d.patch(ctx, `{"spec": {`+accelerated+`}}`); err != nil {
		return err
	}
	before, old, err := d.readTokens(ctx)
	if err != nil {
		return err
	}
	d.print("ACK is stopped first, so that the new token does not reach AWS.")
	if err := scaleACK(ctx, d, 0); err != nil {
		return err
	}
	if err := d.kubectl(ctx, "annotate", "flagcache", name, v1alpha1.AnnotationRotateToken+"=please"); err != nil {
		return err
	}
	err = d.awaitStable(ctx, "the new token is not handed out", d.observeTokens(old, func(now tokens, _ *v1alpha1.FlagCache) bool {
		return now.latest != old.latest && now.published == old.published && !now.probed
	}))
	if err != nil {
		return err
	}
	d.success("a new token exists; it was not handed out for %s, because AWS does not accept it yet", stablePeriod)
	d.print("ACK is started again and sends the token to AWS.")
	if err := scaleACK(ctx, d, 1); err != nil {
		return err
	}
	promoted := promotedAfter(before)
	took, err := d.await(ctx, "applications have the new token", 5*time.Minute, d.observeTokens(old, func(now tokens, fc *v1alpha1.FlagCache) bool {
		return now.published == now.latest && now.probed && promoted(fc)
	}))
	if err != nil {
		return err
	}
	d.success("the probe succeeded, the pods with the new token were promoted and Secret %s was updated, after %s", connectionSecret, round(took))
	return nil
}

// scaleACK starts or stops ACK.
func scaleACK(ctx context.Context, d *demo, replicas int) error {
	err := d.kubectl(ctx, "scale", "--namespace", cluster.ACKNamespace, "deployment", cluster.ACKDeployment, fmt.Sprintf("--replicas=%d", replicas))
	if err != nil || replicas > 0 {
		return err
	}
	_, err = d.cluster.Kubectl(ctx, "wait", "--namespace", cluster.ACKNamespace, "pods", "--all", "--for=delete", "--timeout=1m")
	return err
}

// connectionSecret is the Secret for applications that use the cache directly.
const connectionSecret = name + "-connection"

// tokens are compared but never shown.
type tokens struct {
	// latest is the newest token, published the one in connectionSecret.
	latest, published string
	// probed is set when a probe with the newest token has succeeded: a Secret for pods
	// contains it.
	probed bool
}

// readTokens reads the FlagCache and the tokens of its cache.
func (d *demo) readTokens(ctx context.Context) (*v1alpha1.FlagCache, tokens, error) {
	var seen tokens
	fc, _, err := d.flagCache(ctx)
	if err != nil {
		return nil, seen, err
	}
	secrets := &corev1.SecretList{}
	err = d.cluster.Client.List(ctx, secrets, client.InNamespace(namespace), client.MatchingLabels{v1alpha1.LabelName: name})
	if err != nil {
		return nil, seen, fmt.Errorf("listing Secrets: %w", err)
	}
	var ofPods []string
	for _, secret := range secrets.Items {
		switch {
		case secret.Labels[v1alpha1.LabelCache] != "":
			seen.latest = string(secret.Data["token"])
		case secret.Name == connectionSecret:
			seen.published = string(secret.Data["password"])
		default:
			ofPods = append(ofPods, string(secret.Data["password"]))
		}
	}
	seen.probed = slices.Contains(ofPods, seen.latest)
	return fc, seen, nil
}

// observeTokens shows the progress of a rotation until a condition holds.
func (d *demo) observeTokens(old tokens, holds func(tokens, *v1alpha1.FlagCache) bool) func(context.Context) (observation, error) {
	return func(ctx context.Context) (observation, error) {
		fc, now, err := d.readTokens(ctx)
		if err != nil {
			return observation{}, err
		}
		renewed := now.latest != old.latest
		lines := []string{
			stepLine("a new token is generated", renewed),
			stepLine("the probe succeeded with it", renewed && now.probed),
			stepLine("Secret "+connectionSecret+" contains it", now.published != old.published),
		}
		return observation{lines: append(lines, canaryLines(fc)...), done: holds(now, fc)}, nil
	}
}

func stepLine(what string, done bool) string {
	if done {
		return markGood + " " + what
	}
	return fmt.Sprintf("%s %s: not yet", markNone, what)
}

// replace changes a property that requires a new cache.
func (d *demo) replace(ctx context.Context) error {
	d.section("Replacing the cache: from Redis to Valkey")
	d.print("The engine cannot be changed in place, so a second replication group is created beside the first and")
	d.print("tested as a canary. (The simulation runs redis-server for Valkey, too.)")
	before, _, err := d.flagCache(ctx)
	if err != nil {
		return err
	}
	if err := d.patch(ctx, `{"spec": {"cache": {"elastiCache": {"engine": "Valkey", "engineVersion": "8.0"}}}}`); err != nil {
		return err
	}
	if _, err := d.await(ctx, "two groups are available", time.Minute, d.observeGroups(2)); err != nil {
		return err
	}
	if err := d.getGroups(ctx); err != nil {
		return err
	}
	took, err := d.await(ctx, "the revision with the new cache is promoted", 5*time.Minute, d.observeCanary(promotedAfter(before)))
	if err != nil {
		return err
	}
	d.success("promoted, %s after both groups were available", round(took))
	took, err = d.await(ctx, "the old group is deleted", time.Minute, d.observeGroups(1))
	if err != nil {
		return err
	}
	d.success("the old group was deleted, %s later", round(took))
	if err := d.getGroups(ctx); err != nil {
		return err
	}
	_, err = d.awaitCondition(ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, time.Minute)
	return err
}

// observeGroups shows the replication groups until exactly n exist and are available.
func (d *demo) observeGroups(n int) func(context.Context) (observation, error) {
	return func(ctx context.Context) (observation, error) {
		groups := &ack.ReplicationGroupList{}
		if err := d.cluster.Client.List(ctx, groups, client.InNamespace(namespace)); err != nil {
			return observation{}, fmt.Errorf("listing replication groups: %w", err)
		}
		seen := observation{done: len(groups.Items) == n}
		for i := range groups.Items {
			group := &groups.Items[i]
			m := markGood
			if ack.GroupState(group) != ack.GroupAvailable {
				m, seen.done = markNone, false
			}
			seen.lines = append(seen.lines, fmt.Sprintf("%s group %-16s %-7s %s", m, group.Name, ack.Value(group.Spec.Engine), ack.GroupState(group)))
		}
		return seen, nil
	}
}
