#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Installs Prometheus with the system's package manager if it is missing, or explains why
# it cannot. Prints nothing if there is nothing to do. Tests start their own servers,
# so the service that a package starts is stopped again.
set -euo pipefail

refuse() {
	echo "prometheus is required and cannot be installed automatically: $1" >&2
	exit 1
}

# as_root runs a command as root: directly, or through sudo, which prompts for a
# password only in a terminal.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
		sudo "$@"
	else
		refuse "installing a package requires root. Run as root: apt-get install prometheus"
	fi
}

install_with_apt() {
	echo "Installing prometheus with apt-get ..."
	# A failing update, for example of an unrelated package source, may not matter.
	as_root apt-get update -q >/dev/null || true
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends prometheus >/dev/null ||
		refuse "apt-get install prometheus failed"
	stop_service
}

stop_service() {
	if [ -d /run/systemd/system ]; then
		as_root systemctl disable --now prometheus >/dev/null 2>&1 || true
	elif [ -x /etc/init.d/prometheus ]; then
		as_root /etc/init.d/prometheus stop >/dev/null 2>&1 || true
	fi
}

command -v prometheus >/dev/null && exit 0

if command -v apt-get >/dev/null; then
	install_with_apt
elif command -v brew >/dev/null; then
	echo "Installing prometheus with Homebrew ..."
	brew install --quiet prometheus || refuse "brew install prometheus failed"
else
	refuse "neither apt-get nor Homebrew is available. Install Prometheus 2.42 or later so that prometheus is in PATH"
fi

command -v prometheus >/dev/null || refuse "the package was installed, but prometheus is not in PATH"
echo "prometheus is installed: $(prometheus --version 2>&1 | head -n 1)"
