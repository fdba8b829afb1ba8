// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"crypto/x509"
	"flag"
	"fmt"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// Environment variables.
const (
	// envWatchNamespace lists the namespaces to work in, separated by commas.
	// Default: all of them.
	envWatchNamespace = "WATCH_NAMESPACE"
	// envPodNamespace is the namespace that the operator runs in.
	envPodNamespace = "POD_NAMESPACE"
	// envFlagServiceImage is the default image of the flag service.
	envFlagServiceImage = "FLAG_SERVICE_IMAGE"
)

type options struct {
	metricsAddress   string
	metricsSecure    bool
	healthAddress    string
	leaderElect      bool
	workers          int
	probeWorkers     int
	namespaces       []string
	ownNamespace     string
	flagServiceImage string
	// elastiCacheCA is the content of --elasticache-ca-file, "" without one.
	elastiCacheCA string
	log           zap.Options
}

// parseOptions reads flags and environment; what is wrong is said with the
// value and the accepted form.
func parseOptions(args []string, env func(string) string) (options, error) {
	var o options
	fs := flag.NewFlagSet("manager", flag.ContinueOnError)
	fs.StringVar(&o.metricsAddress, "metrics-bind-address", "0", "Address of the metrics endpoint, for example :8443; 0 turns it off.")
	fs.BoolVar(&o.metricsSecure, "metrics-secure", true, "Serve metrics by HTTPS, to clients that may get /metrics.")
	fs.StringVar(&o.healthAddress, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz; 0 turns them off.")
	fs.BoolVar(&o.leaderElect, "leader-elect", false, "Work only while holding the leader lease.")
	fs.IntVar(&o.workers, "max-concurrent-reconciles", 8, "How many FlagCaches are reconciled at a time.")
	fs.IntVar(&o.probeWorkers, "max-concurrent-probes", 64, "How many caches are probed at a time.")
	caFile := fs.String("elasticache-ca-file", "", "File of the authorities, in PEM, that sign the certificates of ElastiCache's nodes where they are not the system's, as with emulators of AWS.")
	o.log.BindFlags(fs)
	if err := fs.Parse(args); err != nil {
		return options{}, err
	}
	o.ownNamespace = cmp.Or(env(envPodNamespace), "flagcache-system")
	o.flagServiceImage = cmp.Or(env(envFlagServiceImage), "ghcr.io/flagcache/flag-service:"+version)
	if err := o.setNamespaces(env(envWatchNamespace)); err != nil {
		return options{}, err
	}
	if o.workers < 1 || o.probeWorkers < 1 {
		return options{}, fmt.Errorf("--max-concurrent-reconciles and --max-concurrent-probes must be at least 1")
	}
	if err := o.setElastiCacheCA(*caFile); err != nil {
		return options{}, err
	}
	return o, nil
}

func (o *options) setElastiCacheCA(file string) error {
	if file == "" {
		return nil
	}
	authorities, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("--elasticache-ca-file: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(authorities) {
		return fmt.Errorf("--elasticache-ca-file: %s holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----", file)
	}
	o.elastiCacheCA = string(authorities)
	return nil
}

func (o *options) setNamespaces(list string) error {
	for _, name := range strings.Split(list, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
			return fmt.Errorf("%s: %q is not the name of a namespace: %s", envWatchNamespace, name, problems[0])
		}
		o.namespaces = append(o.namespaces, name)
	}
	return nil
}
