// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/flagcache/flagcache/service/loadtest"
	"github.com/flagcache/flagcache/service/printable"
)

// Environment variables of loadtest. They have the names that OFREP's clients
// use, so that an application's environment can be used for a test. Credentials
// are not passed as arguments, which every process on the machine can read.
const (
	envOFREPEndpoint = "OFREP_ENDPOINT"
	envOFREPHeaders  = "OFREP_HEADERS"
)

// loadtestCommand is the parsed command line of loadtest.
type loadtestCommand struct {
	loadtest.Options
	limits     loadtest.Limits
	consistent bool
	output     string
	reportFile string
}

// runLoadtest tests a flag service. It returns exitFailure if a limit is
// exceeded.
func runLoadtest(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	// What is on the terminal was partly written by the service under test.
	terminal := printable.Writer{To: stderr}
	command, err := parseLoadtest(args, environ, terminal)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		_, _ = fmt.Fprintln(terminal, "flag-service loadtest:", err)
		return exitUsage
	}
	if width := terminalWidth(stderr); width > 0 {
		command.Progress = func(p loadtest.Progress) { _, _ = fmt.Fprintf(stderr, "\r%s\x1b[K", progressLine(p, width)) }
	}
	report, err := loadtest.Run(ctx, command.Options)
	if command.Progress != nil {
		_, _ = fmt.Fprint(stderr, "\r\x1b[K")
	}
	if err == nil {
		report.Judge(command.limits)
		err = command.write(report, stdout)
	}
	if err != nil {
		_, _ = fmt.Fprintln(terminal, "flag-service loadtest:", printable.Text(err.Error(), printable.MaxMessage))
		return exitFailure
	}
	if !report.Passed {
		return exitFailure
	}
	return exitOK
}

func parseLoadtest(args, environ []string, stderr io.Writer) (c loadtestCommand, err error) {
	values := variablesOf(environ)
	c.Header = http.Header{}
	if err := addHeaders(c.Header, values[envOFREPHeaders]); err != nil {
		return c, err
	}
	contexts := ""
	fs := flag.NewFlagSet("flag-service loadtest", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { printLoadtestUsage(fs) }
	fs.IntVar(&c.Connections, "concurrency", 50, "number of connections, and the maximum number of concurrent requests")
	fs.DurationVar(&c.Duration, "duration", 30*time.Second, "time for which requests are sent")
	fs.Float64Var(&c.Rate, "rate", 0, "requests per second, scheduled independently of earlier ones; 0 is as many as are answered")
	fs.IntVar(&c.Users, "users", 1000, "number of generated evaluation contexts")
	fs.StringVar(&contexts, "contexts", "", "`FILE` with a JSON array of evaluation contexts to use instead of generated ones")
	fs.DurationVar(&c.Timeout, "timeout", 10*time.Second, "timeout of a request")
	fs.Func("mix", "weights of static, targeted and bulk evaluations (default 70/20/10)", c.setMix)
	fs.Uint64Var(&c.Seed, "seed", 0, "seed of the random order of requests")
	fs.BoolVar(&c.consistent, "consistent", false, "count answers that differ from the same revision's first answer to the same request as errors; for flags that do not change")
	fs.Float64Var(&c.limits.ErrorRate, "max-error-rate", 0.001, "maximum share of requests that may fail")
	fs.DurationVar(&c.limits.P95, "p95", 0, "maximum 95th percentile of latency; 0 is no limit")
	fs.DurationVar(&c.limits.P99, "p99", 0, "maximum 99th percentile of latency; 0 is no limit")
	fs.StringVar(&c.output, "output", "text", "output format: text or json")
	fs.StringVar(&c.reportFile, "report-file", "", "`FILE` to also write the report to as JSON, such as /dev/termination-log")
	if c.URL, err = parseWithOne(fs, args); err != nil {
		return c, err
	}
	if c.URL == "" {
		c.URL = values[envOFREPEndpoint]
	}
	if c.consistent {
		c.Answers = &loadtest.Consistent{}
	}
	if contexts != "" {
		err = c.readContexts(contexts)
	}
	return c, errors.Join(err, c.check())
}

// parseWithOne parses flags before and after at most one positional argument.
func parseWithOne(fs *flag.FlagSet, args []string) (one string, err error) {
	if err := fs.Parse(args); err != nil || fs.NArg() == 0 {
		return "", err
	}
	one = fs.Arg(0)
	if err := fs.Parse(fs.Args()[1:]); err != nil {
		return "", err
	}
	if fs.NArg() > 0 {
		return "", fmt.Errorf("unexpected argument %q: only one URL is accepted", fs.Arg(0))
	}
	return one, nil
}

func (c *loadtestCommand) check() error {
	switch {
	case c.URL == "":
		return fmt.Errorf("no URL: pass one as an argument or in %s", envOFREPEndpoint)
	case c.output != "text" && c.output != "json":
		return fmt.Errorf("the output is %q; it must be text or json", c.output)
	case c.limits.ErrorRate < 0 || c.limits.ErrorRate > 1:
		return errors.New("max-error-rate must be a share from 0 to 1, such as 0.001 for 0.1 %")
	}
	return nil
}

func (c *loadtestCommand) setMix(text string) error {
	m := &c.Mix
	if n, err := fmt.Sscanf(text, "%d/%d/%d", &m.Static, &m.Targeted, &m.Bulk); n != 3 || err != nil || m.Static+m.Targeted+m.Bulk < 1 {
		return errors.New("it must be like 70/20/10")
	}
	return nil
}

func (c *loadtestCommand) readContexts(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the contexts: %w", err)
	}
	if err := json.Unmarshal(data, &c.Contexts); err != nil {
		return fmt.Errorf("reading the contexts: %w", err)
	}
	return nil
}

