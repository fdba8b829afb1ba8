// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flagd

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/flagcache/flagcache/service/flags"
)

// kind is the type of a value in flagd's protocols.
type kind int

const (
	kindNone kind = iota
	kindBool
	kindString
	kindFloat
	kindInt
	kindObject
)

// kindNames are for messages.
var kindNames = [...]string{"nothing", "a boolean", "a string", "a number", "a number", "an object"}

// kindOf returns the kind of a value in JSON: numbers are kindFloat.
func kindOf(value json.RawMessage) kind {
	if len(value) == 0 {
		return kindNone
	}
	switch value[0] {
	case 't', 'f':
		return kindBool
	case '"':
		return kindString
	case '{':
		return kindObject
	default:
		return kindFloat
	}
}

// accepts reports whether a value of another kind can be sent as this one.
func (k kind) accepts(value kind) bool {
	return k == value || k == kindInt && value == kindFloat
}

// zeros are the values in JSON that stand for none in version 1.
var zeros = [...]string{kindNone: "null", kindBool: "false", kindString: `""`, kindFloat: "0", kindInt: `"0"`, kindObject: "null"}

// Fields of the responses: the value is the first field of a single response, and one of
// several in a bulk response.
const (
	valueField    protowire.Number = 1
	reasonField   protowire.Number = 2
	variantField  protowire.Number = 3
	metadataField protowire.Number = 4

	flagsField        protowire.Number = 1
	bulkMetadataField protowire.Number = 2

	anyReasonField   protowire.Number = 1
	anyVariantField  protowire.Number = 2
	anyMetadataField protowire.Number = 7
)

// anyValueFields are the fields of the value of a flag in a bulk response, anyValueNames
// their names in JSON.
var (
	anyValueFields = [...]protowire.Number{kindBool: 3, kindString: 4, kindFloat: 5, kindObject: 6}
	anyValueNames  = [...]string{kindBool: "boolValue", kindString: "stringValue", kindFloat: "doubleValue", kindObject: "objectValue"}
)

// answer is the outcome of a flag for a response. The kind is that of the value, or in
// version 1 of the zero that stands for none.
type answer struct {
	*flags.Outcome
	kind kind
	v1   bool
	// object and metadata are google.protobuf.Structs.
	object, metadata []byte
}

// size is an upper bound of the size of the answer in either form.
func (a *answer) size() int64 {
	const overhead = 128
	return int64(overhead + 2*len(a.Key) + len(a.Variant) + max(len(a.Value), len(a.object)) + max(len(a.Metadata), len(a.metadata)))
}

// appendValue appends the value as a field, nothing if there is none.
func (a *answer) appendValue(to []byte, field protowire.Number) []byte {
	if a.Value == nil {
		return to
	}
	switch a.kind {
	case kindBool:
		to = protowire.AppendTag(to, field, protowire.VarintType)
		return protowire.AppendVarint(to, protowire.EncodeBool(a.Value[0] == 't'))
	case kindString:
		to = protowire.AppendTag(to, field, protowire.BytesType)
		return protowire.AppendString(to, textOf(a.Value))
	case kindFloat:
		to = protowire.AppendTag(to, field, protowire.Fixed64Type)
		return protowire.AppendFixed64(to, math.Float64bits(numberOf(a.Value)))
	case kindInt:
		to = protowire.AppendTag(to, field, protowire.VarintType)
		return protowire.AppendVarint(to, uint64(int64(numberOf(a.Value))))
	case kindObject:
		to = protowire.AppendTag(to, field, protowire.BytesType)
		return protowire.AppendBytes(to, a.object)
	default:
		return to
	}
}

// textOf returns the value of a validated string in JSON.
func textOf(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) != nil {
		return ""
	}
	return text
}

// numberOf returns the value of a validated number in JSON.
func numberOf(value json.RawMessage) float64 {
	number, err := strconv.ParseFloat(string(value), 64)
	if err != nil {
		return 0
	}
	return number
}

// appendTextField appends a string as a field, unless it is empty.
func appendTextField(to []byte, field protowire.Number, text string) []byte {
	if text == "" {
		return to
	}
	return protowire.AppendString(protowire.AppendTag(to, field, protowire.BytesType), text)
}

func appendBytesField(to []byte, field protowire.Number, bytes []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(to, field, protowire.BytesType), bytes)
}

