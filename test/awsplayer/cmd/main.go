// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command awsplayer plays AWS for ACK's elasticache-controller, on the host or in a pod:
// see package awsplayer. The Redis servers run beside it.
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
	"time"

	corev1 "k8s.io/client-go/applyconfigurations/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/flagcache/flagcache/test/awsplayer"
)

// settings are the command-line flags.
type settings struct {
	player awsplayer.Options
	// control is the address of the player's Control.
	control string
	// configMap is the ConfigMap to write the CA certificate to, NAMESPACE/NAME, and file
	// the file.
	configMap, file string
}

func main() {
	var s settings
	o := &s.player
	flag.StringVar(&o.API, "api", "127.0.0.1:8080", "address that the AWS API listens on, by HTTP")
	flag.StringVar(&o.Region, "region", "", "AWS region (default that of the first request)")
	flag.StringVar(&s.control, "control", "127.0.0.1:0", "address of the HTTP control endpoint")
	flag.StringVar(&o.ListenHost, "listen", os.Getenv("POD_IP"), "IP address that the Redis servers listen on (default 127.0.0.1)")
	flag.StringVar(&o.AdvertiseHost, "advertise", "", "host name or IP address of the cache endpoints (default that of --listen)")
	flag.StringVar(&o.RedisServer, "redis-server", "redis-server", "redis-server executable")
	flag.DurationVar(&o.CreateTime, "create-time", 0, "time that AWS takes to create a group (default 300ms)")
	flag.DurationVar(&o.ModifyTime, "modify-time", 0, "time that AWS takes to modify a group (default 300ms)")
	flag.BoolVar(&o.CutOnFailover, "cut-on-failover", false, "close client connections on a failover")
	flag.BoolVar(&o.RejectEmptyModify, "reject-empty-modify", false, "fail calls of ModifyReplicationGroup that change nothing")
	flag.StringVar(&s.configMap, "ca-configmap", "", "ConfigMap NAMESPACE/NAME to write the CA certificate of the Redis servers to, under the key ca.crt")
	flag.StringVar(&s.file, "ca-file", "", "file to write the CA certificate of the Redis servers to")
	flag.Parse()
	ctrl.SetLogger(zap.New())
	if err := run(ctrl.SetupSignalHandler(), s); err != nil {
		fmt.Fprintf(os.Stderr, "awsplayer: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	s.player.Log = ctrl.Log
	player, err := awsplayer.New(s.player)
	if err != nil {
		return err
	}
	if s.file != "" {
		if err := os.WriteFile(s.file, player.CA(), 0o600); err != nil {
			return fmt.Errorf("writing the CA certificate: %w", err)
		}
	}
	if s.configMap != "" {
		if err := publish(ctx, s.configMap, player.CA()); err != nil {
			return err
		}
	}
	return serve(ctx, s.control, player)
}

// publish writes the CA certificate to a ConfigMap.
func publish(ctx context.Context, target string, ca []byte) error {
	namespace, name, ok := strings.Cut(target, "/")
	if !ok {
		return fmt.Errorf("--ca-configmap is %q, not NAMESPACE/NAME", target)
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("loading the kubeconfig: %w", err)
	}
	c, err := client.New(config, client.Options{})
	if err != nil {
		return fmt.Errorf("creating a client: %w", err)
	}
	configMap := corev1.ConfigMap(name, namespace).WithData(map[string]string{"ca.crt": string(ca)})
	if err := c.Apply(ctx, configMap, client.FieldOwner("awsplayer"), client.ForceOwnership); err != nil {
		return fmt.Errorf("writing ConfigMap %s: %w", target, err)
	}
	return nil
}

// serve runs the player and its control endpoint until ctx ends.
func serve(ctx context.Context, address string, player *awsplayer.Player) error {
	listener, err := net.Listen("tcp", cmp.Or(address, "127.0.0.1:0"))
	if err != nil {
		return fmt.Errorf("listening for control requests: %w", err)
	}
	ctrl.Log.Info("Playing AWS", "api", player.Endpoint(), "control", "http://"+listener.Addr().String())
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	server := &http.Server{Handler: player.Control(), ReadHeaderTimeout: 10 * time.Second}
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
