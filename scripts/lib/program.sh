# What scripts/demo and scripts/bench have in common: an optimised program, built here without anything that only tests need.
# Sourced, with $root set; sets binary unless it is set already.
# shellcheck shell=bash disable=SC2154 # root is set by who sources this

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

have() {
	local tool
	for tool in "$@"; do
		command -v "$tool" >/dev/null || return 1
	done
}

can_build() {
	have cc cmake ninja pkg-config && pkg-config --exists libcurl json-c libmicrohttpd libcrypto libsystemd zlib
}

program() {
	local build=$root/build/program
	if ! have /usr/bin/python3 openssl || { [ -z "${binary:-}" ] && ! can_build; }; then
		[ "$(id -u)" = 0 ] || die "tools are missing; run: sudo $root/scripts/bootstrap --build-only"
		"$root/scripts/bootstrap" --build-only
	fi
	if [ -z "${binary:-}" ]; then
		echo "Building the program (log: build/program/log) …"
		mkdir -p "$build"
		{
			cd "$root" && cmake --preset release -B "$build" -DBUILD_TESTING=OFF &&
				cmake --build "$build" --target evenkeel -j "${EK_JOBS:-$(nproc)}"
		} >"$build/log" 2>&1 || {
			tail -n 30 "$build/log" >&2
			die "the build failed; its log is $build/log"
		}
		binary=$build/agent/app/evenkeel
	fi
	[ -x "$binary" ] || die "no program \"$binary\""
}
