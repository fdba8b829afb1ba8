#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Builds the elasticache-controller of AWS Controllers for Kubernetes (ACK):
#
#   hack/tools/ack/build.sh OUTPUT [SECONDS]
#
# The name of OUTPUT should be "controller", as in ACK's image, because client-go
# derives from it the field manager of all that the controller writes.
#
# ACK polls objects that are not in sync every 30 seconds, which is a constant. SECONDS
# replaces it, in a copy of the module that declares it; everything else is the code of
# the release. The build fails if the constant is not declared exactly once.
set -euo pipefail

out=${1:?usage: build.sh OUTPUT [SECONDS]}
seconds=${2:-}
case $out in /*) ;; *) out=$PWD/$out ;; esac
cd "$(dirname "$0")"

controller=github.com/aws-controllers-k8s/elasticache-controller
runtime=github.com/aws-controllers-k8s/runtime
go mod download $controller $runtime
version=$(go list -m -f '{{.Version}}' $controller)
flags=(-mod=readonly -trimpath -ldflags "-s -w -X $controller/pkg/version.GitVersion=$version")

if [ -n "$seconds" ]; then
	copy=$(mktemp -d)
	trap 'rm -rf "$copy"' EXIT
	original=$(go list -m -f '{{.Dir}}' $runtime)
	cp -R "$original" "$copy/runtime"
	chmod -R u+w "$copy/runtime" # modules are read-only
	file=pkg/requeue/requeue.go
	constant='DefaultRequeueAfterDuration time.Duration ='
	released="$constant 30 * time.Second"
	if [ "$(grep -cFx $'\t'"$released" "$original/$file")" != 1 ] || [ "$(grep -rF "$constant" "$original" | wc -l)" -ne 1 ]; then
		echo "The module $runtime does not declare exactly once: $released" >&2
		exit 1
	fi
	sed "s/$constant 30 /$constant $seconds /" "$original/$file" > "$copy/runtime/$file"
	cp go.mod go.sum "$copy"
	go mod edit -replace "$runtime=$copy/runtime" "$copy/go.mod"
	flags+=(-modfile "$copy/go.mod")
fi

CGO_ENABLED=0 go build "${flags[@]}" -o "$out" $controller/cmd/controller
