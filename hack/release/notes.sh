#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# notes.sh VERSION: writes the notes of a release, with the changes since the previous
# tag that HEAD contains.
set -euo pipefail
version=${1:?usage: notes.sh VERSION}
repository=https://github.com/flagcache/flagcache

cat <<END
Install or update the operator:

    kubectl apply --server-side -f $repository/releases/download/$version/install.yaml

[Verifying what you run]($repository/blob/$version/SECURITY.md#verifying-what-you-run) has the commands that check the
signatures of the images and of checksums.txt.

## Changes

END
previous=$(git describe --tags --abbrev=0 --match 'v*' --exclude "$version" HEAD 2>/dev/null || true)
if [ -z "$previous" ]; then
	echo "This is the first release."
	exit
fi
git log --no-merges --reverse --format='- %s (%h)' "$previous..HEAD"
echo
echo "All changes: $repository/compare/$previous...$version"
