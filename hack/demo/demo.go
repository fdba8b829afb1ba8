// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/test/cluster"
)

// What the sample makes, and where the demo makes it.
const (
	namespace = "default"
	name      = "demo"
	sample    = "config/samples/flagcache.yaml"
	// flagFile is the ConfigMap of the sample's flags, and its key.
	flagFile = "demo-flags"
	flagKey  = "flags.json"
)

// story is what is told about a kind of cache.
type story struct {
	// manifests are what is applied, as arguments of kubectl.
	manifests []string
	// cloud says that the cache is made in one, which is played.
	cloud    bool
	chapters []func(*demo, context.Context) error
}

// stories are by the value of --cache.
var stories = map[string]story{
	"incluster": {
		manifests: []string{"-f", sample},
		chapters: []func(*demo, context.Context) error{
			(*demo).deploy,
			(*demo).apply,
			(*demo).evaluate,
			(*demo).killRedis,
			(*demo).startRedis,
			(*demo).changeFlag,
			(*demo).rollOut,
			(*demo).delete,
		},
	},
	"elasticache": {
		manifests: []string{"-k", "hack/demo/elasticache"},
		cloud:     true,
		chapters: []func(*demo, context.Context) error{
			(*demo).deploy,
			(*demo).playAWS,
			(*demo).apply,
			(*demo).lookAtGroup,
			(*demo).evaluate,
			(*demo).failOver,
			(*demo).changeFlag,
			(*demo).renew,
			(*demo).delete,
		},
	},
}

// storyAbout is the story about a kind of cache.
func storyAbout(cache string) (story, error) {
	s, ok := stories[cache]
	if !ok {
		return s, fmt.Errorf("there is no story about the cache %q: it is one of %s", cache, strings.Join(slices.Sorted(maps.Keys(stories)), ", "))
	}
	return s, nil
}

// demo is the story on its way.
type demo struct {
	*teller
	story   story
	cluster *cluster.Cluster
	// before is what the namespace held before the FlagCache.
	before   cluster.Inventory
	endpoint cluster.Endpoint
	// traffic goes on from the first evaluation to the deletion.
	traffic *cluster.Traffic
}

// run tells the whole story on a cluster that goes with it.
func run(ctx context.Context, t *teller, s story, embedded bool) (err error) {
	began := time.Now()
	options, clean, err := options(ctx, t, s, embedded)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clean()) }()
	c, err := start(ctx, t, options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	ctx, cancel := untilEnd(ctx, c)
	defer cancel(nil)
	d := &demo{teller: t, story: s, cluster: c}
	if err := d.tell(ctx); err != nil {
		return err
	}
	t.chapter("Stopping the cluster")
	if err := c.Stop(); err != nil {
		return err
	}
	t.came("all of it came true, in %s", round(time.Since(began)))
	return nil
}

// tell is the story, a chapter at a time.
func (d *demo) tell(ctx context.Context) error {
	defer func() {
		if d.traffic != nil {
			d.traffic.Stop()
		}
	}()
	for _, chapter := range d.story.chapters {
		if err := chapter(d, ctx); err != nil {
			return err
		}
	}
	return nil
}

// options say what the cluster is made of; clean removes what that took.
func options(ctx context.Context, t *teller, s story, embedded bool) (o cluster.Options, clean func() error, err error) {
	programs, err := cluster.FindPrograms()
	if err != nil {
		return o, nil, err
	}
	if s.cloud {
		if err := canPlayAWS(programs, embedded); err != nil {
			return o, nil, err
		}
	}
	dir, err := os.MkdirTemp("", "flagcache-demo-")
	if err != nil {
		return o, nil, fmt.Errorf("making a directory for the demo: %w", err)
	}
	clean = func() error { return os.RemoveAll(dir) }
	if err := addRedis(ctx, t, &programs, embedded, dir); err != nil {
		return o, nil, errors.Join(err, clean())
	}
	return cluster.Options{Kube: programs.Kube, Images: programs.Images()}, clean, nil
}

// start starts the cluster.
func start(ctx context.Context, t *teller, o cluster.Options) (*cluster.Cluster, error) {
	t.chapter("Starting a Kubernetes on this machine")
	t.say("A real control plane and a real kubelet; pods are processes in namespaces of their own.")
	o.Progress = func(line string) { t.aside("%s", line) }
	began := time.Now()
	c, err := cluster.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	t.came("it works, after %s", round(time.Since(began)))
	return c, nil
}

// untilEnd is a context that ends with the cluster, and then says why.
func untilEnd(ctx context.Context, c *cluster.Cluster) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-c.Ended():
			cancel(c.Err())
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// deploy installs the operator.
func (d *demo) deploy(ctx context.Context) error {
	d.chapter("Installing the CRD and the operator")
	d.command("kubectl apply --server-side -k config/default")
	began := time.Now()
	if err := d.cluster.Deploy(ctx); err != nil {
		return err
	}
	d.came("the operator is available, after %s", round(time.Since(began)))
	return nil
}

// apply applies the FlagCache and waits until it is Ready.
func (d *demo) apply(ctx context.Context) error {
	d.chapter("Applying a FlagCache and its flags")
	var err error
	if d.before, err = d.cluster.Inventory(ctx, namespace); err != nil {
		return err
	}
	if err := d.kubectl(ctx, append([]string{"apply"}, d.story.manifests...)...); err != nil {
		return err
	}
	// The flags are the user's and stay.
	d.before["ConfigMap/"+flagFile] = ""
	took, err := d.awaitCondition(ctx, v1alpha1.ConditionReady, "True", 90*time.Second)
	if err != nil {
		return err
	}
	d.came("Ready, %s after the apply", round(took))
	return d.kubectl(ctx, "get", "flagcaches")
}

// delete deletes the FlagCache and waits until nothing is left of it.
func (d *demo) delete(ctx context.Context) error {
	d.chapter("Deleting the FlagCache")
	tally := d.traffic.Stop()
	d.say("The traffic in the background ends here: %s.", tally)
	if tally.Failed > 0 {
		return fmt.Errorf("evaluations failed in the course of the story: %s", tally)
	}
	if err := d.kubectl(ctx, "delete", "flagcache", name, "--wait=false"); err != nil {
		return err
	}
	took, err := d.await(ctx, "nothing is left of the FlagCache", time.Minute, d.drawLeft)
	if err != nil {
		return err
	}
	where := "in any type of API"
	if d.story.cloud {
		where += ", nor in the cloud"
	}
	d.came("nothing is left of it %s, %s after the delete", where, round(took))
	return nil
}

// kubectl runs a command in the repository's directory and shows it with what it
// prints.
func (d *demo) kubectl(ctx context.Context, args ...string) error {
	d.command("kubectl %s", strings.Join(args, " "))
	output, err := d.cluster.Kubectl(ctx, args...)
	for line := range strings.Lines(output) {
		d.say("%s", strings.TrimRight(line, "\n"))
	}
	return err
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
