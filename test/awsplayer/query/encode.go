// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package query

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"reflect"
	"time"
)

// elementNames are the names of the elements of lists, by the lists' names. All others
// are called member.
var elementNames = map[string]string{
	"CacheClusters":             "CacheCluster",
	"CacheNodeIdsToReboot":      "CacheNodeId",
	"CacheNodeIdsToRemove":      "CacheNodeId",
	"CacheNodes":                "CacheNode",
	"CacheParameterGroups":      "CacheParameterGroup",
	"CacheSecurityGroups":       "CacheSecurityGroup",
	"CacheSubnetGroups":         "CacheSubnetGroup",
	"Events":                    "Event",
	"MemberClusters":            "ClusterId",
	"MemberClustersOutpostArns": "ReplicationGroupOutpostArn",
	"NodeGroupMembers":          "NodeGroupMember",
	"NodeGroups":                "NodeGroup",
	"NodeSnapshots":             "NodeSnapshot",
	"Parameters":                "Parameter",
	"ReplicaAvailabilityZones":  "AvailabilityZone",
	"ReplicaOutpostArns":        "OutpostArn",
	"SecurityGroupIds":          "SecurityGroupId",
	"ServerlessCacheSnapshots":  "ServerlessCacheSnapshot",
	"Snapshots":                 "Snapshot",
	"SubnetIds":                 "SubnetId",
	"Subnets":                   "Subnet",
	"TagList":                   "Tag",
}

// elementName is the name of the elements of a list. Two lists of the same name differ.
func elementName(list string, element reflect.Type) string {
	switch name := element.Name(); name {
	case "ReplicationGroup", "LogDeliveryConfiguration", "CacheNodeTypeSpecificParameter", "CacheNodeTypeSpecificValue":
		return name
	}
	if name, ok := elementNames[list]; ok {
		return name
	}
	return "member"
}

// Encode encodes output, a pointer to an output type of the SDK, as the response of an
// action.
func Encode(action, namespace string, output any, requestID string) ([]byte, error) {
	e := newEncoder()
	e.open(action+"Response", xml.Attr{Name: xml.Name{Local: "xmlns"}, Value: namespace})
	e.open(action + "Result")
	e.encodeStruct(reflect.ValueOf(output).Elem())
	e.close(action + "Result")
	e.open("ResponseMetadata")
	e.text("RequestId", requestID)
	e.close("ResponseMetadata")
	e.close(action + "Response")
	return e.finish()
}

// EncodeError encodes the response of an action that failed. The fault is Sender for an
// error of the client and Receiver for one of the service.
func EncodeError(namespace, fault, code, message, requestID string) ([]byte, error) {
	e := newEncoder()
	e.open("ErrorResponse", xml.Attr{Name: xml.Name{Local: "xmlns"}, Value: namespace})
	e.open("Error")
	e.text("Type", fault)
	e.text("Code", code)
	e.text("Message", message)
	e.close("Error")
	e.text("RequestId", requestID)
	e.close("ErrorResponse")
	return e.finish()
}

// encoder writes XML and keeps the first error.
type encoder struct {
	buffer bytes.Buffer
	xml    *xml.Encoder
	err    error
}

func newEncoder() *encoder {
	e := &encoder{}
	e.xml = xml.NewEncoder(&e.buffer)
	return e
}

func (e *encoder) finish() ([]byte, error) {
	if e.err == nil {
		e.err = e.xml.Flush()
	}
	return e.buffer.Bytes(), e.err
}

func (e *encoder) token(t xml.Token) {
	if e.err == nil {
		e.err = e.xml.EncodeToken(t)
	}
}

func (e *encoder) open(name string, attributes ...xml.Attr) {
	e.token(xml.StartElement{Name: xml.Name{Local: name}, Attr: attributes})
}

func (e *encoder) close(name string) { e.token(xml.EndElement{Name: xml.Name{Local: name}}) }

func (e *encoder) text(name, value string) {
	e.open(name)
	e.token(xml.CharData(value))
	e.close(name)
}

// encodeStruct encodes the fields that are set. An empty list that is not nil is set.
func (e *encoder) encodeStruct(v reflect.Value) {
	for _, field := range fields(v.Type()) {
		if value := v.FieldByIndex(field.Index); !value.IsZero() {
			e.encode(field.Name, value)
		}
	}
}

func (e *encoder) encode(name string, v reflect.Value) {
	if t, ok := v.Interface().(time.Time); ok {
		e.text(name, t.UTC().Format("2006-01-02T15:04:05.000Z"))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		e.encode(name, v.Elem())
	case reflect.Struct:
		e.open(name)
		e.encodeStruct(v)
		e.close(name)
	case reflect.Slice:
		e.open(name)
		element := elementName(name, v.Type().Elem())
		for i := range v.Len() {
			e.encode(element, v.Index(i))
		}
		e.close(name)
	case reflect.String, reflect.Bool, reflect.Int32, reflect.Int64, reflect.Float64:
		e.text(name, fmt.Sprint(v.Interface()))
	default:
		e.err = fmt.Errorf("encoding %s: type %s is not part of the protocol", name, v.Type())
	}
}
