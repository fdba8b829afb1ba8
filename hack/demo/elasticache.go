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

// canPlayAWS says what is missing for playing ACK and ElastiCache.
func canPlayAWS(p cluster.Programs, embedded bool) error {
	switch {
	case p.ACKPlayer == "":
		return errors.New("the player of ACK and ElastiCache is not there: run make ackplayer")
	case p.Redis == "" || embedded:
		return errors.New("ElastiCache is played with real redis-servers, which the embedded one cannot stand for: run hack/setup/redis.sh")
	}
	return nil
}

// playAWS puts the player of ACK and of AWS into the cluster.
func (d *demo) playAWS(ctx context.Context) error {
	d.chapter("Playing AWS")
	d.say("There is no AWS account here: ACK's controllers and ElastiCache are played on this machine, with real")
	d.say("redis-servers over TLS, which are there in seconds where AWS takes about ten minutes.")
	d.command("kubectl apply --server-side -f test/ackplayer/deploy.yaml")
	began := time.Now()
	if err := d.cluster.DeployACKPlayer(ctx); err != nil {
		return err
	}
	if err := d.cluster.TrustACKPlayer(ctx); err != nil {
		return err
	}
	d.came("ACK's kinds are served, and the operator trusts the servers' authority, after %s", round(time.Since(began)))
	return nil
}

// lookAtGroup shows what was made in the cloud.
func (d *demo) lookAtGroup(ctx context.Context) error {
	d.chapter("Looking at what is in the cloud")
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

// failOver fails the cache over, which ACK does not notice.
func (d *demo) failOver(ctx context.Context) error {
	d.chapter("Failing the cache over")
	d.say("The replica becomes the primary behind the same endpoint, and open connections to the old one can only read.")
	fc, _, err := d.flagCache(ctx)
	if err != nil {
		return err
	}
	before := d.traffic.Tally()
	if err := d.cluster.OrderACKPlayer(ctx, "/failover?id="+fc.Status.Cache.ReplicationGroupID); err != nil {
		return err
	}
	if err := d.stays(ctx, "the cache is healthy", d.drawCondition(v1alpha1.ConditionCacheHealthy, metav1.ConditionTrue)); err != nil {
		return err
	}
	d.came("the operator's probe writes to the new primary")
	return d.serves(ctx, "the failover", before.Succeeded)
}

// renew changes what the pods connect to: first the token, then the cache.
func (d *demo) renew(ctx context.Context) error {
	return d.amongShoppers(ctx, d.rotate, d.replace)
}

// rotate has the token of the cache rotated. ACK is held up at first, so that it can
// be seen that nobody is given a token that AWS does not know.
func (d *demo) rotate(ctx context.Context) error {
	d.chapter("Rotating the token of the cache")
	d.say("Every new connection is tried like a release, on 20 %% of the traffic, here for 8 seconds.")
	if err := d.patch(ctx, `{"spec": {`+accelerated+`}}`); err != nil {
		return err
	}
	before, old, err := d.seeTokens(ctx)
	if err != nil {
		return err
	}
	d.say("ACK is held up first, so that AWS does not hear of the new token.")
	if err := d.cluster.OrderACKPlayer(ctx, "/pause"); err != nil {
		return err
	}
	if err := d.kubectl(ctx, "annotate", "flagcache", name, v1alpha1.AnnotationRotateToken+"=please"); err != nil {
		return err
	}
	err = d.stays(ctx, "there is a new token that nobody is given", d.drawTokens(old, func(now tokens, _ *v1alpha1.FlagCache) bool {
		return now.recorded != old.recorded && now.given == old.given && !now.probed
	}))
	if err != nil {
		return err
	}
	d.came("a new token is there, AWS does not know it, and for %s nobody was given it", steady)
	d.say("ACK goes on, and AWS hears of the token.")
	if err := d.cluster.OrderACKPlayer(ctx, "/resume"); err != nil {
		return err
	}
	promoted := promotedAfter(before)
	took, err := d.await(ctx, "applications have the new token", 2*time.Minute, d.drawTokens(old, func(now tokens, fc *v1alpha1.FlagCache) bool {
		return now.given == now.recorded && now.probed && promoted(fc)
	}))
	if err != nil {
		return err
	}
	d.came("a probe succeeded, the pods with the new token were promoted, and Secret %s followed, after %s", connectionSecret, round(took))
	return nil
}

// connectionSecret is what applications that use the cache themselves read.
const connectionSecret = name + "-connection"

// tokens are compared, and never shown.
type tokens struct {
	// recorded is the newest, given the one that applications log in with.
	recorded, given string
	// probed says that a probe succeeded with the newest: pods have a Secret with it.
	probed bool
}

// seeTokens reads the FlagCache and the tokens of its only cache.
func (d *demo) seeTokens(ctx context.Context) (*v1alpha1.FlagCache, tokens, error) {
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
			seen.recorded = string(secret.Data["token"])
		case secret.Name == connectionSecret:
			seen.given = string(secret.Data["password"])
		default:
			ofPods = append(ofPods, string(secret.Data["password"]))
		}
	}
	seen.probed = slices.Contains(ofPods, seen.recorded)
	return fc, seen, nil
}

