#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Installs Prometheus if it is missing.
set -euo pipefail
. "$(dirname "$0")/install.sh"

present() {
	command -v prometheus >/dev/null
}

ensure_installed prometheus prometheus prometheus "Prometheus 2.42 or later so that prometheus is in PATH"
echo "prometheus is installed: $(prometheus --version 2>&1 | head -n 1)"
