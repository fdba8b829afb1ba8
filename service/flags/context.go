// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import "encoding/json"

// TargetingKey returns the targeting key in an OFREP request's body. ok is false
// where there is none that tells callers apart: it is absent, empty or no text,
// or the body cannot be read.
func TargetingKey(body []byte) (key string, ok bool) {
	var request struct {
		Context struct {
			TargetingKey string `json:"targetingKey"`
		} `json:"context"`
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return "", false
	}
	return request.Context.TargetingKey, request.Context.TargetingKey != ""
}
