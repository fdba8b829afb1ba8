#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# build.sh VERSION: builds everything that a release consists of. What people download is
# in dist/release, the images are in dist/images, and dist/notes.md describes the release.
# It publishes nothing, and needs no credentials.
#
# DIST is another directory than dist, within the repository.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=${1:?usage: build.sh VERSION}
dist=${DIST:-dist}

if [[ ! $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]]; then
	echo "build.sh: $version is not a version such as v1.2.3 or v1.2.3-rc.1" >&2
	exit 2
fi
named=$(make --no-print-directory --silent manifest-version)
if [ "$named" != "$version" ]; then
	echo "build.sh: the manifests name $named: run make set-version VERSION=$version, and commit" >&2
	exit 1
fi

rm -rf "${dist:?}/release" "$dist/images" "$dist/programs"
make --no-print-directory images plugins VERSION="$version" DIST="$dist"

# Manifests name images by digest, and by version for their readers.
digest() { awk -v image="$1" '$1 == image { print $2 }' "$dist/images/digests.txt"; }
make --no-print-directory build-installer DIST="$dist" \
	IMG="ghcr.io/flagcache/manager:$version@$(digest manager)" \
	FLAG_SERVICE_IMG="ghcr.io/flagcache/flag-service:$version@$(digest flag-service)"
mv "$dist/install.yaml" "$dist/release/install.yaml"

created=$(git log -1 --format=%cI)
for directory in "$dist"/programs/*; do
	platform=$(basename "$directory")
	for program in "$directory"/*; do
		name=$(basename "$program" .exe)
		(cd hack/tools/supplychain && go run ./sbom -version "$version" -created "$created" "$OLDPWD/$program") >"$dist/release/${name}_$platform.spdx.json"
	done
done

hack/release/notes.sh "$version" >"$dist/notes.md"
cd "$dist/release"
sha256sum -- * >checksums.txt
