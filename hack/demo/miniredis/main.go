// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command miniredis replaces redis-server in the demo on machines where that is not
// installed. It takes the path of a configuration file, from which it uses the port, and
// the password of requirepass or of the user default. It keeps its data in memory and supports enough of the Redis protocol for
// FlagCache; it is not Redis, and no test uses it. Of an ACL it knows the password alone.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		stop()
		fmt.Fprintf(os.Stderr, "miniredis: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: redis-server FILE")
	}
	settings, err := readSettings(args[0])
	if err != nil {
		return err
	}
	server := miniredis.NewMiniRedis()
	if password := passwordOf(settings); password != "" {
		server.RequireAuth(password)
	}
	if err := server.StartAddr(":" + settings["port"]); err != nil {
		return fmt.Errorf("listening on port %s: %w", settings["port"], err)
	}
	defer server.Close()
	fmt.Printf("miniredis is listening on port %s in place of redis-server\n", settings["port"])
	expireKeys(ctx, server)
	return nil
}

// passwordOf returns the password of the user default, "" if there is none.
func passwordOf(settings map[string]string) string {
	if rules, ok := strings.CutPrefix(settings["user"], "default on >"); ok {
		password, _, _ := strings.Cut(rules, " ")
		return password
	}
	return settings["requirepass"]
}

// readSettings reads a file with lines of the form "name value".
func readSettings(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer file.Close()
	settings := map[string]string{"port": "6379"}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, value, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		settings[name] = strings.Trim(value, `"`)
	}
	return settings, lines.Err()
}

// expireKeys advances the clock of miniredis, which expires keys only on request, until
// the context ends.
func expireKeys(ctx context.Context, server *miniredis.Miniredis) {
	const step = 100 * time.Millisecond
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			server.FastForward(step)
		}
	}
}
