// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// Environment variables.
const (
	// envWatchNamespace lists the namespaces to watch, separated by commas. Default: all.
	envWatchNamespace = "WATCH_NAMESPACE"
	// envPodNamespace is the namespace of the operator's pod.
	envPodNamespace = "POD_NAMESPACE"
	// envFlagServiceImage is the default image of the flag service.
	envFlagServiceImage = "FLAG_SERVICE_IMAGE"
	// envMemoryLimit is the memory limit of the operator's container in bytes. Default: the
	// garbage collector knows of none.
	envMemoryLimit = "MEMORY_LIMIT"
)

// minKeyPeriod is a multiple of the time in which kubelets update mounted Secrets.
const minKeyPeriod = 10 * time.Minute

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
	// heapLimit is what the Go runtime may use of the memory limit in bytes, 0 if that is
	// unknown.
	heapLimit int64
	// elastiCacheCA is the content of --elasticache-ca-file, "" if it is not set.
	elastiCacheCA string
	// prometheus is --prometheus, "" if it is not set.
	prometheus string
	// clusterID is --cluster-id, "" if it is not set.
	clusterID string
	// policyFile is --policy, "" if it is not set.
	policyFile string
	// stateDir is --state-dir, "" if it is not set.
	stateDir string
	// keyPeriod is --integrity-key-period.
	keyPeriod time.Duration
	log       zap.Options
}

// parseOptions parses flags and environment variables. Errors contain the invalid value
// and the accepted format.
func parseOptions(args []string, env func(string) string) (options, error) {
	var o options
	fs := flag.NewFlagSet("manager", flag.ContinueOnError)
	fs.StringVar(&o.metricsAddress, "metrics-bind-address", "0", "Address of the metrics endpoint, for example :8443; 0 disables it.")
	fs.BoolVar(&o.metricsSecure, "metrics-secure", true, "Serve metrics over HTTPS, to clients that are authorized to get /metrics.")
	fs.StringVar(&o.healthAddress, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz; 0 disables them.")
	fs.BoolVar(&o.leaderElect, "leader-elect", false, "Reconcile only while holding the leader lease.")
	fs.IntVar(&o.workers, "max-concurrent-reconciles", 8, "Maximum number of concurrent reconciles.")
	fs.IntVar(&o.probeWorkers, "max-concurrent-probes", 64, "Maximum number of concurrent probes of caches.")
	caFile := fs.String("elasticache-ca-file", "", "PEM file with the CA bundle to verify ElastiCache nodes with, for example for an emulator of AWS. Default: the system's CA bundle.")
	fs.StringVar(&o.policyFile, "policy", "", "File with what FlagCaches may request, which is read again when it changes. Without it, or while it does not exist, the defaults of docs/policy.md apply.")
	fs.StringVar(&o.prometheus, "prometheus", "", "Address of a Prometheus that every FlagCache may query, for example http://prometheus.monitoring:9090. Others need the policy.")
	fs.StringVar(&o.clusterID, "cluster-id", "", "Name of the cluster in the IDs and tags of its resources in AWS, unique among the clusters that share an AWS account. Default: the UID of namespace kube-system, which the operator needs the permission to get.")
	fs.StringVar(&o.stateDir, "state-dir", "", "Directory that survives a restart of the container, in which flags are marked while they are validated: those that ended the operator are not validated again. Default: none are marked.")
	fs.DurationVar(&o.keyPeriod, "integrity-key-period", 24*time.Hour, "Time between the two steps in which the key that authenticates values in Redis is replaced: the next key is announced, and then used. At least 10m; 0 keeps the key.")
	o.log.BindFlags(fs)
	if err := fs.Parse(args); err != nil {
		return options{}, err
	}
	o.ownNamespace = cmp.Or(env(envPodNamespace), "flagcache-system")
	o.flagServiceImage = cmp.Or(env(envFlagServiceImage), "ghcr.io/flagcache/flag-service:"+version)
	if err := o.setHeapLimit(env(envMemoryLimit)); err != nil {
		return options{}, err
	}
	if err := o.setNamespaces(env(envWatchNamespace)); err != nil {
		return options{}, err
	}
	if o.workers < 1 || o.probeWorkers < 1 {
		return options{}, fmt.Errorf("--max-concurrent-reconciles and --max-concurrent-probes must be at least 1")
	}
	if o.keyPeriod != 0 && o.keyPeriod < minKeyPeriod {
		return options{}, fmt.Errorf("--integrity-key-period must be 0 or at least %s, in which every kubelet has updated the files of its pods", minKeyPeriod)
	}
	if problems := validation.IsValidLabelValue(o.clusterID); len(problems) > 0 {
		return options{}, fmt.Errorf("--cluster-id: %q is not valid: %s", o.clusterID, problems[0])
	}
	if err := o.setElastiCacheCA(*caFile); err != nil {
		return options{}, err
	}
	return o, checkPrometheus(o.prometheus)
}

// checkPrometheus reports an address that no FlagCache can have.
func checkPrometheus(address string) error {
	u, err := url.Parse(address)
	if address != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "") {
		return errors.New("--prometheus must be an address such as http://prometheus.monitoring:9090, without user, query and fragment")
	}
	return nil
}

// setHeapLimit leaves a tenth of the memory limit to what is not the Go heap: the program
// and the buffers of the kernel.
func (o *options) setHeapLimit(limit string) error {
	if limit == "" {
		return nil
	}
	bytes, err := strconv.ParseInt(limit, 10, 64)
	if err != nil || bytes < 1 {
		return fmt.Errorf("%s: %q is not a number of bytes", envMemoryLimit, limit)
	}
	o.heapLimit = bytes / 10 * 9
	return nil
}

func (o *options) setElastiCacheCA(file string) error {
	if file == "" {
		return nil
	}
	bundle, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("--elasticache-ca-file: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(bundle) {
		return fmt.Errorf("--elasticache-ca-file: %s contains no PEM certificate, which starts with -----BEGIN CERTIFICATE-----", file)
	}
	o.elastiCacheCA = string(bundle)
	return nil
}

func (o *options) setNamespaces(list string) error {
	for _, name := range strings.Split(list, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
			return fmt.Errorf("%s: %q is not a valid namespace name: %s", envWatchNamespace, name, problems[0])
		}
		o.namespaces = append(o.namespaces, name)
	}
	return nil
}
