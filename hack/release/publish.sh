#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# publish.sh VERSION: signs the checksums of what build.sh built, with the identity of the
# workflow, and publishes it as the GitHub release of an existing tag.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=${1:?usage: publish.sh VERSION}
dist=${DIST:-dist}

(cd "$dist/release" && sha256sum --check --quiet checksums.txt)
cosign sign-blob --yes --bundle "$dist/release/checksums.txt.sigstore.json" "$dist/release/checksums.txt"
options=(--verify-tag --title "$version" --notes-file "$dist/notes.md")
if [[ $version == *-* ]]; then
	options+=(--prerelease)
fi
gh release create "$version" "${options[@]}" "$dist"/release/*
