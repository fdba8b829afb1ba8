#!/bin/sh
# Builds kube: hack/kube/build.sh OUTPUT
#
# The first build compiles 2,850 packages and takes minutes, so it prints its
# progress. Later builds take seconds and print nothing. Only the first build needs
# network access, to the Go module proxy.
set -eu

out=${1:?usage: build.sh OUTPUT}
case $out in /*) ;; *) out=$PWD/$out ;; esac
cd "$(dirname "$0")"

if [ "$(go env GOOS)" != linux ]; then
	echo "kube runs on Linux only: pods are processes in Linux namespaces. Use another cluster, such as one made with kind." >&2
	exit 1
fi

# How many packages a build from nothing compiles, for the display only.
all=2850
version=$(go list -mod=readonly -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v1.}
package=k8s.io/component-base/version
flags="-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*}"
flags="$flags -X $package.gitTreeState=clean -X $package.gitCommit= -X $package.buildDate=1970-01-01T00:00:00Z"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
start=$(date +%s)

CGO_ENABLED=0 go build -v -mod=readonly -buildvcs=false -trimpath -tags grpcnotrace -ldflags "$flags" -o "$out" . 2>"$log" &
build=$!
trap 'kill $build 2>/dev/null; rm -f "$log"; exit 130' INT TERM

shown=0
while kill -0 $build 2>/dev/null; do
	sleep 1
	elapsed=$(($(date +%s) - start))
	if [ $((elapsed - shown)) -ge 10 ] && kill -0 $build 2>/dev/null; then
		shown=$elapsed
		compiled=$(grep -vc '^go: ' "$log" || true)
		printf 'building kube: %d s, %d of up to %d packages compiled\n' $elapsed "$compiled" $all
	fi
done
if ! wait $build; then
	grep -v '^[a-z0-9./_~-]*$' "$log" >&2 || true
	echo "building kube failed" >&2
	exit 1
fi
if [ $shown -gt 0 ]; then
	printf 'built kube in %d s\n' $(($(date +%s) - start))
fi
