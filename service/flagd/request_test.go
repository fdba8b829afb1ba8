// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	evaluationv2 "buf.build/gen/go/open-feature/flagd/protocolbuffers/go/flagd/evaluation/v2"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/flagcache/flagcache/service/flags"
)

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	wire, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

func TestRequestsAreRead(t *testing.T) {
	attributes := map[string]any{
		"text": "a \"b\" \\ \n\x00 日本 </script>", "": "no name", "true": true, "false": false, "null": nil, "zero": 0, "minus": math.Copysign(0, -1),
		"small": 1e-7, "large": 1e21, "fraction": -12.5, "integer": 9007199254740991,
		"list": []any{1, "a", nil, []any{}, map[string]any{}}, "deep": map[string]any{"a": map[string]any{"b": []any{map[string]any{"c": 1}}}},
	}
	message := &evaluationv2.ResolveBooleanRequest{FlagKey: "a/b ü", Context: structOf(t, attributes)}
	var r singleRequest
	if err := r.unmarshalProto(marshal(t, message)); err != nil {
		t.Fatal(err)
	}
	var got struct{ Context map[string]any }
	if err := json.Unmarshal(r.body, &got); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
	if diff := cmp.Diff(message.GetContext().AsMap(), got.Context); diff != "" || r.key != "a/b ü" {
		t.Errorf("the key is %q, and the context differs: %s", r.key, diff)
	}
	context := flags.NewContext()
	defer context.Release()
	if err := context.Read(string(r.body), parsedAttributes(t)); err != nil {
		t.Errorf("the body is refused: %v", err)
	}
}

func parsedAttributes(t testing.TB) *flags.Attributes {
	t.Helper()
	set, _, err := flags.Parse([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return set.Attributes()
}

// nestedLists returns a request whose context has lists in each other.
func nestedLists(depth int) []byte {
	value := []byte{}
	for range depth {
		list := protowire.AppendBytes(protowire.AppendTag(nil, listValuesField, protowire.BytesType), value)
		value = protowire.AppendBytes(protowire.AppendTag(nil, listField, protowire.BytesType), list)
	}
	entry := protowire.AppendString(protowire.AppendTag(nil, entryKeyField, protowire.BytesType), "k")
	entry = protowire.AppendBytes(protowire.AppendTag(entry, entryValueField, protowire.BytesType), value)
	object := protowire.AppendBytes(protowire.AppendTag(nil, structFieldsField, protowire.BytesType), entry)
	return protowire.AppendBytes(protowire.AppendTag(nil, singleContextField, protowire.BytesType), object)
}

func TestRequestsThatAreRefused(t *testing.T) {
	key := protowire.AppendString(protowire.AppendTag(nil, singleKeyField, protowire.BytesType), "k")
	context := marshal(t, &evaluationv2.ResolveBooleanRequest{Context: structOf(t, map[string]any{"a": 1})})
	value := func(fields ...[]byte) []byte {
		var joined []byte
		for _, field := range fields {
			joined = append(joined, field...)
		}
		entry := appendBytesField(appendTextField(nil, entryKeyField, "k"), entryValueField, joined)
		return appendBytesField(nil, singleContextField, appendBytesField(nil, structFieldsField, entry))
	}
	number := func(n float64) []byte {
		return protowire.AppendFixed64(protowire.AppendTag(nil, numberField, protowire.Fixed64Type), math.Float64bits(n))
	}
	tests := map[string]struct {
		wire []byte
		want error
	}{
		"two keys":                  {append(append([]byte{}, key...), key...), errAmbiguous},
		"two contexts":              {append(append([]byte{}, context...), context...), errAmbiguous},
		"a value of two kinds":      {value(number(1), appendTextField(nil, stringField, "x")), errAmbiguous},
		"two values":                {append(append([]byte{}, value(number(1))...), value(number(1))...), errAmbiguous},
		"not a number":              {value(number(math.NaN())), errNotANumber},
		"an infinite number":        {value(number(math.Inf(-1))), errNotANumber},
		"deep nesting":              {nestedLists(200), errNested},
		"very deep nesting":         {nestedLists(5_000), errNested},
		"a message that is cut off": {context[:len(context)-1], errWire},
		"a tag that is cut off":     {[]byte{0x80}, errWire},
		"the end of no group":       {protowire.AppendTag(nil, 7, protowire.EndGroupType), errWire},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var r singleRequest
			if err := r.unmarshalProto(test.wire); !errors.Is(err, test.want) {
				t.Errorf("the error is %v, not %v", err, test.want)
			}
		})
	}
}

// TestSizeOfBodies reads the requests that become largest in relation to their size.
func TestSizeOfBodies(t *testing.T) {
	const size = 64 << 10
	tests := map[string][]byte{
		"empty values": appendBytesField(nil, singleContextField, appendBytesField(nil, structFieldsField,
			appendBytesField(nil, entryValueField, appendBytesField(nil, listField, []byte(strings.Repeat("\x0a\x00", size/2)))))),
		"control characters": appendBytesField(nil, singleContextField, appendBytesField(nil, structFieldsField,
			appendBytesField(nil, entryKeyField, make([]byte, size)))),
	}
	for name, wire := range tests {
		t.Run(name, func(t *testing.T) {
			var r singleRequest
			if err := r.unmarshalProto(wire); err != nil {
				t.Fatal(err)
			}
			if len(r.body) < len(wire) || cap(r.body) > 10*len(wire) {
				t.Errorf("the %d bytes become %d, in a buffer of %d", len(wire), len(r.body), cap(r.body))
			}
		})
	}
}

// FuzzRequest compares requests that are read with how protobuf reads them.
func FuzzRequest(f *testing.F) {
	message, err := structpb.NewStruct(map[string]any{"a": []any{1, "x", nil, true, map[string]any{"b": 0.5}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(marshal(f, &evaluationv2.ResolveBooleanRequest{FlagKey: "k", Context: message}))
	f.Add(nestedLists(3))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, wire []byte) {
		var r singleRequest
		if r.unmarshalProto(wire) != nil {
			return
		}
		context := flags.NewContext()
		defer context.Release()
		if context.Read(string(r.body), parsedAttributes(t)) != nil {
			return
		}
		var theirs evaluationv2.ResolveBooleanRequest
		if err := proto.Unmarshal(wire, &theirs); err != nil {
			// Unknown fields and keys are not validated; keys that are no UTF-8 are of no flag.
			return
		}
		if theirs.GetFlagKey() != r.key {
			t.Fatalf("the key is %q, not %q", r.key, theirs.GetFlagKey())
		}
		var ours struct{ Context map[string]any }
		if len(r.body) > 0 {
			if err := json.Unmarshal(r.body, &ours); err != nil {
				t.Fatalf("%v in %s", err, r.body)
			}
		}
		if diff := cmp.Diff(theirs.GetContext().AsMap(), nonNil(ours.Context)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func nonNil(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}
