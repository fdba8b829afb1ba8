// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDatabasePorts(t *testing.T) {
	tests := map[string]struct {
		uri  string
		want []int32
		err  string
	}{
		"a host":                      {uri: "postgres://db/flags?sslmode=disable", want: []int32{5432}},
		"the other scheme":            {uri: "postgresql://db:1/flags?sslmode=verify-ca", want: []int32{1}},
		"an account":                  {uri: "postgres://u:p%40%2F@db:6432/flags?sslmode=verify-full", want: []int32{6432}},
		"no database":                 {uri: "postgres://u@db?sslmode=require", want: []int32{5432}},
		"several hosts":               {uri: "postgres://u:p@b:6433,a,c:6433/flags?target_session_attrs=read-write&sslmode=require", want: []int32{5432, 6433}},
		"IPv6":                        {uri: "postgres://[fd00::1]:6432,[::1]/flags?sslmode=disable", want: []int32{5432, 6432}},
		"nothing":                     {err: "expected postgres://"},
		"keywords":                    {uri: "host=db password=s3cret", err: "expected postgres://"},
		"another scheme":              {uri: "redis://:s3cret@db", err: "expected postgres://"},
		"a socket":                    {uri: "postgres:///flags?host=/run", err: "belong before the name of the database"},
		"a port among parameters":     {uri: "postgres://db/flags?port=1", err: "belong before the name of the database"},
		"no host":                     {uri: "postgres://u:s3cret@/flags?sslmode=disable", err: "no valid host"},
		"a host missing":              {uri: "postgres://a,,b/flags?sslmode=disable", err: "no valid host"},
		"an open bracket":             {uri: "postgres://[fd00::1/flags?sslmode=disable", err: "no valid host"},
		"a bracket around a name":     {uri: "postgres://[db]/flags?sslmode=disable", err: "no valid host"},
		"a password as it comes":      {uri: "postgres://u:s3cret/@db/flags", err: "percent-encoded"},
		"one that begins as a port":   {uri: "postgres://u:12/s3cret@db/flags", err: "percent-encoded"},
		"one with a question mark":    {uri: "postgres://u:12?s3cret@db/flags", err: "percent-encoded"},
		"one with a hash":             {uri: "postgres://u:12#s3cret@db/flags", err: "percent-encoded"},
		"one with two of them":        {uri: "postgres://u:1@2/s3cret@db/flags", err: "percent-encoded"},
		"a port out of range":         {uri: "postgres://db:70000/flags?sslmode=disable", err: "from 1 to 65535"},
		"more hosts than one allows":  {uri: "postgres://a,b,c,d,e,f,g,h,i/flags?sslmode=disable", err: "more than 8 hosts"},
		"no mode":                     {uri: "postgres://u:s3cret@db/flags", err: "must have the parameter sslmode, such as ?sslmode=verify-full"},
		"an empty mode":               {uri: "postgres://u:s3cret@db/flags?sslmode=", err: "must have the parameter sslmode"},
		"a mode that may not encrypt": {uri: "postgres://u:s3cret@db/flags?sslmode=prefer", err: "must have the parameter sslmode"},
		"no such mode":                {uri: "postgres://u:s3cret@db/flags?sslmode=s3cret", err: "must have the parameter sslmode"},
		"a mode after another":        {uri: "postgres://u:s3cret@db/flags?sslmode=allow&sslmode=require", err: "must have the parameter sslmode"},
		"a broken escape":             {uri: "postgres://db/flags?a=%zz", err: "are invalid"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := databasePorts(test.uri)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "s3cret") {
					t.Fatalf("got error %v, want one that says %q and no secret", err, test.err)
				}
				return
			}
			if d := cmp.Diff(test.want, got); err != nil || d != "" {
				t.Errorf("error %v, ports differ (-want +got):\n%s", err, d)
			}
		})
	}
}