// addHeaders parses headers like OFREP's clients: comma-separated name=value
// pairs, percent-encoded. Errors do not quote the text, which contains
// credentials.
func addHeaders(to http.Header, text string) error {
	if text == "" {
		return nil
	}
	for pair := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(pair, "=")
		name, nameErr := url.PathUnescape(strings.TrimSpace(name))
		value, valueErr := url.PathUnescape(strings.TrimSpace(value))
		if !ok || name == "" || nameErr != nil || valueErr != nil {
			return fmt.Errorf("%s (not shown) must be like X-API-Key=abc,Authorization=Bearer%%20abc", envOFREPHeaders)
		}
		to.Add(name, value)
	}
	return nil
}

func variablesOf(environ []string) map[string]string {
	values := map[string]string{}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		values[name] = value
	}
	return values
}

// write writes the report to the configured outputs.
func (c *loadtestCommand) write(report loadtest.Report, stdout io.Writer) error {
	encoded, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("encoding the report: %w", err)
	}
	if c.reportFile != "" {
		if err := os.WriteFile(c.reportFile, append(encoded, '\n'), 0o644); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
	}
	if c.output == "json" {
		_, err = fmt.Fprintf(stdout, "%s\n", encoded)
	} else {
		_, err = fmt.Fprint(printable.Writer{To: stdout}, report)
	}
	return err
}

// terminalWidth returns the width of the terminal out, 0 if it is not a
// terminal.
func terminalWidth(out io.Writer) int {
	file, ok := out.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// progressLine returns a progress bar with the numbers so far, no wider than
// the terminal.
func progressLine(p loadtest.Progress, width int) string {
	numbers := fmt.Sprintf(" %3.0f s of %.0f s  %d requests  %d errors", p.Elapsed.Seconds(), p.Duration.Seconds(), p.Requests, p.Errors)
	room := min(width-len(numbers)-3, 40)
	if room < 5 {
		return numbers[:max(0, min(len(numbers), width-1))]
	}
	done := int(float64(room) * float64(p.Elapsed) / float64(p.Duration))
	return "[" + strings.Repeat("=", done) + strings.Repeat(" ", room-done) + "]" + numbers
}

func printLoadtestUsage(fs *flag.FlagSet) {
	_, _ = fmt.Fprintf(fs.Output(), `flag-service loadtest sends evaluations to a flag service, as its clients do, and reports latencies and errors.

Usage:
  flag-service loadtest [flags] [URL]

It exits with 1 if a limit is exceeded, if it is interrupted, or if the service cannot be reached.

Environment:
  %s  the URL, unless it is passed as an argument
  %s   headers to send, comma-separated, such as Authorization=Bearer%%20abc

Flags:
`, envOFREPEndpoint, envOFREPHeaders)
	fs.PrintDefaults()
}
