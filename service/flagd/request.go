// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// singleRequest is a request to evaluate one flag.
type singleRequest struct {
	key string
	// body is the body of an OFREP request with the same context.
	body []byte
}

// bulkRequest is a request to evaluate all flags.
type bulkRequest struct{ body []byte }

// Fields of the requests and of google.protobuf.Struct, ListValue and Value.
const (
	singleKeyField     = 1
	singleContextField = 2
	bulkContextField   = 1

	structFieldsField = 1
	entryKeyField     = 1
	entryValueField   = 2
	listValuesField   = 1
	nullField         = 1
	numberField       = 2
	stringField       = 3
	boolField         = 4
	structField       = 5
	listField         = 6
)

// maxNesting is the maximum nesting of a context in protobuf. It is more than that of
// flags.Context.Read, which has the exact limit, and bounds the recursion.
const maxNesting = 128

var (
	errWire       = errors.New("the message is not valid protobuf")
	errNested     = errors.New("the context is nested too deeply")
	errAmbiguous  = errors.New("a part of the message occurs more than once")
	errNotANumber = errors.New("the context has a number that is not finite")
)

// unmarshalProto implements received.
func (r *singleRequest) unmarshalProto(wire []byte) error {
	key, seen := "", false
	body, err := readRequest(wire, singleContextField, func(field protowire.Number, value []byte) error {
		if field != singleKeyField {
			return nil
		}
		if seen {
			return errAmbiguous
		}
		key, seen = string(value), true
		return nil
	})
	r.key, r.body = key, body
	return err
}

// unmarshalProto implements received.
func (r *bulkRequest) unmarshalProto(wire []byte) (err error) {
	r.body, err = readRequest(wire, bulkContextField, func(protowire.Number, []byte) error { return nil })
	return err
}

// unmarshalJSON implements received: apart from the key, the request is that of OFREP.
func (r *singleRequest) unmarshalJSON(text []byte) error {
	var named struct {
		Key string `json:"flagKey"`
	}
	if err := json.Unmarshal(text, &named); err != nil {
		return errors.New("the message is not a JSON object with the flagKey as a string")
	}
	r.key, r.body = named.Key, bytes.Clone(text)
	return nil
}

// unmarshalJSON implements received.
func (r *bulkRequest) unmarshalJSON(text []byte) error {
	r.body = bytes.Clone(text)
	return nil
}

// selectRequest is a request for definitions.
type selectRequest struct{ selector string }

const selectorField = 2

// unmarshalProto implements received.
func (r *selectRequest) unmarshalProto(wire []byte) error {
	return eachField(wire, func(field protowire.Number, kind protowire.Type, text []byte, _ uint64) error {
		if field == selectorField && kind == protowire.BytesType {
			r.selector = string(text)
		}
		return nil
	})
}

// unmarshalJSON implements received.
func (r *selectRequest) unmarshalJSON(text []byte) error {
	var named struct {
		Selector string `json:"selector"`
	}
	if json.Unmarshal(text, &named) != nil {
		return errors.New("the message is not a JSON object with the selector as a string")
	}
	r.selector = named.Selector
	return nil
}

// emptyRequest is a request without fields.
type emptyRequest struct{}

// unmarshalProto implements received.
func (*emptyRequest) unmarshalProto([]byte) error { return nil }

// unmarshalJSON implements received.
func (*emptyRequest) unmarshalJSON([]byte) error { return nil }

// readRequest returns the context of a request as the body of an OFREP request, and calls
// other with the other fields that are strings or messages.
func readRequest(wire []byte, contextField protowire.Number, other func(protowire.Number, []byte) error) ([]byte, error) {
	var body []byte
	err := eachField(wire, func(field protowire.Number, kind protowire.Type, value []byte, _ uint64) error {
		switch {
		case kind != protowire.BytesType:
			return nil
		case field != contextField:
			return other(field, value)
		case body != nil:
			return errAmbiguous
		}
		var err error
		body = make([]byte, 0, len(`{"context":}`)+2*len(value))
		if body, err = appendStruct(append(body, `{"context":`...), value, 1); err == nil {
			body = append(body, '}')
		}
		return err
	})
	return body, err
}

