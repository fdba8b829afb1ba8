// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/flagcache/flagcache/service/flagd"
	"github.com/flagcache/flagcache/service/ofrep"
)

// setUpFlagd adds the servers of flagd's protocols that are enabled. They share the flags,
// the tokens, the rate limits and the streams with OFREP.
func (v *service) setUpFlagd(core *ofrep.Core, shared ofrep.Options) {
	options := flagd.Options{
		Revision:    shared.Revision,
		Age:         shared.Age,
		Source:      v.settings.environment,
		Origins:     shared.Origins,
		Keys:        shared.Keys,
		Limit:       shared.Limit,
		MaxOpen:     v.settings.http.maxConnections,
		MaxInFlight: shared.MaxInFlight,
		MaxBytes:    int64(v.settings.http.maxBytesInFlight),
		Streams:     shared.Streams,
	}
	metrics := flagd.NewMetrics(v.registry)
	if address := v.settings.flagdAddress; address != "" {
		v.addFlagd("flagd", address, flagd.NewEvaluation(core, options, metrics))
	}
	if address := v.settings.flagdSyncAddress; address != "" {
		v.addFlagd("flagdSync", address, flagd.NewSync(core, options, metrics))
	}
}

func (v *service) addFlagd(name, address string, handler *flagd.Handler) {
	v.flagd = append(v.flagd, handler)
	v.servers = append(v.servers, &server{
		Server: flagd.NewServer(v.traced(handler, handler.Pattern), v.log), name: name,
		address: address, connections: v.settings.http.maxConnections,
	})
}
