// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package awsplayer

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/elasticache/types"
	"github.com/aws/smithy-go"
)

// text is a message for an error of the SDK's types.
func text(format string, args ...any) *string {
	message := fmt.Sprintf(format, args...)
	return &message
}

func invalidValue(format string, args ...any) error {
	return &types.InvalidParameterValueException{Message: text(format, args...)}
}

func invalidCombination(format string, args ...any) error {
	return &types.InvalidParameterCombinationException{Message: text(format, args...)}
}

// failure is an error that the SDK has no type for.
func failure(code, format string, args ...any) error {
	return &smithy.GenericAPIError{Code: code, Message: fmt.Sprintf(format, args...)}
}

// codes that are answered with another status than 400. All codes with NotFound have 404.
var statuses = map[string]int{
	"AccessDenied":                   http.StatusForbidden,
	"AccessDeniedException":          http.StatusForbidden,
	"MissingAuthenticationToken":     http.StatusForbidden,
	"InvalidClientTokenId":           http.StatusForbidden,
	"SignatureDoesNotMatch":          http.StatusForbidden,
	"ExpiredToken":                   http.StatusForbidden,
	"InternalFailure":                http.StatusInternalServerError,
	"ServiceUnavailable":             http.StatusServiceUnavailable,
	"RequestEntityTooLarge":          http.StatusRequestEntityTooLarge,
	"ServiceLinkedRoleNotFoundFault": http.StatusBadRequest,
}

// statusOf is the HTTP status of an error code.
func statusOf(code string) int {
	if status, ok := statuses[code]; ok {
		return status
	}
	if strings.Contains(code, "NotFound") {
		return http.StatusNotFound
	}
	return http.StatusBadRequest
}

// messages are those of AWS for codes that faults are often injected with.
var messages = map[string]string{
	"Throttling":                       "Rate exceeded",
	"AccessDenied":                     "User: " + callerARN + " is not authorized to perform this action",
	"ClusterQuotaForCustomerExceeded":  "The request cannot be processed because it would exceed the allowed number of clusters per customer.",
	"NodeQuotaForCustomerExceeded":     "The request cannot be processed because it would exceed the allowed number of cache nodes per customer.",
	"InsufficientCacheClusterCapacity": "The requested cache node type is not available in the specified Availability Zone.",
}

// messageOf is the message of an injected error.
func messageOf(code, message string) string {
	return cmp.Or(message, messages[code], "The request cannot be processed.")
}
