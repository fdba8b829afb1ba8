#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# hack/fuzz.sh TIME COUNT SEED PACKAGE...: fuzzes COUNT of the packages' fuzz
# targets, each for TIME. COUNT is a number or "all"; which targets are fuzzed is
# drawn with SEED, so that runs with different seeds share the work. The inputs
# that are kept with a target are tried by every `go test`.
set -euo pipefail

time=$1 count=$2 seed=$3
shift 3
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# list writes one line for each target: its package and its name.
list() {
	local package
	for package in "$@"; do
		go test -vet=off -list '^Fuzz' "$package" | awk -v package="$package" '/^Fuzz/ { print package, $0 }'
	done
}

# draw passes on COUNT lines, in an order that depends on the seed alone.
draw() {
	if [ "$count" = all ]; then
		cat
		return
	fi
	local line
	while read -r line; do
		echo "$(printf '%s %s' "$seed" "$line" | cksum) $line"
	done | sort -n | head -n "$count" | cut -d' ' -f3-
}

# fuzz runs one target. When the time is up, Go 1.26's fuzzer now and then fails
# with nothing but "context deadline exceeded" (a race that Go 1.27 does not have);
# that is no finding: a finding is written to testdata as an input.
#
# Minimizing an input that is interesting but not failing could take the whole
# time, so it is limited to a second.
fuzz() {
	go test -vet=off -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 1s "$1" 2>&1 | tee "$log" && return
	grep -qx ' *context deadline exceeded' "$log" && ! grep -q 'Failing input written' "$log"
}

targets=$(list "$@")
if [ -z "$targets" ]; then
	echo "There is no fuzz target in $*." >&2
	exit 1
fi
drawn=$(draw <<<"$targets")
echo "Fuzzing $(wc -l <<<"$drawn") of $(wc -l <<<"$targets") targets, drawn with FUZZ_SEED=$seed, for $time each."
while read -r package target; do
	echo "$target in $package"
	fuzz "$package" "$target" </dev/null
done <<<"$drawn"
