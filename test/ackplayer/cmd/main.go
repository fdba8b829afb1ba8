// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command ackplayer plays ACK and ElastiCache in a cluster: on the host with a
// kubeconfig, or in a pod, where the Redis servers then run too.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	corev1 "k8s.io/client-go/applyconfigurations/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/flagcache/flagcache/test/ackplayer"
)

// settings are the command line.
type settings struct {
	player ackplayer.Options
	// control is where Handler listens.
	control string
	// ca names the ConfigMap that gets the CA's certificate, NAMESPACE/NAME.
	ca string
}

func main() {
	var s settings
	o := &s.player
	flag.StringVar(&o.ListenHost, "listen", os.Getenv("POD_IP"), "address of the Redis servers; default: 127.0.0.1")
	flag.StringVar(&o.AdvertiseHost, "advertise", "", "name or address of the endpoints in statuses; default: that of --listen")
	flag.StringVar(&o.RedisServer, "redis-server", "redis-server", "executable of Redis")
	flag.DurationVar(&o.Poll, "poll", 0, "how long to wait to look again at what is not settled; default: 1s")
	flag.DurationVar(&o.Resync, "resync", 0, "how long to wait to look again at what is; default: 10h")
	flag.DurationVar(&o.CreateTime, "create-time", 0, "how long AWS takes to create a group; default: a third of --poll")
	flag.DurationVar(&o.ModifyTime, "modify-time", 0, "how long AWS takes to change a group; default: a third of --poll")
	flag.BoolVar(&o.CutOnFailover, "cut-on-failover", false, "close the clients' connections at a failover")
	flag.BoolVar(&o.RejectEmptyModify, "reject-empty-modify", false, "refuse calls that change nothing")
	flag.StringVar(&s.control, "control", "127.0.0.1:0", "address on which to take orders by HTTP")
	flag.StringVar(&s.ca, "ca-configmap", "", "NAMESPACE/NAME of a ConfigMap to write the authority's certificate to, as ca.crt")
	flag.Parse()
	ctrl.SetLogger(zap.New())
	if err := run(ctrl.SetupSignalHandler(), s); err != nil {
		fmt.Fprintf(os.Stderr, "ackplayer: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	c, err := client.New(config, client.Options{})
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	if err := ackplayer.InstallCRDs(ctx, c); err != nil {
		return err
	}
	s.player.Config, s.player.Log = config, ctrl.Log
	player, err := ackplayer.New(s.player)
	if err != nil {
		return err
	}
	if err := publish(ctx, c, s.ca, player.CA()); err != nil {
		return err
	}
	return serve(ctx, s.control, player)
}

// publish writes the authority's certificate where others can mount it.
func publish(ctx context.Context, c client.Client, where string, ca []byte) error {
	if where == "" {
		return nil
	}
	namespace, name, ok := strings.Cut(where, "/")
	if !ok {
		return fmt.Errorf("--ca-configmap is %q, not NAMESPACE/NAME", where)
	}
	configMap := corev1.ConfigMap(name, namespace).WithData(map[string]string{"ca.crt": string(ca)})
	if err := c.Apply(ctx, configMap, client.FieldOwner("ackplayer"), client.ForceOwnership); err != nil {
		return fmt.Errorf("writing ConfigMap %s: %w", where, err)
	}
	return nil
}

// serve plays, and takes orders, until ctx ends.
func serve(ctx context.Context, address string, player *ackplayer.Player) error {
	listener, err := net.Listen("tcp", cmp.Or(address, "127.0.0.1:0"))
	if err != nil {
		return fmt.Errorf("listening for orders: %w", err)
	}
	ctrl.Log.Info("Playing ACK", "control", "http://"+listener.Addr().String())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	server := &http.Server{Handler: player.Handler()}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("taking orders: %w", err))
		}
	}()
	err = player.Start(ctx)
	_ = server.Close()
	<-served
	return err
}