// eachField calls use with the fields of a message: bytes for strings and messages, else
// the number. Groups are skipped.
func eachField(wire []byte, use func(field protowire.Number, kind protowire.Type, bytes []byte, number uint64) error) error {
	for len(wire) > 0 {
		field, kind, n := protowire.ConsumeTag(wire)
		if n < 0 {
			return errWire
		}
		wire = wire[n:]
		var bytes []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(wire)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(wire)
		case protowire.Fixed64Type:
			number, n = protowire.ConsumeFixed64(wire)
		default:
			n = protowire.ConsumeFieldValue(field, kind, wire)
		}
		if n < 0 {
			return errWire
		}
		wire = wire[n:]
		if err := use(field, kind, bytes, number); err != nil {
			return err
		}
	}
	return nil
}

// appendStruct appends a google.protobuf.Struct as a JSON object. Names that occur twice
// are left to the reader of the JSON, which rejects them.
func appendStruct(to, wire []byte, depth int) ([]byte, error) {
	if depth > maxNesting {
		return nil, errNested
	}
	to = append(to, '{')
	start := len(to)
	err := eachField(wire, func(field protowire.Number, kind protowire.Type, entry []byte, _ uint64) (err error) {
		if field != structFieldsField || kind != protowire.BytesType {
			return nil
		}
		if len(to) > start {
			to = append(to, ',')
		}
		to, err = appendEntry(to, entry, depth)
		return err
	})
	return append(to, '}'), err
}

// appendEntry appends an entry of a Struct as a member of an object.
func appendEntry(to, wire []byte, depth int) ([]byte, error) {
	var key, value []byte
	keys, values := 0, 0
	err := eachField(wire, func(field protowire.Number, kind protowire.Type, bytes []byte, _ uint64) error {
		switch {
		case kind != protowire.BytesType:
		case field == entryKeyField:
			key, keys = bytes, keys+1
		case field == entryValueField:
			value, values = bytes, values+1
		}
		return nil
	})
	switch {
	case err != nil:
		return to, err
	case keys > 1 || values > 1:
		return to, errAmbiguous
	}
	return appendValue(append(appendText(to, key), ':'), value, depth)
}

// appendValue appends a google.protobuf.Value. One without a kind is null.
func appendValue(to, wire []byte, depth int) ([]byte, error) {
	start := len(to)
	err := eachField(wire, func(field protowire.Number, kind protowire.Type, bytes []byte, number uint64) (err error) {
		before := len(to)
		switch {
		case field == nullField && kind == protowire.VarintType:
			to = append(to, "null"...)
		case field == numberField && kind == protowire.Fixed64Type:
			to, err = appendNumber(to, math.Float64frombits(number))
		case field == stringField && kind == protowire.BytesType:
			to = appendText(to, bytes)
		case field == boolField && kind == protowire.VarintType:
			to = strconv.AppendBool(to, number != 0)
		case field == structField && kind == protowire.BytesType:
			to, err = appendStruct(to, bytes, depth+1)
		case field == listField && kind == protowire.BytesType:
			to, err = appendList(to, bytes, depth+1)
		}
		if err == nil && before > start && len(to) > before {
			err = errAmbiguous
		}
		return err
	})
	if len(to) == start {
		to = append(to, "null"...)
	}
	return to, err
}

// appendList appends a google.protobuf.ListValue.
func appendList(to, wire []byte, depth int) ([]byte, error) {
	if depth > maxNesting {
		return nil, errNested
	}
	to = append(to, '[')
	start := len(to)
	err := eachField(wire, func(field protowire.Number, kind protowire.Type, value []byte, _ uint64) (err error) {
		if field != listValuesField || kind != protowire.BytesType {
			return nil
		}
		if len(to) > start {
			to = append(to, ',')
		}
		to, err = appendValue(to, value, depth)
		return err
	})
	return append(to, ']'), err
}

// appendNumber appends a number in the form of package encoding/json.
func appendNumber(to []byte, number float64) ([]byte, error) {
	if math.IsNaN(number) || math.IsInf(number, 0) {
		return to, errNotANumber
	}
	format, size := byte('f'), math.Abs(number)
	if size != 0 && (size < 1e-6 || size >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(to, number, format, -1, 64), nil
}

// appendText appends a string. Whether it is UTF-8 is left to the reader of the JSON.
func appendText(to, text []byte) []byte {
	const digits = "0123456789abcdef"
	to = append(to, '"')
	for _, b := range text {
		switch {
		case b == '"' || b == '\\':
			to = append(to, '\\', b)
		case b < ' ':
			to = append(to, '\\', 'u', '0', '0', digits[b>>4], digits[b&15])
		default:
			to = append(to, b)
		}
	}
	return append(to, '"')
}
