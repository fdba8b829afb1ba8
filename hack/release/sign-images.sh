#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# sign-images.sh: signs the images that push.sh copied to REGISTRY, each with those of all
# platforms, and attests the SBOM of each platform. cosign takes the identity of the
# workflow: there is no key.
set -euo pipefail
cd "$(dirname "$0")/../.."
registry=${REGISTRY:-ghcr.io/flagcache}
dist=${DIST:-dist}

# A line is manager DIGEST, or manager/linux/amd64 DIGEST.
while read -r image digest; do
	reference="$registry/${image%%/*}@$digest"
	if [[ $image == */* ]]; then
		platform=${image#*/}
		cosign attest --yes --type spdxjson \
			--predicate "$dist/release/${image%%/*}_${platform/\//_}.spdx.json" "$reference"
	else
		cosign sign --yes --recursive "$reference"
	fi
done <"$dist/images/digests.txt"
