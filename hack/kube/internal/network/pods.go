// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	routeLocal = unix.RTN_LOCAL
	tableLocal = unix.RT_TABLE_LOCAL
)

// Pods gives pods their network namespaces and addresses.
type Pods struct {
	mu   sync.Mutex
	last netip.Addr
	used map[netip.Addr]bool
	made int
}

// NewPods returns the source of a node's pod networks.
func NewPods() *Pods {
	return &Pods{last: netip.MustParseAddr(NodeAddress), used: map[netip.Addr]bool{}}
}

// Pod is the network of one pod.
type Pod struct {
	// Address is the pod's address in the cluster.
	Address netip.Addr

	namespace netns.NsHandle
	link      string // the end of the pod's cable that is on the bridge
	pods      *Pods
}

// Add makes the network of a new pod.
func (p *Pods) Add() (*Pod, error) {
	address, number, err := p.take()
	if err != nil {
		return nil, err
	}
	pod := &Pod{Address: address, namespace: netns.None(), link: fmt.Sprintf("pod%d", number), pods: p}
	if err := pod.build(); err != nil {
		return nil, errors.Join(err, pod.Remove())
	}
	return pod, nil
}

// take returns an address that no pod has. It cycles through the whole range before
// it uses an address again, so that a late packet does not reach the wrong pod.
func (p *Pods) take() (netip.Addr, int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address := p.last.Next(); address != p.last; address = address.Next() {
		if !podRange.Contains(address.Next()) { // the last one is for broadcast
			address = netip.MustParseAddr(NodeAddress)
			continue
		}
		if !p.used[address] {
			p.used[address] = true
			p.last = address
			p.made++
			return address, p.made, nil
		}
	}
	return netip.Addr{}, 0, fmt.Errorf("all addresses of %s are in use", podRange)
}

func (p *Pod) build() error {
	if err := p.makeNamespace(); err != nil {
		return err
	}
	bridge, err := netlink.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("finding the bridge: %w", err)
	}
	attributes := netlink.NewLinkAttrs()
	attributes.Name = p.link
	attributes.MasterIndex = bridge.Attrs().Index
	cable := &netlink.Veth{LinkAttrs: attributes, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(p.namespace))}
	if err := netlink.LinkAdd(cable); err != nil {
		return fmt.Errorf("connecting the pod to the bridge: %w", err)
	}
	if err := netlink.LinkSetUp(cable); err != nil {
		return fmt.Errorf("starting the pod's connection: %w", err)
	}
	return p.configure()
}

// configure sets up the inside of the pod's namespace.
func (p *Pod) configure() error {
	inside, err := netlink.NewHandleAt(p.namespace)
	if err != nil {
		return fmt.Errorf("entering the pod's network: %w", err)
	}
	defer inside.Close()
	for _, name := range []string{"lo", "eth0"} {
		link, err := inside.LinkByName(name)
		if err != nil {
			return fmt.Errorf("finding %s of the pod: %w", name, err)
		}
		if name == "eth0" {
			address := &netlink.Addr{IPNet: &net.IPNet{IP: p.Address.AsSlice(), Mask: toIPNet(podRange).Mask}}
			if err := inside.AddrAdd(link, address); err != nil {
				return fmt.Errorf("giving the pod its address: %w", err)
			}
		}
		if err := inside.LinkSetUp(link); err != nil {
			return fmt.Errorf("starting %s of the pod: %w", name, err)
		}
	}
	if err := inside.RouteAdd(&netlink.Route{Gw: net.ParseIP(NodeAddress)}); err != nil {
		return fmt.Errorf("giving the pod its default route: %w", err)
	}
	return nil
}

// makeNamespace makes a network namespace that lives as long as the handle.
func (p *Pod) makeNamespace() error {
	result := make(chan error)
	go func() {
		// A thread that has changed its namespace must not run other goroutines:
		// it stays locked and ends with this one.
		runtime.LockOSThread()
		handle, err := netns.New()
		if err != nil {
			result <- fmt.Errorf("making the pod's network namespace: %w", err)
			return
		}
		p.namespace = handle
		allowLowPorts()
		result <- nil
	}()
	return <-result
}

// allowLowPorts lets every user in the current network namespace listen on ports
// below 1024, as container runtimes do. Where /proc/sys is read-only, pods need
// higher ports and nothing else is lost.
func allowLowPorts() {
	_ = os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
}

// Remove takes the network away. It may be called again.
func (p *Pod) Remove() error {
	p.pods.mu.Lock()
	delete(p.pods.used, p.Address)
	p.pods.mu.Unlock()
	if link, err := netlink.LinkByName(p.link); err == nil {
		if err := netlink.LinkDel(link); err != nil {
			return fmt.Errorf("disconnecting the pod from the bridge: %w", err)
		}
	}
	if p.namespace.IsOpen() {
		if err := p.namespace.Close(); err != nil {
			return fmt.Errorf("closing the pod's network namespace: %w", err)
		}
	}
	return nil
}

// Enter moves the calling thread into the pod's network. The caller has locked
// its goroutine to the thread and never unlocks it.
func (p *Pod) Enter() error {
	if err := netns.Set(p.namespace); err != nil {
		return fmt.Errorf("entering the pod's network: %w", err)
	}
	return nil
}

// Dial connects from inside the pod to an address there, as port-forward does.
func (p *Pod) Dial(address string) (net.Conn, error) {
	type result struct {
		connection net.Conn
		err        error
	}
	results := make(chan result)
	go func() {
		runtime.LockOSThread() // ends with this goroutine, see makeNamespace
		if err := p.Enter(); err != nil {
			results <- result{err: err}
			return
		}
		connection, err := net.Dial("tcp4", address)
		results <- result{connection, err}
	}()
	r := <-results
	return r.connection, r.err
}
