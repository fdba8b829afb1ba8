// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/flagcache/flagcache/hack/kube/internal/network"
)

// ttl is how many seconds an answer may be kept: a test sees a change soon.
const ttl = 1

// suffix is what the names of Services end in.
const suffix = ".svc." + network.Domain + "."

// DNS answers for the names of Services and of pods behind headless ones. It
// knows no other names, because pods cannot reach addresses outside the cluster.
type DNS struct {
	table *Table
}

// NewDNS returns a DNS server for the Services of the table.
func NewDNS(table *Table) *DNS { return &DNS{table: table} }

// Run serves on the address of the cluster's DNS until the context ends.
func (d *DNS) Run(ctx context.Context) error {
	address := net.JoinHostPort(network.DNSAddress, "53")
	ended := make(chan error, 2)
	for _, kind := range []string{"udp", "tcp"} {
		server := &dns.Server{Addr: address, Net: kind, Handler: d}
		stop := context.AfterFunc(ctx, func() { server.Shutdown() })
		defer stop()
		go func() { ended <- server.ListenAndServe() }()
	}
	if err := <-ended; err != nil {
		return fmt.Errorf("serving DNS: %w", err)
	}
	return ctx.Err()
}

// ServeDNS answers one query.
func (d *DNS) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	answer := new(dns.Msg)
	answer.SetReply(query)
	answer.Authoritative = true
	answer.RecursionAvailable = true // some resolvers complain otherwise
	if len(query.Question) == 1 {
		d.answer(query.Question[0], answer)
	} else {
		answer.Rcode = dns.RcodeFormatError
	}
	_ = w.WriteMsg(answer) // the client may have disconnected
}

func (d *DNS) answer(question dns.Question, answer *dns.Msg) {
	records, err := d.lookup(question.Name)
	switch {
	case errors.Is(err, errNoName):
		answer.Rcode = dns.RcodeNameError
	case err != nil:
		answer.Rcode = dns.RcodeServerFailure
	}
	for _, record := range records {
		// An alias answers questions of every type.
		if kind := record.Header().Rrtype; kind == question.Qtype || kind == dns.TypeCNAME || question.Qtype == dns.TypeANY {
			answer.Answer = append(answer.Answer, record)
		}
	}
}

// errNoName means that a name does not exist.
var errNoName = errors.New("no such name")

// lookup returns the records of a name: SERVICE.NAMESPACE.svc.DOMAIN or
// POD.SERVICE.NAMESPACE.svc.DOMAIN.
func (d *DNS) lookup(name string) ([]dns.RR, error) {
	rest, ok := strings.CutSuffix(strings.ToLower(name), suffix)
	if !ok {
		return nil, errNoName
	}
	labels := strings.Split(rest, ".")
	var pod string
	if len(labels) == 3 {
		pod, labels = labels[0], labels[1:]
	}
	if len(labels) != 2 {
		return nil, errNoName
	}
	s, err := d.table.services.Services(labels[1]).Get(labels[0])
	if apierrors.IsNotFound(err) {
		return nil, errNoName
	}
	if err != nil {
		return nil, fmt.Errorf("looking up a Service: %w", err)
	}
	return d.records(name, pod, s)
}

func (d *DNS) records(name, pod string, s *corev1.Service) ([]dns.RR, error) {
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName && pod == "":
		header := dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: ttl}
		return []dns.RR{&dns.CNAME{Hdr: header, Target: dns.Fqdn(s.Spec.ExternalName)}}, nil
	case hasClusterIP(s) && pod == "":
		return addresses(name, []string{s.Spec.ClusterIP}), nil
	case s.Spec.ClusterIP == corev1.ClusterIPNone:
		return d.headless(name, pod, s)
	}
	return nil, errNoName
}

// headless returns the addresses of a headless Service's ready pods, or of one.
func (d *DNS) headless(name, pod string, s *corev1.Service) ([]dns.RR, error) {
	slices, err := d.table.slicesOf(s)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, slice := range slices {
		for _, endpoint := range slice.Endpoints {
			named := endpoint.Hostname != nil && strings.EqualFold(*endpoint.Hostname, pod)
			if !isReady(endpoint) || pod != "" && !named {
				continue
			}
			for _, address := range endpoint.Addresses {
				found[address] = true
			}
		}
	}
	if len(found) == 0 {
		return nil, errNoName
	}
	// Many clients take the first address, so each answer has another one there.
	ips := sorted(found)
	rand.Shuffle(len(ips), func(i, j int) { ips[i], ips[j] = ips[j], ips[i] })
	return addresses(name, ips), nil
}

func addresses(name string, ips []string) []dns.RR {
	var records []dns.RR
	for _, ip := range ips {
		header := dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}
		records = append(records, &dns.A{Hdr: header, A: net.ParseIP(ip)})
	}
	return records
}
