// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/ofrep"
)

// Versions of flagd.evaluation. Version 1 cannot express that there is no value: it sends
// the zero of the type for a disabled flag, and FLAG_NOT_FOUND for one without a default
// variant.
const (
	version1 = "flagd.evaluation.v1"
	version2 = "flagd.evaluation.v2"
)

// singleMethods are the methods that evaluate a flag as a type.
var singleMethods = map[string]kind{
	"ResolveBoolean": kindBool, "ResolveString": kindString, "ResolveFloat": kindFloat, "ResolveInt": kindInt, "ResolveObject": kindObject,
}

// Messages of errors.
var (
	errGeneral    = errors.New("the evaluation failed")
	errNoVariant  = errors.New("the flag has no default variant")
	errManyActive = errors.New("too many concurrent requests")
	errUnread     = errors.New("too many responses have not been received by their clients")
)

// resolve evaluates one flag as a type.
func (h *Handler) resolve(request *connect.Request[singleRequest], as kind, v1 bool) (*singleResponse, error) {
	selected, err := readSelector(request.Header(), "", h.options.Source)
	if err != nil {
		return nil, err
	}
	set, outcome, err := h.core.Evaluate(request.Msg.key, request.Msg.body)
	if err != nil {
		return nil, evaluationError(err)
	}
	flag, known := set.Flag(outcome.Key)
	if !known || !selected.selects(flag.FlagSet) {
		return nil, evaluationError(ofrep.ErrNotFound)
	}
	a := h.answer(set, outcome, as, v1)
	switch found := kindOf(outcome.Value); {
	case outcome.ErrorCode != "":
		return nil, outcomeError(outcome)
	case found == kindNone && outcome.Reason == flags.ReasonDefault && v1:
		return nil, connect.NewError(connect.CodeNotFound, errNoVariant)
	case found != kindNone && !as.accepts(found):
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("the type does not match: the flag is %s", kindNames[found]))
	}
	return &singleResponse{a}, nil
}

// answer returns the answer for an outcome.
func (h *Handler) answer(set *flags.Set, outcome *flags.Outcome, as kind, v1 bool) answer {
	encoded := h.recent.of(set)
	a := answer{Outcome: outcome, kind: as, v1: v1, metadata: encoded.structOf(outcome.Metadata)}
	if kindOf(outcome.Value) == kindObject {
		a.object = encoded.structOf(outcome.Value)
	}
	return a
}

// resolveAll evaluates all flags. As in flagd, version 1 leaves out flags without a
// default variant, because it takes their type from that.
func (h *Handler) resolveAll(request *connect.Request[bulkRequest], v1 bool) (*bulkResponse, error) {
	selected, err := readSelector(request.Header(), "", h.options.Source)
	if err != nil {
		return nil, err
	}
	set, outcomes, err := h.core.EvaluateAll(request.Msg.body)
	if err != nil {
		return nil, evaluationError(err)
	}
	response := &bulkResponse{answers: make([]answer, 0, len(outcomes)), text: set.Metadata(), metadata: h.recent.of(set).structOf(set.Metadata())}
	for _, outcome := range outcomes {
		flag, known := set.Flag(outcome.Key)
		as := kindOf(outcome.Value)
		if v1 && known {
			as = kindOf(flag.Default)
		}
		if !known || !selected.selects(flag.FlagSet) || v1 && as == kindNone {
			continue
		}
		response.answers = append(response.answers, h.answer(set, outcome, as, v1))
	}
	return response, nil
}

// evaluationError returns the error for an evaluation without an outcome.
func evaluationError(err error) error {
	switch {
	case errors.Is(err, ofrep.ErrNoFlags):
		return connect.NewError(connect.CodeUnavailable, err)
	case errors.Is(err, ofrep.ErrNotFound):
		return connect.NewError(connect.CodeNotFound, err)
	case errors.Is(err, ofrep.ErrRejected):
		return connect.NewError(connect.CodeDataLoss, err)
	default:
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
}

// outcomeError returns the error for a failed evaluation, with flagd's codes.
func outcomeError(outcome *flags.Outcome) error {
	code := connect.CodeUnknown
	if outcome.ErrorCode == flags.CodeParse {
		code = connect.CodeDataLoss
	}
	details := errGeneral
	if outcome.ErrorDetails != "" {
		details = errors.New(outcome.ErrorDetails)
	}
	return connect.NewError(code, details)
}

// unary returns the handler of a request with one response. The response is prepared
// while the request counts as one in flight, and its bytes are reserved until it has been
// written.
func unary[Request, Response any, P interface {
	*Response
	sent
}](h *Handler, procedure string, prepare func(*connect.Request[Request]) (P, error)) *connect.Handler {
	return connect.NewUnaryHandler(procedure, func(ctx context.Context, request *connect.Request[Request]) (*connect.Response[Response], error) {
		c := callOf(ctx)
		response, err := h.prepare(c, func() (sent, error) { return prepare(request) })
		if c.code = codeName(err); err != nil {
			return nil, err
		}
		return connect.NewResponse((*Response)(response.(P))), nil
	}, h.connectOptions...)
}

// prepare prepares a response within the limits.
func (h *Handler) prepare(c *call, make func() (sent, error)) (sent, error) {
	if !h.inFlight.enter(h.options.MaxInFlight) {
		return nil, connect.NewError(connect.CodeResourceExhausted, errManyActive)
	}
	defer h.inFlight.leave()
	response, err := make()
	if err != nil {
		return nil, err
	}
	if !c.reserve(h.responses, response.size()) {
		return nil, connect.NewError(connect.CodeUnavailable, errUnread)
	}
	return response, nil
}

// evaluationHandlers returns the handlers of a version of flagd.evaluation.
func (h *Handler) evaluationHandlers(version string) map[string]*connect.Handler {
	v1, prefix := version == version1, "/"+version+".Service/"
	handlers := map[string]*connect.Handler{}
	for method, as := range singleMethods {
		handlers[prefix+method] = unary(h, prefix+method, func(r *connect.Request[singleRequest]) (*singleResponse, error) { return h.resolve(r, as, v1) })
	}
	all := prefix + "ResolveAll"
	handlers[all] = unary(h, all, func(r *connect.Request[bulkRequest]) (*bulkResponse, error) { return h.resolveAll(r, v1) })
	return handlers
}
