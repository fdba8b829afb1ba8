#!/usr/bin/env bash
# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Installs PostgreSQL with the system's package manager where it is missing, and
# says in one sentence why not where it cannot. Silent when there is nothing to
# do. The tests start servers of their own: the one that a package starts as a
# service is stopped again.
set -euo pipefail

refuse() {
	echo "PostgreSQL is needed and cannot be installed from here: $1" >&2
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
		refuse "installing a package takes root. Run as root: apt-get install postgresql"
	fi
}

# present tells whether the tests will find the server: in PATH, or where Debian
# puts it.
present() {
	command -v postgres >/dev/null && command -v initdb >/dev/null && return
	compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}

install_with_apt() {
	echo "Installing postgresql with apt-get ..."
	# An update that fails, for some other source of packages, need not matter.
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
	refuse "neither apt-get nor Homebrew is here. Install PostgreSQL 13 or later so that postgres and initdb are in PATH"
fi

present || refuse "the package was installed, yet postgres and initdb are not to be found"
echo "PostgreSQL is installed."
