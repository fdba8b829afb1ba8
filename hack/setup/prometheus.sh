#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Installs Prometheus with the system's package manager where it is missing,
# and says in one sentence why not where it cannot. Silent when there is nothing
# to do. The tests start servers of their own: the one that a package starts as a
# service is stopped again.
set -euo pipefail

refuse() {
	echo "prometheus is needed and cannot be installed from here: $1" >&2
	exit 1
}

# as_root runs a command as root: directly, or by a sudo that asks for nothing
# unless a person is there to answer.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
		sudo "$@"
	else
		refuse "installing a package takes root. Run as root: apt-get install prometheus"
	fi
}

install_with_apt() {
	echo "Installing prometheus with apt-get ..."
	# An update that fails, for some other source of packages, need not matter.
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
	refuse "neither apt-get nor Homebrew is here. Install Prometheus 2.42 or later so that prometheus is in PATH"
fi

command -v prometheus >/dev/null || refuse "the package was installed, yet prometheus is not in PATH"
echo "prometheus is installed: $(prometheus --version 2>&1 | head -n 1)"
