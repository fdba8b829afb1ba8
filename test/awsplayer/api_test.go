// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer_test

import (
	"context"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flagcache/flagcache/test/ackcontroller"
	"github.com/flagcache/flagcache/test/awsplayer"
)

const signed = "AWS4-HMAC-SHA256 Credential=id/20260101/eu-west-1/elasticache/aws4_request, SignedHeaders=host, Signature=0"

// post sends a form and returns the status and the code of the error.
func (c client) post(t *testing.T, authorization string, form string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.player.Endpoint(), strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return c.do(t, r)
}

func (c client) do(t *testing.T, r *http.Request) (int, string) {
	t.Helper()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var refused struct {
		Code string `xml:"Error>Code"`
	}
	if err := xml.Unmarshal(body, &refused); err != nil {
		t.Errorf("the response is %q: %v", body, err)
	}
	return response.StatusCode, refused.Code
}

func TestRequestsAreRefused(t *testing.T) {
	o := quick()
	o.Region = "eu-west-1"
	c := start(t, o)
	form := func(action, version string, more ...string) string {
		f := url.Values{"Action": {action}, "Version": {version}}
		for i := 0; i < len(more); i += 2 {
			f.Set(more[i], more[i+1])
		}
		return f.Encode()
	}
	describe := form("DescribeReplicationGroups", "2015-02-02")
	for name, tt := range map[string]struct {
		authorization, form string
		status              int
		code                string
	}{
		"without a signature":            {"", describe, 403, "MissingAuthenticationToken"},
		"for another region":             {strings.Replace(signed, "eu-west-1", "us-east-1", 1), describe, 403, "SignatureDoesNotMatch"},
		"an action that is not played":   {signed, form("CreateServerlessCache", "2015-02-02"), 400, "InvalidAction"},
		"an action of another version":   {signed, form("DescribeReplicationGroups", "2011-06-15"), 400, "InvalidAction"},
		"no action":                      {signed, "", 400, "InvalidAction"},
		"not a form":                     {signed, "%zz", 400, "MalformedQueryString"},
		"an unknown parameter":           {signed, form("DescribeReplicationGroups", "2015-02-02", "Nonsense", "1"), 400, "InvalidParameterValue"},
		"a parameter that is not played": {signed, form("DescribeReplicationGroups", "2015-02-02", "Marker", "1"), 400, "InvalidParameterValue"},
		"a missing group":                {signed, form("DescribeReplicationGroups", "2015-02-02", "ReplicationGroupId", "a"), 404, "ReplicationGroupNotFoundFault"},
		"a large request":                {signed, form("DescribeReplicationGroups", "2015-02-02", "Marker", strings.Repeat("a", 1<<20)), 413, "RequestEntityTooLarge"},
	} {
		t.Run(name, func(t *testing.T) {
			if status, code := c.post(t, tt.authorization, tt.form); status != tt.status || code != tt.code {
				t.Errorf("the response is %d %s, want %d %s", status, code, tt.status, tt.code)
			}
		})
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.player.Endpoint()+"?"+describe, nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, code := c.do(t, r); status != 400 || code != "InvalidAction" {
		t.Errorf("the response to a GET is %d %s", status, code)
	}
	if status, code := c.post(t, signed, describe); status != 200 || code != "" {
		t.Errorf("the response to a valid request is %d %s", status, code)
	}
}

// sourceOfACK is the source of ACK's resources that are played, by resource.
func sourceOfACK(t *testing.T) map[string]string {
	t.Helper()
	dir, err := ackcontroller.Dir(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	source := map[string]string{}
	for _, resource := range []string{"replication_group", "user", "user_group", "cache_subnet_group", "cache_parameter_group", "snapshot"} {
		files, err := filepath.Glob(filepath.Join(dir, "pkg", "resource", resource, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("ACK's source of %s has %d files: %v", resource, len(files), err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			source[resource] += string(text)
		}
	}
	tags, err := os.ReadFile(filepath.Join(dir, "pkg", "util", "tags.go"))
	if err != nil {
		t.Fatal(err)
	}
	source["tags"] = string(tags)
	return source
}

// TestPlaysTheCallsOfACK fails if a version of ACK makes a call that is not played.
func TestPlaysTheCallsOfACK(t *testing.T) {
	c := start(t, quick())
	calls := 0
	for resource, source := range sourceOfACK(t) {
		for _, match := range regexp.MustCompile(`sdkapi\.(\w+)\(`).FindAllStringSubmatch(source, -1) {
			calls++
			if _, code := c.post(t, signed, "Action="+match[1]+"&Version=2015-02-02"); code == "InvalidAction" {
				t.Errorf("%s of %s is not played", match[1], resource)
			}
		}
	}
	if calls < 30 {
		t.Errorf("the source of ACK has only %d calls", calls)
	}
}

// TestPlaysTheParametersOfACK fails if a version of ACK sends a parameter that is neither
// played nor known as one that is not.
func TestPlaysTheParametersOfACK(t *testing.T) {
	c := start(t, quick())
	refused := map[string][]string{}
	for _, source := range sourceOfACK(t) {
		input := regexp.MustCompile(`(?:res|input) :?= &svcsdk\.(\w+)Input\{\}`)
		field := regexp.MustCompile(`^\s*(?:res|input)\.(\w+) = `)
		action := ""
		for line := range strings.SplitSeq(source, "\n") {
			if match := input.FindStringSubmatch(line); match != nil {
				action = match[1]
			}
			match := field.FindStringSubmatch(line)
			if match == nil {
				continue
			}
			// A value of no type is refused too, but with another message.
			if c.unsupported(t, action, match[1]) && !contains(refused[action], match[1]) {
				refused[action] = append(refused[action], match[1])
			}
		}
	}
	want := map[string][]string{
		"CreateReplicationGroup":  {"CacheSecurityGroupNames", "LogDeliveryConfigurations", "NodeGroupConfiguration", "Port", "PreferredCacheClusterAZs", "PrimaryClusterId", "SnapshotArns"},
		"ModifyReplicationGroup":  {"CacheSecurityGroupNames", "LogDeliveryConfigurations", "PrimaryClusterId"},
		"IncreaseReplicaCount":    {"ReplicaConfiguration"},
		"DescribeCacheParameters": {"Marker"},
		"DecreaseReplicaCount":    {"ReplicaConfiguration"},
	}
	if diff := cmp.Diff(want, refused); diff != "" {
		t.Errorf("the parameters that are not played (-want +got):\n%s", diff)
	}
}

// unsupported reports whether a parameter is one that is not played.
func (c client) unsupported(t *testing.T, action, parameter string) bool {
	t.Helper()
	for _, form := range []string{"=1", "=true", ".member.1=1", ".member.1.LogType=slow-log", ".member.1.NodeGroupId=1", ".Type=iam"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.player.Endpoint(), strings.NewReader("Action="+action+"&Version=2015-02-02&"+parameter+form))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", signed)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(body), "awsplayer does not support the parameter "+parameter) {
			return true
		}
	}
	return false
}

func TestControl(t *testing.T) {
	c := start(t, quick())
	control := c.player.Control()
	do := func(method, path string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		control.ServeHTTP(w, r)
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	if status, body := do("POST", "/fault?action=CreateReplicationGroup&id=cache&code=ClusterQuotaForCustomerExceeded"); status != 200 {
		t.Error(body)
	}
	_, err := c.CreateReplicationGroup(t.Context(), request("cache"))
	expectCode(t, err, "ClusterQuotaForCustomerExceeded")
	c.create(t, request("cache"))
	for _, path := range []string{"/failover?id=cache", "/cut?id=cache", "/snapshotting?id=cache&for=10ms", "/fault?delay=1ms", "/clear-faults"} {
		if status, body := do("POST", path); status != 200 {
			t.Errorf("%s: %s", path, body)
		}
	}
	c.await(t, "cache", "available")
	for _, path := range []string{"/failover?id=missing", "/cut", "/delete?id=missing", "/snapshotting?id=cache", "/fault?action=Nonsense&code=a", "/fault?action=CreateUser", "/fault?code=a&times=many", "/fault?delay=long"} {
		if status, _ := do("POST", path); status != 400 {
			t.Errorf("the response to %s is %d", path, status)
		}
	}
	if _, body := do("GET", "/groups"); body != `["cache"]` {
		t.Errorf("the groups are %s", body)
	}
	if _, body := do("GET", "/calls?action=CreateReplicationGroup"); strings.Count(body, `"Action":"CreateReplicationGroup"`) != 2 || strings.Contains(body, oldToken) {
		t.Errorf("the calls are %s", body)
	}
	if _, body := do("GET", "/ca.crt"); body != strings.TrimSpace(string(c.player.CA())) {
		t.Errorf("the CA certificate is %s", body)
	}
	if status, body := do("POST", "/delete?id=cache"); status != 200 {
		t.Error(body)
	}
	if _, body := do("GET", "/snapshots"); body != "[]" && body != "null" {
		t.Errorf("the snapshots are %s", body)
	}
}

func TestPlayerEndsDuringADelay(t *testing.T) {
	ended := make(chan error, 1)
	t.Cleanup(func() { // after the player ended
		if err := <-ended; err == nil {
			t.Error("the delayed call has a response")
		}
	})
	c := start(t, quick())
	c.player.Inject(awsplayer.Fault{Action: "DescribeUsers", Delay: 10 * limit})
	written := make(chan struct{})
	trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(written) }}
	ctx := httptrace.WithClientTrace(context.Background(), trace)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.player.Endpoint(), strings.NewReader("Action=DescribeUsers&Version=2015-02-02"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", signed)
	go func() {
		response, err := http.DefaultClient.Do(r)
		if err == nil {
			_ = response.Body.Close()
		}
		ended <- err
	}()
	<-written
}
