// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command ackplayer simulates ACK and ElastiCache in a cluster. It runs on the host with
// a kubeconfig, or in a pod; the Redis servers run beside it.
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

// settings are the command-line flags.
type settings struct {
	player ackplayer.Options
	// control is the address that the player's Handler listens on.
	control string
	// ca is the ConfigMap to write the CA certificate to, NAMESPACE/NAME.
	ca string
}

func main() {
	var s settings
	o := &s.player
	flag.StringVar(&o.ListenHost, "listen", os.Getenv("POD_IP"), "IP address that the Redis servers listen on (default 127.0.0.1)")
	flag.StringVar(&o.AdvertiseHost, "advertise", "", "host name or IP address of the endpoints in statuses (default that of --listen)")
	flag.StringVar(&o.RedisServer, "redis-server", "redis-server", "redis-server executable")
	flag.DurationVar(&o.Poll, "poll", 0, "interval at which objects that are not synced are reconciled (default 1s)")
	flag.DurationVar(&o.Resync, "resync", 0, "interval at which synced objects are reconciled (default 10h)")
	flag.DurationVar(&o.CreateTime, "create-time", 0, "time that AWS takes to create a group (default a third of --poll)")
	flag.DurationVar(&o.ModifyTime, "modify-time", 0, "time that AWS takes to modify a group (default a third of --poll)")
	flag.BoolVar(&o.CutOnFailover, "cut-on-failover", false, "close client connections on a failover")
	flag.BoolVar(&o.RejectEmptyModify, "reject-empty-modify", false, "fail Modify calls that change nothing")
	flag.StringVar(&s.control, "control", "127.0.0.1:0", "address of the HTTP control endpoint")
	flag.StringVar(&s.ca, "ca-configmap", "", "ConfigMap NAMESPACE/NAME to write the CA certificate to, under the key ca.crt")
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
		return fmt.Errorf("loading the kubeconfig: %w", err)
	}
	c, err := client.New(config, client.Options{})
	if err != nil {
		return fmt.Errorf("creating a client: %w", err)
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

// publish writes the CA certificate to a ConfigMap.
func publish(ctx context.Context, c client.Client, target string, ca []byte) error {
	if target == "" {
		return nil
	}
	namespace, name, ok := strings.Cut(target, "/")
	if !ok {
		return fmt.Errorf("--ca-configmap is %q, not NAMESPACE/NAME", target)
	}
	configMap := corev1.ConfigMap(name, namespace).WithData(map[string]string{"ca.crt": string(ca)})
	if err := c.Apply(ctx, configMap, client.FieldOwner("ackplayer"), client.ForceOwnership); err != nil {
		return fmt.Errorf("writing ConfigMap %s: %w", target, err)
	}
	return nil
}

// serve runs the player and its control endpoint until ctx ends.
func serve(ctx context.Context, address string, player *ackplayer.Player) error {
	listener, err := net.Listen("tcp", cmp.Or(address, "127.0.0.1:0"))
	if err != nil {
		return fmt.Errorf("listening for control requests: %w", err)
	}
	ctrl.Log.Info("Simulating ACK", "control", "http://"+listener.Addr().String())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	server := &http.Server{Handler: player.Handler()}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			cancel(fmt.Errorf("serving control requests: %w", err))
		}
	}()
	err = player.Start(ctx)
	_ = server.Close()
	<-served
	return err
}
