// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package filewatch detects changes of files.
//
// It watches directories rather than files, because files are rarely written in
// place: a ConfigMap or Secret mount swaps the symlink ..data, an editor
// renames a new file over the old one. Notifications can be lost, limits on
// watches can be exhausted and directories can be replaced, so the files are
// polled slowly as well. Reading unchanged files must therefore be cheap and
// without effect.
package filewatch

import (
	"context"
	"log/slog"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settleDelay is the time to wait for further notifications after one: writing
// a file and swapping a mount cause several.
const settleDelay = 20 * time.Millisecond

// Watch calls read at the start, shortly after a change in one of the
// directories, when hint receives a value, and at every poll interval. It
// returns when ctx is done. A directory need not exist yet. hint may be nil.
func Watch(ctx context.Context, log *slog.Logger, dirs []string, poll time.Duration, hint <-chan struct{}, read func()) {
	events, closeWatcher := subscribe(log, dirs)
	defer closeWatcher()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		events.watch()
		read()
		select {
		case <-ctx.Done():
			return
		case <-hint:
		case <-ticker.C:
		case err := <-events.failed:
			log.Warn("notifications of file changes were lost", "error", err)
		case <-events.changed:
			if !events.drain(ctx) {
				return
			}
		}
	}
}

// subscription is a watcher on the directories, or empty if the system's limit
// of watches is reached.
type subscription struct {
	watcher *fsnotify.Watcher
	dirs    []string
	changed chan fsnotify.Event
	// failed receives an error when notifications were lost.
	failed chan error
}

func subscribe(log *slog.Logger, dirs []string) (s subscription, closeWatcher func()) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("cannot watch directories, polling instead", "directories", dirs, "error", err)
		return subscription{}, func() {}
	}
	return subscription{watcher: watcher, dirs: dirs, changed: watcher.Events, failed: watcher.Errors}, func() { _ = watcher.Close() }
}

// watch adds the directories again: a missing one may exist by now, another may
// have been replaced.
func (s subscription) watch() {
	for _, dir := range s.dirs {
		if s.watcher != nil {
			// A directory that cannot be watched is polled.
			_ = s.watcher.Add(dir)
		}
	}
}

// drain discards notifications for settleDelay. It returns false if ctx is
// done.
func (s subscription) drain(ctx context.Context) bool {
	timer := time.NewTimer(settleDelay)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-s.changed:
		}
	}
}
