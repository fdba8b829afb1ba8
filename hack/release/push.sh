#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# push.sh [TAG]: copies the images that build.sh built to the registry, by digest alone, or
# with a tag. The release tags them once they are signed.
#
# REGISTRY is the registry with the path before the images' names. With REGISTRY_TOKEN,
# logs in as REGISTRY_USER first. In a workflow, the digests are outputs of the step.
set -euo pipefail
cd "$(dirname "$0")/../.."
registry=${REGISTRY:-ghcr.io/flagcache}
dist=${DIST:-dist}
tag=${1:-}

if [ -n "${REGISTRY_TOKEN:-}" ]; then
	docker login "${registry%%/*}" --username "$REGISTRY_USER" --password-stdin <<<"$REGISTRY_TOKEN"
fi
for image in manager flag-service; do
	reference=$(cd hack/tools/supplychain && go run ./images push "$OLDPWD/$dist/images/$image" "$registry/$image${tag:+:$tag}")
	echo "$reference"
	if [ -n "${GITHUB_OUTPUT:-}" ]; then
		echo "$image=${reference#*@}" >>"$GITHUB_OUTPUT"
	fi
done
