// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/evaluation/v1/evaluationv1connect"
	"buf.build/gen/go/open-feature/flagd/connectrpc/go/flagd/evaluation/v2/evaluationv2connect"
	evaluationv1 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v1"
	evaluationv2 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v2"
	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"github.com/open-feature/flagd/core/pkg/evaluator"
	"github.com/open-feature/flagd/core/pkg/model"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/structpb"

	flagdprotocols "github.com/flagcache/flagcache/service/flagd"
	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/ofrep"
)

// reply is the response of a method, or the code of its error.
type reply struct {
	Code, Reason, Variant string
	// Value is absent if the message has none; in version 1 that is the zero.
	Value, Metadata any
}

func (r reply) String() string {
	return fmt.Sprintf("%s %s %q %v %v", r.Code, r.Reason, r.Variant, normalized(r.Value), normalized(r.Metadata))
}

// codes are flagd's codes for the errors of its evaluator.
var codes = map[string]connect.Code{
	model.FlagNotFoundErrorCode: connect.CodeNotFound, model.FlagDisabledErrorCode: connect.CodeNotFound,
	model.TypeMismatchErrorCode: connect.CodeInvalidArgument, model.ParseErrorCode: connect.CodeDataLoss, model.GeneralErrorCode: connect.CodeUnknown,
}

// replyOf returns what flagd's handlers reply for a result of its evaluator.
func replyOf(v1 bool, value any, variant, reason string, metadata map[string]any, err error) reply {
	switch {
	case err != nil:
		return reply{Code: codes[err.Error()].String()}
	case !v1 && reason == model.FallbackReason:
		return reply{Reason: model.DefaultReason, Metadata: metadata}
	case !v1 && reason == model.DisabledReason:
		return reply{Reason: reason, Metadata: metadata}
	default:
		return reply{Reason: reason, Variant: variant, Value: value, Metadata: metadata}
	}
}

// methods are the types as which a flag is evaluated.
var methods = []string{"Boolean", "String", "Float", "Int", "Object"}

// resolve evaluates a flag with flagd.
func (f theirs) resolve(v1 bool, method, key string, attributes map[string]any) reply {
	ctx := context.Background()
	if v1 {
		var version any = evaluator.ProtoVersionKey
		ctx = context.WithValue(ctx, version, "v1")
	}
	switch method {
	case "Boolean":
		value, variant, reason, metadata, err := f.json.ResolveBooleanValue(ctx, "request", key, attributes)
		return replyOf(v1, value, variant, reason, metadata, err)
	case "String":
		value, variant, reason, metadata, err := f.json.ResolveStringValue(ctx, "request", key, attributes)
		return replyOf(v1, value, variant, reason, metadata, err)
	case "Float":
		value, variant, reason, metadata, err := f.json.ResolveFloatValue(ctx, "request", key, attributes)
		return replyOf(v1, value, variant, reason, metadata, err)
	case "Int":
		value, variant, reason, metadata, err := f.json.ResolveIntValue(ctx, "request", key, attributes)
		return replyOf(v1, value, variant, reason, metadata, err)
	default:
		value, variant, reason, metadata, err := f.json.ResolveObjectValue(ctx, "request", key, attributes)
		return replyOf(v1, value, variant, reason, metadata, err)
	}
}

// clients are clients of the flag service with a document.
type clients struct {
	v1 evaluationv1connect.ServiceClient
	v2 evaluationv2connect.ServiceClient
}

