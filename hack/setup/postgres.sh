#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Installs PostgreSQL with the system's package manager if it is missing, or explains why
# it cannot. Prints nothing if there is nothing to do. Tests start their own servers,
# so the service that a package starts is stopped again.
set -euo pipefail

refuse() {
	echo "PostgreSQL is required and cannot be installed automatically: $1" >&2
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
		refuse "installing a package requires root. Run as root: apt-get install postgresql"
	fi
}

# present reports whether the tests will find the server: in PATH, or in the
# installation directory of Debian.
present() {
	command -v postgres >/dev/null && command -v initdb >/dev/null && return
	compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}

install_with_apt() {
	echo "Installing postgresql with apt-get ..."
	# A failing update, for example of an unrelated package source, may not matter.
	as_root apt-get update -q >/dev/null || true
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends postgresql >/dev/null ||
		refuse "apt-get install postgresql failed"
	stop_service
}

stop_service() {
	if [ -d /run/systemd/system ]; then
		as_root systemctl disable --now postgresql >/dev/null 2>&1 || true
	elif [ -x /etc/init.d/postgresql ]; then
		as_root /etc/init.d/postgresql stop >/dev/null 2>&1 || true
	fi
}

present && exit 0

if command -v apt-get >/dev/null; then
	install_with_apt
elif command -v brew >/dev/null; then
	echo "Installing postgresql with Homebrew ..."
	brew install --quiet postgresql || refuse "brew install postgresql failed"
else
	refuse "neither apt-get nor Homebrew is available. Install PostgreSQL 13 or later so that postgres and initdb are in PATH"
fi

present || refuse "the package was installed, but postgres and initdb were not found"
echo "PostgreSQL is installed."
