// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

// Command links checks that all relative links in the Markdown files tracked by git
// refer to a file of the repository, and their fragments to a heading in that file.
//
//	links REPOSITORY
//
// It prints each broken link as FILE:LINE: TARGET: REASON, and exits with 1 if there
// are any. External links are not checked.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: links REPOSITORY")
		os.Exit(2)
	}
	broken, err := check(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "links:", err)
		os.Exit(2)
	}
	for _, line := range broken {
		fmt.Println(line)
	}
	if len(broken) > 0 {
		os.Exit(1)
	}
}

// check returns the broken links of the repository at root.
func check(root string) ([]string, error) {
	files, err := markdownFiles(root)
	if err != nil {
		return nil, err
	}
	var broken []string
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return nil, fmt.Errorf("reading a page: %w", err)
		}
		for _, l := range linksOf(string(text)) {
			if reason := problem(root, file, l.target); reason != "" {
				broken = append(broken, fmt.Sprintf("%s:%d: %s: %s", file, l.line, l.target, reason))
			}
		}
	}
	return broken, nil
}

// markdownFiles lists the tracked Markdown files, relative to root.
func markdownFiles(root string) ([]string, error) {
	list, err := exec.Command("git", "-C", root, "ls-files", "-z", "*.md").Output()
	if err != nil {
		return nil, fmt.Errorf("listing the tracked pages: %w", err)
	}
	return strings.FieldsFunc(string(list), func(r rune) bool { return r == 0 }), nil
}

type link struct {
	line   int
	target string
}

var (
	inlineLink = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	codeSpan   = regexp.MustCompile("`[^`]*`")
	scheme     = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
)

// linksOf returns the relative inline links of a page, except those in code.
func linksOf(text string) []link {
	var links []link
	eachProseLine(text, func(number int, line string) {
		for _, match := range inlineLink.FindAllStringSubmatch(codeSpan.ReplaceAllString(line, ""), -1) {
			if !scheme.MatchString(match[1]) {
				links = append(links, link{line: number, target: match[1]})
			}
		}
	})
	return links
}

// eachProseLine calls visit for each line outside of fenced code, with its number
// starting at 1.
func eachProseLine(text string, visit func(number int, line string)) {
	fenced := false
	for i, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
			continue
		}
		if !fenced {
			visit(i+1, line)
		}
	}
}

// problem returns why a link is broken, or an empty string if it is not.
func problem(root, file, target string) string {
	path, fragment, _ := strings.Cut(target, "#")
	page := filepath.Join(root, file)
	if path != "" {
		page = filepath.Join(root, filepath.Dir(file), path)
	}
	if _, err := os.Stat(page); err != nil {
		return "no such file"
	}
	if fragment == "" || filepath.Ext(page) != ".md" {
		return ""
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err.Error()
	}
	if !anchors(string(text))[fragment] {
		return "no such heading"
	}
	return ""
}

// anchors returns the fragments that GitHub makes of a page's headings.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	seen := map[string]int{}
	eachProseLine(text, func(_ int, line string) {
		title := strings.TrimLeft(line, "#")
		if title == line || !strings.HasPrefix(title, " ") {
			return
		}
		anchor := anchorOf(strings.TrimSpace(title))
		repeated := seen[anchor]
		seen[anchor]++
		if repeated > 0 {
			anchor = fmt.Sprintf("%s-%d", anchor, repeated)
		}
		found[anchor] = true
	})
	return found
}

// anchorOf follows GitHub's rule: lower case, spaces become hyphens, and of the
// rest only letters, digits, hyphens and underscores stay.
func anchorOf(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		default:
			return -1
		}
	}, title)
}
