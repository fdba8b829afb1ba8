// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"time"

	"github.com/go-logr/logr"

	"github.com/flagcache/flagcache/test/awsplayer/fleet"
)

// Options configure a Player.
type Options struct {
	// Log is the logger. Default: none.
	Log logr.Logger
	// API is the address that the API listens on, HOST:PORT. Default: a free port of
	// 127.0.0.1.
	API string
	// Region is the only region; requests signed for another one are refused. Default: that
	// of the first request to ElastiCache.
	Region string
	// CreateTime, ModifyTime, DeleteTime and SnapshotTime are how long the operations
	// of AWS take. Default: 300 ms.
	CreateTime, ModifyTime, DeleteTime, SnapshotTime time.Duration
	// Hold keeps operations on replication groups in progress until Complete.
	Hold bool
	// ListenHost is the IP address that the Redis servers and endpoints listen on, on
	// ports that the kernel assigns. Default: 127.0.0.1.
	ListenHost string
	// AdvertiseHost is the host of the cache endpoints: a name or an IP address that
	// resolves to ListenHost. Default: ListenHost.
	AdvertiseHost string
	// RedisServer is the redis-server executable. Default: the one in PATH.
	RedisServer string
	// SubnetGroups are subnet groups that exist from the start. Default: "default".
	SubnetGroups []string
	// CutOnFailover closes client connections on a failover. Otherwise those to the
	// demoted primary stay open and fail writes with READONLY.
	CutOnFailover bool
	// RejectEmptyModify fails calls of ModifyReplicationGroup that change nothing.
	RejectEmptyModify bool
}

// Player plays an AWS account with one region. Its state is in memory and ends with it.
type Player struct {
	options  Options
	account  *account
	listener net.Listener
}

// New creates a player, which serves nothing before Start, but already has its endpoint.
func New(o Options) (*Player, error) {
	for _, d := range []*time.Duration{&o.CreateTime, &o.ModifyTime, &o.DeleteTime, &o.SnapshotTime} {
		*d = cmp.Or(*d, 300*time.Millisecond)
	}
	o.ListenHost = cmp.Or(o.ListenHost, "127.0.0.1")
	o.AdvertiseHost = cmp.Or(o.AdvertiseHost, o.ListenHost)
	if o.SubnetGroups == nil {
		o.SubnetGroups = []string{"default"}
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	var err error
	if o.RedisServer, err = exec.LookPath(cmp.Or(o.RedisServer, "redis-server")); err != nil {
		return nil, fmt.Errorf("finding redis-server, which hack/setup/redis.sh installs: %w", err)
	}
	authority, err := fleet.NewAuthority(o.ListenHost, o.AdvertiseHost)
	if err != nil {
		return nil, err
	}
	p := &Player{options: o, account: newAccount(o, authority)}
	if p.listener, err = net.Listen("tcp", cmp.Or(o.API, "127.0.0.1:0")); err != nil {
		return nil, fmt.Errorf("listening for API requests: %w", err)
	}
	return p, nil
}

// Endpoint is the URL of the API.
func (p *Player) Endpoint() string { return "http://" + p.listener.Addr().String() }

// CA is the PEM certificate of the authority that signed the certificate of the Redis
// servers.
func (p *Player) CA() []byte { return p.account.authority.Certificate }

// Start serves the API until ctx ends and returns when everything is stopped. A player
// can be started once.
func (p *Player) Start(ctx context.Context) error {
	if err := p.account.open(); err != nil {
		return errors.Join(err, p.listener.Close())
	}
	defer p.account.close()
	server := &http.Server{Handler: &api{account: p.account}, ReadHeaderTimeout: requestLimit, ReadTimeout: requestLimit}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the API: %w", err)
	}
	return nil
}