func newClients(t *testing.T, document string) clients {
	t.Helper()
	registry := prometheus.NewRegistry()
	core := ofrep.NewCore(ofrep.NewMetrics(registry, slog.New(slog.DiscardHandler)), time.Now)
	set, _, err := flags.Parse([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	core.Serve(set)
	server := httptest.NewServer(flagdprotocols.NewEvaluation(core, flagdprotocols.Options{}, flagdprotocols.NewMetrics(registry)))
	t.Cleanup(server.Close)
	return clients{
		evaluationv1connect.NewServiceClient(http.DefaultClient, server.URL),
		evaluationv2connect.NewServiceClient(http.DefaultClient, server.URL),
	}
}

// call calls a method and returns its response, an empty one with an error.
func call[Request, Response any](
	method func(context.Context, *connect.Request[Request]) (*connect.Response[Response], error), request *Request,
) (*Response, error) {
	response, err := method(context.Background(), connect.NewRequest(request))
	if err != nil {
		return new(Response), err
	}
	return response.Msg, nil
}

// received returns the reply of a response.
func received(response interface {
	GetReason() string
	GetVariant() string
	GetMetadata() *structpb.Struct
}, value any, err error,
) reply {
	if err != nil {
		return reply{Code: connect.CodeOf(err).String()}
	}
	return reply{Reason: response.GetReason(), Variant: response.GetVariant(), Value: value, Metadata: response.GetMetadata().AsMap()}
}

// optional returns a value of version 2, nil if the message has none.
func optional[T any](value *T) any {
	if value == nil {
		return nil
	}
	return *value
}

// resolveV1 evaluates a flag with version 1 of the flag service.
func (c clients) resolveV1(method, key string, attributes *structpb.Struct) reply {
	switch method {
	case "Boolean":
		m, err := call(c.v1.ResolveBoolean, &evaluationv1.ResolveBooleanRequest{FlagKey: key, Context: attributes})
		return received(m, m.GetValue(), err)
	case "String":
		m, err := call(c.v1.ResolveString, &evaluationv1.ResolveStringRequest{FlagKey: key, Context: attributes})
		return received(m, m.GetValue(), err)
	case "Float":
		m, err := call(c.v1.ResolveFloat, &evaluationv1.ResolveFloatRequest{FlagKey: key, Context: attributes})
		return received(m, m.GetValue(), err)
	case "Int":
		m, err := call(c.v1.ResolveInt, &evaluationv1.ResolveIntRequest{FlagKey: key, Context: attributes})
		return received(m, m.GetValue(), err)
	default:
		m, err := call(c.v1.ResolveObject, &evaluationv1.ResolveObjectRequest{FlagKey: key, Context: attributes})
		return received(m, m.GetValue().AsMap(), err)
	}
}

// resolveV2 evaluates a flag with version 2 of the flag service.
func (c clients) resolveV2(method, key string, attributes *structpb.Struct) reply {
	switch method {
	case "Boolean":
		m, err := call(c.v2.ResolveBoolean, &evaluationv2.ResolveBooleanRequest{FlagKey: key, Context: attributes})
		return received(m, optional(m.Value), err)
	case "String":
		m, err := call(c.v2.ResolveString, &evaluationv2.ResolveStringRequest{FlagKey: key, Context: attributes})
		return received(m, optional(m.Value), err)
	case "Float":
		m, err := call(c.v2.ResolveFloat, &evaluationv2.ResolveFloatRequest{FlagKey: key, Context: attributes})
		return received(m, optional(m.Value), err)
	case "Int":
		m, err := call(c.v2.ResolveInt, &evaluationv2.ResolveIntRequest{FlagKey: key, Context: attributes})
		return received(m, optional(m.Value), err)
	default:
		m, err := call(c.v2.ResolveObject, &evaluationv2.ResolveObjectRequest{FlagKey: key, Context: attributes})
		return received(m, m.GetValue().AsMap(), err)
	}
}

// TestProtocolsAgreeWithFlagd compares the replies to random requests, from fixed seeds.
func TestProtocolsAgreeWithFlagd(t *testing.T) {
	const documents, flagsOfEach, contexts = 8, 20, 3
	compared, failed, reported := 0, 0, 0
	for seed := range documents {
		g := generator{random: rand.New(rand.NewPCG(uint64(seed), 8013))}
		document := g.document(flagsOfEach)
		theirs, ours := newTheirs(t, document), newClients(t, document)
		for range contexts {
			text := g.context()
			attributes := attributesOf(t, text)
			sent, err := structpb.NewStruct(attributes)
			if err != nil {
				t.Fatal(err)
			}
			for i := range flagsOfEach + 1 {
				key := fmt.Sprintf("flag-%d", i)
				for _, method := range methods {
					for version, got := range map[bool]reply{true: ours.resolveV1(method, key, sent), false: ours.resolveV2(method, key, sent)} {
						want := theirs.resolve(version, method, key, attributes)
						compared++
						if got.Code != "" {
							failed++
						}
						if got.String() != want.String() && reported < 10 {
							reported++
							t.Errorf("seed %d, version 1 %t, %s as %s with %s\nours   %s\ntheirs %s\n%s", seed, version, key, method, text, got, want, flagText(document, key))
						}
					}
				}
			}
			compareAll(t, theirs, ours, attributes, sent)
		}
	}
	t.Logf("%d replies agree, %d of them errors", compared, failed)
	if failed == compared || failed == 0 {
		t.Error("the replies are too uniform")
	}
}

// compareAll compares the replies to a request for all flags.
func compareAll(t *testing.T, theirs theirs, ours clients, attributes map[string]any, sent *structpb.Struct) {
	t.Helper()
	var version any = evaluator.ProtoVersionKey
	values, _, err := theirs.json.ResolveAllValues(context.WithValue(context.Background(), version, "v1"), "request", attributes)
	if err != nil {
		t.Fatal(err)
	}
	all, err := call(ours.v1.ResolveAll, &evaluationv1.ResolveAllRequest{Context: sent})
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string]string{}, map[string]string{}
	for _, v := range values {
		if v.Error != nil {
			v.Reason, v.Variant = model.ErrorReason, ""
		}
		want[v.FlagKey] = reply{Reason: v.Reason, Variant: v.Variant, Value: v.Value, Metadata: v.Metadata}.String()
	}
	for key, flag := range all.GetFlags() {
		var value any
		switch v := flag.GetValue().(type) {
		case *evaluationv1.AnyFlag_BoolValue:
			value = v.BoolValue
		case *evaluationv1.AnyFlag_StringValue:
			value = v.StringValue
		case *evaluationv1.AnyFlag_DoubleValue:
			value = v.DoubleValue
		case *evaluationv1.AnyFlag_ObjectValue:
			value = v.ObjectValue.AsMap()
		}
		got[key] = reply{Reason: flag.GetReason(), Variant: flag.GetVariant(), Value: value, Metadata: flag.GetMetadata().AsMap()}.String()
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the replies for all flags differ: %s", diff)
	}
}
