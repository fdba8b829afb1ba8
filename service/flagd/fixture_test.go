// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/evaluation/v1/evaluationv1connect"
	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/evaluation/v2/evaluationv2connect"
	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/sync/v1/syncv1connect"
	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"golang.org/x/time/rate"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/flagcache/flagcache/service/access"
	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/listen"
	"github.com/flagcache/flagcache/service/ofrep"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const timeout = 10 * time.Second

// document has a flag for each case.
const document = `{"metadata":{"owner":"ann"},"$evaluators":{"staff":{"ends_with":[{"var":"email"},"@corp.com"]}},"flags":{
	"bool":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off"},
	"string":{"state":"ENABLED","variants":{"a":"ä\"x","b":""},"defaultVariant":"a","metadata":{"n":1.5,"b":true,"owner":null}},
	"number":{"state":"ENABLED","variants":{"x":-2.75,"y":3},"defaultVariant":"x"},
	"object":{"state":"ENABLED","variants":{"x":{"k":[1,null,{"z":"<"}],"t":true},"y":{}},"defaultVariant":"x"},
	"disabled":{"state":"DISABLED","variants":{"on":true,"off":false},"defaultVariant":"on"},
	"no-default":{"state":"ENABLED","variants":{"on":true,"off":false}},
	"targeted":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off","targeting":{"if":[{"$ref":"staff"},"on",null]}},
	"only-targeted":{"state":"ENABLED","variants":{"on":true},"targeting":{"if":[{"$ref":"staff"},"on",null]}},
	"no-variant":{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on","targeting":{"if":[true,"other"]}},
	"no-operator":{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on","targeting":{"frobnicate":[1]}},
	"in-set":{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on","metadata":{"flagSetId":"shop"}},
	"invalid":{"state":"ENABLED"}
}}`

// service is a running service.
type service struct {
	t          *testing.T
	core       *ofrep.Core
	streams    *ofrep.Streams
	evaluation string
	sync       string
	registry   *prometheus.Registry
	handlers   []*Handler
}

// streamOptions are those of the tests unless they need others.
var streamOptions = ofrep.StreamOptions{Max: 20, Heartbeat: time.Hour, WriteTimeout: timeout}

// start serves the document with options, without streams if these have no maximum.
func start(t *testing.T, text string, options Options, streams ofrep.StreamOptions) *service {
	t.Helper()
	s := &service{t: t, registry: prometheus.NewRegistry()}
	s.core = ofrep.NewCore(ofrep.NewMetrics(s.registry, slog.New(slog.DiscardHandler)), time.Now)
	if streams.Max > 0 {
		s.streams = ofrep.NewStreams(streams, time.Now)
		options.Streams = s.streams
	}
	options.Source = "default"
	if text != "" {
		s.serve(text)
	}
	metrics := NewMetrics(s.registry)
	evaluation, synchronization := NewEvaluation(s.core, options, metrics), NewSync(s.core, options, metrics)
	s.handlers = []*Handler{evaluation, synchronization}
	s.evaluation, s.sync = s.listen(evaluation), s.listen(synchronization)
	return s
}

// listen serves a handler like the program does, and returns its address.
func (s *service) listen(handler *Handler) string {
	s.t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	server, l := NewServer(handler, slog.New(slog.DiscardHandler)), listen.New(inner, 0)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	running.Go(func() { _ = server.Serve(l) })
	s.t.Cleanup(func() {
		if s.streams != nil {
			s.streams.Close()
		}
		_ = server.Close()
		cancel()
		running.Wait()
	})
	return "http://" + inner.Addr().String()
}

// serve replaces the flags and notifies streams.
func (s *service) serve(text string) {
	s.t.Helper()
	set, _, err := flags.Parse([]byte(text))
	if err != nil {
		s.t.Fatal(err)
	}
	s.core.Serve(set)
	if s.streams != nil {
		s.streams.Changed(ofrep.Position{})
	}
}

// h2c returns a client of HTTP/2 without TLS.
func h2c(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// h1 returns a client of HTTP/1.1.
func h1(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// protocol is one of the protocols in which clients send requests.
type protocol struct {
	client  *http.Client
	options []connect.ClientOption
}

// protocols returns all of them.
func protocols(t *testing.T) map[string]protocol {
	t.Helper()
	one, two := h1(t), h2c(t)
	return map[string]protocol{
		"Connect":              {one, nil},
		"Connect, JSON":        {one, []connect.ClientOption{connect.WithProtoJSON()}},
		"Connect over HTTP/2":  {two, nil},
		"gRPC":                 {two, []connect.ClientOption{connect.WithGRPC()}},
		"gRPC, JSON":           {two, []connect.ClientOption{connect.WithGRPC(), connect.WithProtoJSON()}},
		"gRPC-Web":             {one, []connect.ClientOption{connect.WithGRPCWeb()}},
		"gRPC-Web over HTTP/2": {two, []connect.ClientOption{connect.WithGRPCWeb()}},
	}
}

func (s *service) v1(p protocol) evaluationv1connect.ServiceClient {
	return evaluationv1connect.NewServiceClient(p.client, s.evaluation, p.options...)
}

func (s *service) v2(p protocol) evaluationv2connect.ServiceClient {
	return evaluationv2connect.NewServiceClient(p.client, s.evaluation, p.options...)
}

func (s *service) syncClient(p protocol) syncv1connect.FlagSyncServiceClient {
	return syncv1connect.NewFlagSyncServiceClient(p.client, s.sync, p.options...)
}

// grpc is the protocol of most providers.
func grpc(t *testing.T) protocol {
	return protocol{h2c(t), []connect.ClientOption{connect.WithGRPC()}}
}

// structOf returns attributes as a message.
func structOf(t *testing.T, attributes map[string]any) *structpb.Struct {
	t.Helper()
	message, err := structpb.NewStruct(attributes)
	if err != nil {
		t.Fatal(err)
	}
	return message
}

// codeOf returns the code of an error, empty for none.
func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return connect.CodeOf(err).String()
}

// tokens returns keys with one token in a directory.
func tokens(t *testing.T, limit func() *rate.Limiter) (keys *access.Keys, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app"), []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	return access.NewKeys(dir, limit, slog.New(slog.DiscardHandler)), dir
}

const token = "app-token-0123456789"

func noLimit() *rate.Limiter { return nil }
