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
	// adminRate is how many requests a second one client of the admin API may make,
	// and how many of them at once. People and pipelines make few.
	adminRate, adminBurst = 50, 100
	// adminConnections is how many connections to the admin API there may be.
	adminConnections = 64
)

// databaseSettings are what the environment says about flags in PostgreSQL.
type databaseSettings struct {
	uriFile        string
	adminAddress   string
	adminTokensDir string
}

// databaseVariables describes the variables, in the order of their documentation.
var databaseVariables = []variable{
	{config.EnvPostgresURIFile, "path of a file with a PostgreSQL URI; the flags are then in that database"},
	{config.EnvAdminAddress, "where the admin API of that database is answered (default: nowhere)"},
	{config.EnvAdminTokensDir, "directory of tokens, one a file, of the admin API's clients"},
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
		r.refuse(config.EnvAdminAddress, "absent where "+config.EnvPostgresURIFile+" or "+config.EnvAdminTokensDir+
			" is: the admin API changes a database, and lets nobody in without a token")
	}
	return s
}

// flagsAt is where the flags are, for the log.
func (s settings) flagsAt() string {
	if s.database.uriFile != "" {
		return "PostgreSQL"
	}
	return s.flagsFile
}

// openSource opens the source of the flags. A database's admin API comes with it
// where that is wanted; redis, which may be nil, is told of changes.
func (v *service) openSource(redis *cache.Cache, registry prometheus.Registerer) source.Source {
	s := v.settings
	if s.database.uriFile == "" {
		return source.NewFile(s.flagsFile, flags.MaxSize, source.DefaultPoll, v.log)
	}
	store := postgres.Open(postgres.Options{URIFile: s.database.uriFile, Environment: s.environment, MaxSize: flags.MaxSize, Log: v.log})
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
	return &server{Server: ofrep.NewServer(handler, v.log), name: "admin", address: v.settings.database.adminAddress, connections: adminConnections}
}

// invalidate tells Redis of a change. The key of another environment is left to
// the instances that serve it: the database tells them.
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
