// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package bodies

import (
	"container/list"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// version identifies an object in one version.
type version struct {
	uid             types.UID
	resourceVersion string
}

func versionOf(o client.Object) version { return version{o.GetUID(), o.GetResourceVersion()} }

// kept has the bodies that were read last, within a limit of bytes.
type kept struct {
	limit int

	mu     sync.Mutex
	bytes  int
	byUID  map[types.UID]*list.Element
	recent list.List
}

// entry is a kept body.
type entry struct {
	version
	object client.Object
	size   int
}

// get returns the body of an object in a version, nil if it is not kept. It must not be
// modified.
func (k *kept) get(v version) client.Object {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.byUID[v.uid]
	if e == nil || e.Value.(entry).version != v {
		return nil
	}
	k.recent.MoveToFront(e)
	return e.Value.(entry).object
}

// put keeps a body instead of another version of the object, and those that were not
// used for longest no longer.
func (k *kept) put(o client.Object, size int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byUID == nil {
		k.byUID = map[types.UID]*list.Element{}
	}
	if before := k.byUID[o.GetUID()]; before != nil {
		k.remove(before)
	}
	k.byUID[o.GetUID()] = k.recent.PushFront(entry{version: versionOf(o), object: o, size: size})
	for k.bytes += size; k.bytes > k.limit; {
		k.remove(k.recent.Back())
	}
}

func (k *kept) remove(e *list.Element) {
	removed := k.recent.Remove(e).(entry)
	delete(k.byUID, removed.uid)
	k.bytes -= removed.size
}
