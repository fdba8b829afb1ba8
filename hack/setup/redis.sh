#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Installs redis-server if it is missing.
set -euo pipefail
. "$(dirname "$0")/install.sh"

present() {
	command -v redis-server >/dev/null
}

ensure_installed redis-server redis-server redis "Redis 7 or later so that redis-server is in PATH"
echo "redis-server is installed: $(redis-server --version)"