// valueJSON returns the value in JSON, empty if the member is left out. As all 64-bit
// integers, ResolveInt's is a string.
func (a *answer) valueJSON() string {
	switch {
	case a.Value == nil && a.v1:
		return zeros[a.kind]
	case a.Value == nil:
		return ""
	case a.kind == kindInt:
		return strconv.Quote(strconv.FormatInt(int64(numberOf(a.Value)), 10))
	default:
		return string(a.Value)
	}
}

// appendRest appends the members of an answer in JSON that follow the value.
func (a *answer) appendRest(to []byte) []byte {
	to = append(append(to, `"reason":"`...), a.Reason...)
	to = append(to, '"')
	if a.Variant != "" || a.v1 {
		to = appendQuoted(append(to, `,"variant":`...), a.Variant)
	}
	return append(append(to, `,"metadata":`...), orEmpty(a.Metadata)...)
}

func appendQuoted(to []byte, text string) []byte {
	quoted, err := json.Marshal(text)
	if err != nil {
		return append(to, `""`...)
	}
	return append(to, quoted...)
}

func orEmpty(object json.RawMessage) json.RawMessage {
	if object == nil {
		return json.RawMessage("{}")
	}
	return object
}

// singleResponse is the response to the evaluation of one flag.
type singleResponse struct{ answer }

// appendProto implements sent.
func (r *singleResponse) appendProto(to []byte) []byte {
	to = r.appendValue(to, valueField)
	to = appendTextField(to, reasonField, string(r.Reason))
	to = appendTextField(to, variantField, r.Variant)
	return appendBytesField(to, metadataField, r.metadata)
}

// appendJSON implements sent.
func (r *singleResponse) appendJSON(to []byte) []byte {
	to = append(to, '{')
	if value := r.valueJSON(); value != "" {
		to = append(append(append(to, `"value":`...), value...), ',')
	}
	return append(r.appendRest(to), '}')
}

// bulkResponse is the response to the evaluation of all flags.
type bulkResponse struct {
	answers []answer
	// metadata is that of the set, in JSON and as a google.protobuf.Struct.
	text     json.RawMessage
	metadata []byte
}

// size implements sent.
func (r *bulkResponse) size() int64 {
	total := int64(len(r.text) + len(r.metadata) + 64)
	for i := range r.answers {
		total += r.answers[i].size()
	}
	return total
}

// appendProto implements sent.
func (r *bulkResponse) appendProto(to []byte) []byte {
	to = slices.Grow(to, int(r.size()))
	var flag, entry []byte
	for i := range r.answers {
		a := &r.answers[i]
		flag = appendTextField(flag[:0], anyReasonField, string(a.Reason))
		flag = appendTextField(flag, anyVariantField, a.Variant)
		if field := anyValueFields[a.kind]; field != 0 {
			flag = a.appendAny(flag, field)
		}
		flag = appendBytesField(flag, anyMetadataField, a.metadata)
		entry = appendTextField(entry[:0], entryKeyField, a.Key)
		entry = appendBytesField(entry, entryValueField, flag)
		to = appendBytesField(to, flagsField, entry)
	}
	return appendBytesField(to, bulkMetadataField, r.metadata)
}

// appendAny appends the value, in version 1 the zero if there is none: only which of the
// fields is present tells the type.
func (a *answer) appendAny(to []byte, field protowire.Number) []byte {
	if a.Value != nil || !a.v1 {
		return a.appendValue(to, field)
	}
	zero := *a
	zero.Outcome = &flags.Outcome{Value: json.RawMessage(zeros[a.kind])}
	return zero.appendValue(to, field)
}

// appendJSON implements sent.
func (r *bulkResponse) appendJSON(to []byte) []byte {
	to = append(slices.Grow(to, int(r.size())), `{"flags":{`...)
	for i := range r.answers {
		a := &r.answers[i]
		if i > 0 {
			to = append(to, ',')
		}
		to = append(append(appendQuoted(to, a.Key), ':'), '{')
		value := a.valueJSON()
		if a.kind == kindObject && a.Value == nil && a.v1 {
			value = "{}"
		}
		if name := anyValueNames[a.kind]; name != "" && value != "" {
			to = append(append(append(append(to, '"'), name...), `":`...), value...)
			to = append(to, ',')
		}
		to = append(a.appendRest(to), '}')
	}
	return append(append(append(to, `},"metadata":`...), orEmpty(r.text)...), '}')
}
