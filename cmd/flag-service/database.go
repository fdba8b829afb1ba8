// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/flagcache/flagcache/service/access"
	"github.com/flagcache/flagcache/service/admin"
	"github.com/flagcache/flagcache/service/cache"
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/service/flags"
	"github.com/flagcache/flagcache/service/ofrep"
	"github.com/flagcache/flagcache/service/source"
	"github.com/flagcache/flagcache/service/source/postgres"
)

const (
	// adminRate is the rate limit per client of the admin API in requests per
	// second, adminBurst its burst. People and pipelines send few requests.
	adminRate, adminBurst = 50, 100
	// adminConnections is the maximum number of connections to the admin API.
	adminConnections = 64
)

// databaseSettings are the settings of flags in PostgreSQL.
type databaseSettings struct {
	uriFile        string
	adminAddress   string
	adminTokensDir string
}

// databaseVariables describes the variables, in the order of the documentation.
var databaseVariables = []variable{
	{config.EnvPostgresURIFile, "path of a file with a PostgreSQL URI; the flags are then read from that database"},
	{config.EnvAdminAddress, "listen address of the admin API of that database (default: disabled)"},
	{config.EnvAdminTokensDir, "directory of the tokens of the admin API's clients, one per file"},
}

func readDatabaseSettings(r *reader) databaseSettings {
	s := databaseSettings{
		uriFile:        r.text(config.EnvPostgresURIFile, ""),
		adminTokensDir: r.text(config.EnvAdminTokensDir, ""),
	}
	if r.text(config.EnvAdminAddress, "") == "" {
		return s
	}
	s.adminAddress = r.address(config.EnvAdminAddress, "")
	if s.uriFile == "" || s.adminTokensDir == "" {
		r.reject(config.EnvAdminAddress, "unset unless "+config.EnvPostgresURIFile+" and "+config.EnvAdminTokensDir+
			" are set: the admin API changes a database and requires tokens")
	}
	return s
}

// numbered reports whether published flags are read.
func (s settings) numbered() bool { return s.database.uriFile == "" && s.flagsManifest != "" }

// flagsLocation returns the location of the flags for the log.
func (s settings) flagsLocation() string {
	if s.database.uriFile != "" {
		return "PostgreSQL"
	}
	if s.flagsManifest != "" {
		return s.flagsManifest
	}
	return s.flagsFile
}

// openSource opens the source of the flags and, if configured, adds the server
// of a database's admin API. redis, which may be nil, is invalidated on
// changes.
func (v *service) openSource(redis *cache.Cache, registry prometheus.Registerer) source.Source {
	s := v.settings
	if s.numbered() {
		return source.NewPublished(s.flagsManifest, s.flagsStore, flags.MaxSize, source.DefaultPoll, v.log)
	}
	if s.database.uriFile == "" {
		return source.NewFile(s.flagsFile, flags.MaxSize, source.DefaultPoll, v.log)
	}
	store := postgres.Open(postgres.Options{
		URIFile: s.database.uriFile, Environment: s.environment, MaxSize: flags.MaxSize, Check: flags.CheckBudget, Log: v.log,
	})
	v.background = append(v.background, func(ctx context.Context) { <-ctx.Done(); store.Close() })
	if s.database.adminAddress != "" {
		v.servers = append(v.servers, v.adminServer(store, redis, registry))
	}
	return store
}

func (v *service) adminServer(store *postgres.Store, redis *cache.Cache, registry prometheus.Registerer) *server {
	keys := access.NewKeys(v.settings.database.adminTokensDir, rateSetting{adminRate, adminBurst}.limit, v.log)
	v.background = append(v.background, keys.Run)
	handler := admin.NewHandler(admin.Options{Store: store, Find: keys.Find, Invalidate: v.invalidate(redis), Log: v.log}, registry)
	return &server{
		Server: ofrep.NewServer(handler, v.log), name: "admin", address: v.settings.database.adminAddress,
		connections: adminConnections, refuse: admin.Refusal,
	}
}

// invalidate returns the function that invalidates Redis on a change. Other
// environments are left to the instances that serve them, which the database
// notifies.
func (v *service) invalidate(redis *cache.Cache) func(context.Context, string) error {
	if redis == nil {
		return nil
	}
	return func(ctx context.Context, environment string) error {
		if environment != v.settings.environment {
			return nil
		}
		return redis.Invalidate(ctx)
	}
}
