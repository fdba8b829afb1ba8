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
)

// Environment of loadtest: the names that OFREP's clients use, so that what an
// application is given does for a test, too. Credentials belong here and not in
// an argument, which every process of the machine can read.
const (
	envOFREPEndpoint = "OFREP_ENDPOINT"
	envOFREPHeaders  = "OFREP_HEADERS"
)

// loadtestCommand is a parsed command line of loadtest.
type loadtestCommand struct {
	loadtest.Options
	limits     loadtest.Limits
	consistent bool
	output     string
	reportFile string
}

// runLoadtest tests a flag service, and exits with 1 if it broke a limit.
func runLoadtest(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	command, err := parseLoadtest(args, environ, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		_, _ = fmt.Fprintln(stderr, "flag-service loadtest:", err)
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
		_, _ = fmt.Fprintln(stderr, "flag-service loadtest:", err)
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
	fs.IntVar(&c.Connections, "concurrency", 50, "requests under way at a time, at the most")
	fs.DurationVar(&c.Duration, "duration", 30*time.Second, "how long requests are sent")
	fs.Float64Var(&c.Rate, "rate", 0, "requests due in a second, whatever became of those before; 0 is as many as are answered")
	fs.IntVar(&c.Users, "users", 1000, "evaluation contexts that are made up")
	fs.StringVar(&contexts, "contexts", "", "`FILE` with a JSON array of evaluation contexts to use instead")
	fs.DurationVar(&c.Timeout, "timeout", 10*time.Second, "bound of one request")
	fs.Func("mix", "weights of static, targeted and bulk evaluations (default 70/20/10)", c.setMix)
	fs.Uint64Var(&c.Seed, "seed", 0, "makes the order of requests; the same seed asks the same")
	fs.BoolVar(&c.consistent, "consistent", false, "an answer that differs from a revision's first one to the same question is an error; for flags that do not change")
	fs.Float64Var(&c.limits.ErrorRate, "max-error-rate", 0.001, "largest share of requests that may fail")
	fs.DurationVar(&c.limits.P95, "p95", 0, "limit of the 95th percentile of latency; 0 is none")
	fs.DurationVar(&c.limits.P99, "p99", 0, "limit of the 99th percentile of latency; 0 is none")
	fs.StringVar(&c.output, "output", "text", "text or json")
	fs.StringVar(&c.reportFile, "report-file", "", "`FILE` to write the report to as JSON as well, such as /dev/termination-log")
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

// parseWithOne parses flags before and after at most one other argument.
func parseWithOne(fs *flag.FlagSet, args []string) (one string, err error) {
	if err := fs.Parse(args); err != nil || fs.NArg() == 0 {
		return "", err
	}
	one = fs.Arg(0)
	if err := fs.Parse(fs.Args()[1:]); err != nil {
		return "", err
	}
	if fs.NArg() > 0 {
		return "", fmt.Errorf("there is one URL, and %q is too much", fs.Arg(0))
	}
	return one, nil
}

func (c *loadtestCommand) check() error {
	switch {
	case c.URL == "":
		return fmt.Errorf("there is no URL: give one as an argument or in %s", envOFREPEndpoint)
	case c.output != "text" && c.output != "json":
		return fmt.Errorf("the output is %q; it must be text or json", c.output)
	case c.limits.ErrorRate < 0 || c.limits.ErrorRate > 1:
		return errors.New("max-error-rate is a share, from 0 to 1: 0.001 is 0.1 %")
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

// addHeaders reads headers as OFREP's clients do: name=value pairs between
// commas, each percent-encoded. The text is not repeated, for it holds
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

// write gives the report to whoever asked for it.
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
		_, err = fmt.Fprint(stdout, report)
	}
	return err
}

// terminalWidth is 0 if out is not a terminal.
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

// progressLine is a bar and the numbers so far, no wider than the terminal.
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
	_, _ = fmt.Fprintf(fs.Output(), `flag-service loadtest asks a flag service as its clients do and says how it answered.

Usage:
  flag-service loadtest [flags] [URL]

It exits with 1 if a limit is broken, if it is interrupted, or if the service cannot be asked at all.

Environment:
  %s  the URL, where none is given
  %s   headers to send, such as Authorization=Bearer%%20abc; several between commas

Flags:
`, envOFREPEndpoint, envOFREPHeaders)
	fs.PrintDefaults()
}
