// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net/netip"
	"testing"
)

func TestAddressesAreUsedAgainOnlyAfterAllOthers(t *testing.T) {
	pods := NewPods()
	first, _, err := pods.take()
	if err != nil {
		t.Fatal(err)
	}
	delete(pods.used, first) // the pod was deleted
	second, _, err := pods.take()
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Errorf("%s is used again at once", first)
	}
}

func TestAddressesRunOut(t *testing.T) {
	pods := NewPods()
	node, broadcast := netip.MustParseAddr(NodeAddress), netip.MustParseAddr("10.244.255.255")
	const all = 1<<16 - 3 // without those of the network, the node and the broadcast
	for range all {
		address, _, err := pods.take()
		if err != nil {
			t.Fatalf("after %d addresses: %v", len(pods.used), err)
		}
		if address == node || address == broadcast || !podRange.Contains(address) {
			t.Fatalf("a pod gets %s", address)
		}
	}
	if address, _, err := pods.take(); err == nil {
		t.Errorf("%s is given away twice", address)
	}
}
