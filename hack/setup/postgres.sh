#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Installs PostgreSQL if it is missing.
set -euo pipefail
. "$(dirname "$0")/install.sh"

# The tests find the server in PATH, or in the installation directory of Debian.
present() {
	command -v postgres >/dev/null && command -v initdb >/dev/null && return
	compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}

ensure_installed PostgreSQL postgresql postgresql "PostgreSQL 13 or later so that postgres and initdb are in PATH"
echo "PostgreSQL is installed."
