#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Installs Node.js and npm if they are missing.
set -euo pipefail
. "$(dirname "$0")/install.sh"

present() {
	command -v node >/dev/null && command -v npm >/dev/null
}

ensure_installed npm npm node "Node.js 20 or later with npm so that both are in PATH"
echo "Node.js is installed: $(node --version), npm $(npm --version)"
