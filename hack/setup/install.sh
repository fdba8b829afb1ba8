# Copyright The FlagCache Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by the scripts that install a server. They define a function `present`, which
# reports whether the tests find the server, and call ensure_installed.

# ensure_installed NAME APT_PACKAGE BREW_PACKAGE REQUIREMENT installs a package with the
# system's package manager unless the server is present, or explains why it cannot. It prints
# nothing if there is nothing to do. Tests start their own servers, so the service that a
# package starts is stopped again.
ensure_installed() {
	server=$1 requirement=$4
	if present; then
		exit 0
	fi
	if command -v apt-get >/dev/null; then
		install_with_apt "$2"
	elif command -v brew >/dev/null; then
		echo "Installing $3 with Homebrew ..."
		brew install --quiet "$3" || refuse "brew install $3 failed"
	else
		refuse "neither apt-get nor Homebrew is available. Install $requirement"
	fi
	present || refuse "the package was installed, but the server was not found"
}

refuse() {
	echo "$server is required and cannot be installed automatically: $1" >&2
	exit 1
}

install_with_apt() {
	echo "Installing $1 with apt-get ..."
	# A failing update, for example of an unrelated package source, may not matter.
	as_root "$1" apt-get update -q >/dev/null || true
	as_root "$1" env DEBIAN_FRONTEND=noninteractive apt-get install -qy -o DPkg::Lock::Timeout=300 --no-install-recommends "$1" >/dev/null ||
		refuse "apt-get install $1 failed"
	stop_service "$1"
}

# as_root PACKAGE COMMAND... runs a command as root: directly, or through sudo, which
# prompts for a password only in a terminal.
as_root() {
	local package=$1
	shift
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
		sudo "$@"
	else
		refuse "installing a package requires root. Run as root: apt-get install $package"
	fi
}

stop_service() {
	if [ -d /run/systemd/system ]; then
		as_root "$1" systemctl disable --now "$1" >/dev/null 2>&1 || true
	elif [ -x "/etc/init.d/$1" ]; then
		as_root "$1" "/etc/init.d/$1" stop >/dev/null 2>&1 || true
	fi
}
