// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package acklives

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/flagcache/flagcache/controllers/ack"
)

// recording is what happened in a life.
type recording struct {
	text strings.Builder
	// versions are the flattened versions of the current step by object, and last the last one of
	// the previous steps.
	versions map[string][]map[string]string
	last     map[string]map[string]string
	calls    []string
	// failed has the error code of the last call by action and ID.
	failed map[string]string
}

func newRecording() *recording {
	return &recording{versions: map[string][]map[string]string{}, last: map[string]map[string]string{}, failed: map[string]string{}}
}

// add adds a version of an object; nil content is that it does not exist.
func (r *recording) add(o client.Object, exists bool) {
	key := ack.KindOf(o).Kind + " " + o.GetName()
	version := map[string]string{"": "deleted"}
	if exists {
		version = flattened(o)
		r.delayEvents(version, key)
	}
	r.versions[key] = append(r.versions[key], version)
}

// delayEvents leaves the events of a group as they were while AWS works: an operation may end between
// the two calls of a sync that read the state and the events.
func (r *recording) delayEvents(version map[string]string, key string) {
	const events = "status.events"
	state := version["status.status"]
	if state == ack.GroupAvailable || state == ack.GroupCreateFailed {
		return
	}
	before := r.last[key]
	if n := len(r.versions[key]); n > 0 {
		before = r.versions[key][n-1]
	}
	delete(version, events)
	if was, ok := before[events]; ok {
		version[events] = was
	}
}

// call adds a call to AWS, unless it fails like the previous one of its action.
func (r *recording) call(action, id, code string) {
	if code == "" || r.failed[action+id] != code {
		r.calls = append(r.calls, strings.TrimSpace(fmt.Sprintf("%s %s %s", action, id, code)))
	}
	r.failed[action+id] = code
}

// withoutRetries drops the versions that differ from the ones before and after by the finalizer only,
// and repetitions of up to four versions: how often ACK retries depends on the timing.
func withoutRetries(versions []map[string]string) []map[string]string {
	var kept []map[string]string
	for _, next := range versions {
		if n := len(kept); n > 1 && maps.Equal(kept[n-2], next) && sameButFinalizer(kept[n-2], kept[n-1]) {
			kept = kept[:n-1]
			continue
		}
		kept = collapsed(append(kept, next), maps.Equal[map[string]string, map[string]string])
	}
	return kept
}

func sameButFinalizer(a, b map[string]string) bool {
	const finalizers = "metadata.finalizers"
	a, b = maps.Clone(a), maps.Clone(b)
	delete(a, finalizers)
	delete(b, finalizers)
	return maps.Equal(a, b)
}

// end ends a step.
func (r *recording) end(name string) {
	fmt.Fprintf(&r.text, "== %s\n", name)
	for _, key := range slices.Sorted(maps.Keys(r.versions)) {
		all := r.versions[key]
		if last, ok := r.last[key]; ok {
			all = slices.Concat([]map[string]string{last}, all)
		} else {
			all = slices.Concat([]map[string]string{{}}, all)
		}
		all = withoutRetries(all)
		for i := range all[1:] {
			fmt.Fprintf(&r.text, "%s\n%s", key, differences(all[i], all[i+1]))
		}
		r.last[key] = all[len(all)-1]
		if r.last[key][""] != "" {
			delete(r.last, key)
		}
	}
	for _, call := range r.calls {
		fmt.Fprintf(&r.text, "AWS %s\n", call)
	}
	r.versions, r.calls = map[string][]map[string]string{}, nil
}

// collapsed removes repetitions of up to four elements, because the number of retries depends on the
// timing.
func collapsed[T any](list []T, equal func(T, T) bool) []T {
	var kept []T
	for _, next := range list {
		kept = append(kept, next)
		for n := 1; n <= 4 && 2*n <= len(kept); n++ {
			if slices.EqualFunc(kept[len(kept)-n:], kept[len(kept)-2*n:len(kept)-n], equal) {
				kept = kept[:len(kept)-n]
				break
			}
		}
	}
	return kept
}

// differences returns the fields that have changed.
func differences(before, after map[string]string) string {
	var text strings.Builder
	names := map[string]bool{}
	for _, version := range []map[string]string{before, after} {
		for name := range version {
			names[name] = true
		}
	}
	if after[""] != "" {
		return "  " + after[""] + "\n"
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		value, exists := after[name]
		switch old, existed := before[name]; {
		case exists && !existed, exists && old != value:
			fmt.Fprintf(&text, "  %s: %s\n", name, value)
		case !exists && existed:
			fmt.Fprintf(&text, "  %s: removed\n", name)
		}
	}
	return text.String()
}

// flattened returns the fields of an object by path. Each condition is a field, and so is each list.
func flattened(o client.Object) map[string]string {
	text, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("writing %T: %v", o, err))
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		panic(fmt.Sprintf("reading %T: %v", o, err))
	}
	metadata := all["metadata"].(map[string]any)
	kept := map[string]any{
		"metadata": map[string]any{
			"generation": metadata["generation"], "annotations": metadata["annotations"], "finalizers": metadata["finalizers"],
			"deletionTimestamp": metadata["deletionTimestamp"],
		},
		"spec": all["spec"], "status": all["status"],
	}
	fields := map[string]string{}
	flatten("", kept, fields)
	return fields
}

func flatten(path string, value any, fields map[string]string) {
	switch value := value.(type) {
	case nil:
	case map[string]any:
		for key, element := range value {
			flatten(strings.TrimPrefix(path+"."+key, "."), element, fields)
		}
	case []any:
		flattenList(path, value, fields)
	default:
		fields[path] = normalized(path, fmt.Sprint(value))
	}
}

func flattenList(path string, list []any, fields map[string]string) {
	switch path {
	case "status.conditions":
		for _, element := range list {
			c := element.(map[string]any)
			kind := fmt.Sprint(c["type"])
			delete(c, "type")
			fields[path+"."+kind] = normalized(path, inline(c))
		}
	case "status.allowedScaleUpModifications", "status.allowedScaleDownModifications", "status.parameters":
		if len(list) > 0 {
			fields[path] = "some"
		}
	case "status.events", "status.subnets":
		var lines []string
		for _, element := range list {
			lines = append(lines, normalized(path, inline(element)))
		}
		slices.Sort(lines)
		fields[path] = strings.Join(lines, "; ")
	default:
		var lines []string
		for _, element := range list {
			lines = append(lines, normalized(path, inline(element)))
		}
		fields[path] = strings.Join(lines, "; ")
	}
}

// inline returns a value in one line.
func inline(value any) string {
	fields, ok := value.(map[string]any)
	if !ok {
		return fmt.Sprint(value)
	}
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		switch field := fields[key].(type) {
		case []any:
			var elements []string
			for _, element := range field {
				elements = append(elements, "{"+inline(element)+"}")
			}
			parts = append(parts, key+" "+strings.Join(elements, ""))
		case map[string]any:
			parts = append(parts, key+" {"+inline(field)+"}")
		case string:
			parts = append(parts, fmt.Sprintf("%s %q", key, field))
		default:
			parts = append(parts, fmt.Sprintf("%s %v", key, field))
		}
	}
	return strings.Join(parts, ", ")
}

// normalizations replace what differs from run to run.
var normalizations = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "REQUEST"},
	{regexp.MustCompile(`address "[^"]+", port \d+`), "address HOST, port PORT"},
}

func normalized(path, text string) string {
	for _, n := range normalizations {
		text = n.pattern.ReplaceAllString(text, n.by)
	}
	return text
}