// drawTokens draws how far a rotation has come until something holds.
func (d *demo) drawTokens(old tokens, holds func(tokens, *v1alpha1.FlagCache) bool) func(context.Context) (sight, error) {
	return func(ctx context.Context) (sight, error) {
		fc, now, err := d.seeTokens(ctx)
		if err != nil {
			return sight{}, err
		}
		renewed := now.recorded != old.recorded
		picture := []string{
			drawStep("a new token is on record", renewed),
			drawStep("a probe succeeded with it", renewed && now.probed),
			drawStep("Secret "+connectionSecret+" has it", now.given != old.given),
		}
		return sight{picture: append(picture, canaryPicture(fc)...), done: holds(now, fc)}, nil
	}
}

func drawStep(what string, done bool) string {
	if done {
		return markGood + " " + what
	}
	return fmt.Sprintf("%s %s: not yet", markNone, what)
}

// replace changes what AWS cannot change in place.
func (d *demo) replace(ctx context.Context) error {
	d.chapter("Replacing the cache: from Redis to Valkey")
	d.say("AWS does not let FlagCache go from one engine to the other in place, so a second group is made beside")
	d.say("the first, and tried. (Played, Valkey is a redis-server, too.)")
	before, _, err := d.flagCache(ctx)
	if err != nil {
		return err
	}
	if err := d.patch(ctx, `{"spec": {"cache": {"elastiCache": {"engine": "Valkey", "engineVersion": "8.0"}}}}`); err != nil {
		return err
	}
	if _, err := d.await(ctx, "there are two groups", time.Minute, d.drawGroups(2)); err != nil {
		return err
	}
	if err := d.getGroups(ctx); err != nil {
		return err
	}
	took, err := d.await(ctx, "the revision with the new cache is promoted", 3*time.Minute, d.drawCanary(promotedAfter(before)))
	if err != nil {
		return err
	}
	d.came("promoted, %s after both were there", round(took))
	took, err = d.await(ctx, "the old group is gone", time.Minute, d.drawGroups(1))
	if err != nil {
		return err
	}
	d.came("the old group is gone, %s later", round(took))
	if err := d.getGroups(ctx); err != nil {
		return err
	}
	_, err = d.awaitCondition(ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, time.Minute)
	return err
}

// drawGroups draws the replication groups until so many are available, and no other
// is there.
func (d *demo) drawGroups(n int) func(context.Context) (sight, error) {
	return func(ctx context.Context) (sight, error) {
		groups := &ack.ReplicationGroupList{}
		if err := d.cluster.Client.List(ctx, groups, client.InNamespace(namespace)); err != nil {
			return sight{}, fmt.Errorf("listing replication groups: %w", err)
		}
		seen := sight{done: len(groups.Items) == n}
		for _, group := range groups.Items {
			m := markGood
			if group.Status.State != ack.GroupAvailable {
				m, seen.done = markNone, false
			}
			seen.picture = append(seen.picture, fmt.Sprintf("%s group %-16s %-7s %s", m, group.Name, group.Spec.Engine, group.Status.State))
		}
		return seen, nil
	}
}
