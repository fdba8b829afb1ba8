// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/json"
	"fmt"
)

const (
	// users is the number of evaluation contexts, which are used in turn, flagCount the
	// number of flags.
	users     = 1000
	flagCount = 50

	evaluatePath = "/ofrep/v1/evaluate/flags"
)

// benchCase is a kind of request with the minimum ratio to the bare handler that is the
// target; 0 is none.
type benchCase struct {
	name, path string
	target     float64
}

var cases = []benchCase{
	{"static", evaluatePath + "/static-0", 0.85},
	{"targeted (ends_with)", evaluatePath + "/targeted-0", 0.75},
	{"fractional", evaluatePath + "/fractional-0", 0.75},
	{fmt.Sprintf("bulk of %d", flagCount), evaluatePath, 0},
}

// flagsDocument returns a flags file: half of the flags are static, 30 % target an
// attribute, 20 % are fractional rollouts.
func flagsDocument() ([]byte, error) {
	static, targeted, fractional := flagCount/2, flagCount*3/10, flagCount*2/10
	flags := map[string]any{}
	for i := range static {
		flags[fmt.Sprintf("static-%d", i)] = flagDefinition(nil)
	}
	for i := range targeted {
		email := map[string]any{"var": "email"}
		flags[fmt.Sprintf("targeted-%d", i)] = flagDefinition(map[string]any{
			"if": []any{map[string]any{"ends_with": []any{email, fmt.Sprintf("7@shop-%d.example", i)}}, "on", "off"},
		})
	}
	for i := range fractional {
		flags[fmt.Sprintf("fractional-%d", i)] = flagDefinition(map[string]any{
			"fractional": []any{[]any{"on", 25}, []any{"off", 75}},
		})
	}
	document, err := json.Marshal(map[string]any{"flags": flags})
	if err != nil {
		return nil, fmt.Errorf("writing the flags: %w", err)
	}
	return document, nil
}

func flagDefinition(targeting map[string]any) map[string]any {
	flag := map[string]any{
		"state": "ENABLED", "variants": map[string]bool{"on": true, "off": false}, "defaultVariant": "off",
	}
	if targeting != nil {
		flag["targeting"] = targeting
	}
	return flag
}

// requestBody returns the body of a request for a user.
func requestBody(user int) []byte {
	return fmt.Appendf(nil, `{"context":{"targetingKey":"user-%d","email":"user-%d@shop-0.example","country":"DE","plan":"premium"}}`, user, user)
}

// requests returns the encoded HTTP requests of a case, one for each user.
func (c benchCase) requests(host string) [][]byte {
	all := make([][]byte, users)
	for user := range all {
		body := requestBody(user)
		all[user] = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench-service\r\nAccept: application/json\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", c.path, host, len(body), body)
	}
	return all
}
