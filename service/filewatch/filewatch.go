// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Package filewatch says when it is worth looking at files again.
//
// It watches directories rather than files, because what matters is rarely
// written in place: a ConfigMap or Secret mount swaps the symlink ..data, an
// editor renames a new file over the old one. Notifications can be lost, limits
// on watches can be used up and directories can be replaced, so there is a slow
// poll besides. A look at files that have not changed must therefore be cheap
// and without consequence.
package filewatch

import (
	"context"
	"log/slog"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long to wait after a notification for the ones that follow it:
// writing a file and swapping a mount cause several.
const settle = 20 * time.Millisecond

// Watch looks at once, shortly after something changed in one of the
// directories, when hint has something, and every poll. It returns when ctx is
// done. A directory need not exist yet. A nil hint is never used.
func Watch(ctx context.Context, log *slog.Logger, dirs []string, poll time.Duration, hint <-chan struct{}, look func()) {
	events, closeWatcher := subscribe(log, dirs)
	defer closeWatcher()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		events.watch()
		look()
		select {
		case <-ctx.Done():
			return
		case <-hint:
		case <-ticker.C:
		case err := <-events.failed:
			log.Warn("notifications of changed files were lost", "error", err)
		case <-events.changed:
			if !events.drain(ctx) {
				return
			}
		}
	}
}

// subscription is a watcher on the directories, or nothing where the system has
// no more watches to give.
type subscription struct {
	watcher *fsnotify.Watcher
	dirs    []string
	changed chan fsnotify.Event
	// failed says that notifications were lost.
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

// watch asks for notifications again: a directory that was absent may be there,
// one that was replaced is another.
func (s subscription) watch() {
	for _, dir := range s.dirs {
		if s.watcher != nil {
			// What cannot be watched is polled.
			_ = s.watcher.Add(dir)
		}
	}
}

// drain takes further notifications until there are none for a moment; it is
// false when ctx is done.
func (s subscription) drain(ctx context.Context) bool {
	timer := time.NewTimer(settle)
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
