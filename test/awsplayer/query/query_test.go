// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package query_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/elasticache"
	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flagcache/flagcache/test/awsplayer/query"
	"github.com/flagcache/flagcache/test/awsplayer/sdk"
)

// fill sets every field of v to a value of its own.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), n)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(int64(*n), 0).UTC()))
			return
		}
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() && field.Name != "ResultMetadata" {
				fill(v.Field(i), n)
			}
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("<value %d>", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Float64:
		v.SetFloat(float64(*n))
	default:
		panic(fmt.Sprintf("a field of type %s", v.Type()))
	}
}

// options compare inputs and outputs of the SDK.
var options = cmp.Options{
	cmp.FilterPath(func(p cmp.Path) bool {
		field, ok := p.Last().(cmp.StructField)
		return ok && (field.Name() == "ResultMetadata" || field.Name() == "noSmithyDocumentSerde")
	}, cmp.Ignore()),
	cmpopts.EquateEmpty(),
}

// server answers every request with respond.
func server(t *testing.T, respond func(form url.Values) (int, []byte, error)) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			t.Error(err)
		}
		status, text, err := respond(form)
		if err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
		_, _ = w.Write(text)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// clients are the SDK's clients, with all operations as methods.
func clients(endpoint string) []any {
	return []any{elasticache.NewFromConfig(sdk.Config(endpoint)), sts.NewFromConfig(sdk.Config(endpoint))}
}

// beyond are operations with types that the players of this project need not encode.
var beyond = []string{"ReservedCacheNode", "GlobalReplicationGroup", "UpdateAction", "ServiceUpdate", "Migration", "EngineVersion", "EngineDefault", "CacheSecurityGroup", "Web", "SAML"}

// TestRoundTrip calls every operation through the SDK's clients with every field set: the
// decoded input and the received output are the same as those sent.
func TestRoundTrip(t *testing.T) {
	var input, output reflect.Value
	var action string
	endpoint := server(t, func(form url.Values) (int, []byte, error) {
		action = form.Get("Action")
		decoded := reflect.New(input.Type().Elem())
		if err := query.Decode(form, decoded.Interface()); err != nil {
			return 500, nil, err
		}
		if diff := cmp.Diff(input.Interface(), decoded.Interface(), options); diff != "" {
			t.Errorf("%s was decoded differently (-sent +decoded):\n%s", action, diff)
		}
		text, err := query.Encode(action, "http://example.com", output.Interface(), "a-request")
		return 200, text, err
	})
	calls := 0
	for _, client := range clients(endpoint) {
		c := reflect.ValueOf(client)
		for i := range c.NumMethod() {
			method := c.Type().Method(i)
			if method.Type.NumIn() != 4 || method.Name == "Options" || containsAny(method.Name, beyond) {
				continue
			}
			var n int
			input, output = reflect.New(method.Type.In(2).Elem()), reflect.New(method.Type.Out(0).Elem())
			fill(input.Elem(), &n)
			fill(output.Elem(), &n)
			result := c.Method(i).Call([]reflect.Value{reflect.ValueOf(t.Context()), input})
			if err, _ := result[1].Interface().(error); err != nil {
				t.Errorf("%s: %v", method.Name, err)
				continue
			}
			calls++
			if diff := cmp.Diff(output.Interface(), result[0].Interface(), options); diff != "" {
				t.Errorf("%s was encoded differently (-sent +received):\n%s", method.Name, diff)
			}
		}
	}
	if calls < 50 {
		t.Errorf("only %d operations were called", calls)
	}
}

func containsAny(name string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

func TestErrorsAreTyped(t *testing.T) {
	endpoint := server(t, func(url.Values) (int, []byte, error) {
		text, err := query.EncodeError("http://example.com", "Sender", "ReplicationGroupNotFoundFault", "It is <unknown>.", "a-request")
		return 404, text, err
	})
	_, err := elasticache.NewFromConfig(sdk.Config(endpoint)).DescribeReplicationGroups(t.Context(), &elasticache.DescribeReplicationGroupsInput{})
	var fault *types.ReplicationGroupNotFoundFault
	var api smithy.APIError
	if !errors.As(err, &fault) || !errors.As(err, &api) || api.ErrorMessage() != "It is <unknown>." {
		t.Errorf("the error is %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, form := range map[string]url.Values{
		"an unknown parameter":        {"Unknown": {"1"}},
		"an unknown parameter inside": {"Tags.Tag.1.Unknown": {"1"}},
		"two values":                  {"Engine": {"redis", "valkey"}},
		"a list with a gap":           {"Tags.Tag.2.Key": {"a"}},
		"a list of a huge index":      {"Tags.Tag.1000000000.Key": {"a"}},
		"a value in place of a list":  {"UserGroupIds": {"a"}},
		"a list in place of a value":  {"Engine.member.1": {"a"}},
		"a word for a number":         {"Port": {"many"}},
		"a number that is too large":  {"Port": {"4294967296"}},
		"a word for a Boolean":        {"MultiAZEnabled": {"perhaps"}},
		"deep nesting":                {strings.Repeat("Tags.", 20): {"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := query.Decode(form, &elasticache.CreateReplicationGroupInput{}); err == nil {
				t.Error("it was decoded")
			}
		})
	}
}

func TestSetNamesTheFields(t *testing.T) {
	in := &elasticache.ModifyReplicationGroupInput{ReplicationGroupId: aws.String("a"), ApplyImmediately: aws.Bool(false), UserGroupIdsToAdd: []string{}, Durability: "sync"}
	if diff := cmp.Diff([]string{"ApplyImmediately", "Durability", "ReplicationGroupId", "UserGroupIdsToAdd"}, query.Set(in)); diff != "" {
		t.Error(diff)
	}
}
