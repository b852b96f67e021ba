# What package-zip and package-vm-application have in common: whose package of which version, and its binary. Sourced, with
# $root and usage() defined; sets version, publisher, type, out, binary and arch.
# shellcheck shell=bash disable=SC2034,SC2154 # set and read across the two files

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# The project's own values live in CMakeLists.txt alone.
project_default() {
	sed -nE "s/^set\($1 \"([^\"]*)\" CACHE.*/\1/p" "$root/CMakeLists.txt"
}

package_options() {
	version=$(sed -nE 's/^project\(evenkeel VERSION ([0-9.]+).*/\1/p' "$root/CMakeLists.txt")
	publisher=${EK_PUBLISHER:-$(project_default EK_PUBLISHER)}
	type=${EK_TYPE:-$(project_default EK_TYPE)}
	out=$root/build/packages
	binary=
	while [ $# -gt 0 ]; do
		case $1 in
		-h | --help) usage; exit 0 ;;
		--version | --out | --binary | --publisher | --type) [ $# -ge 2 ] || die "$1 needs a value" ;;
		*) usage >&2; die "unknown option $1" ;;
		esac
		declare -g "${1#--}=$2"
		shift 2
	done
	[[ $publisher =~ ^[A-Za-z0-9.]+$ && $type =~ ^[A-Za-z0-9.]+$ ]] ||
		die "publisher \"$publisher\", type \"$type\": letters, digits and dots only (the agent splits names at \"-\")"
	case $(uname -m) in
	x86_64) arch=amd64 ;;
	aarch64) arch=arm64 ;;
	*) arch=$(uname -m) ;;
	esac
}

# The binary given, or a new one.
package_binary() {
	if [ -z "$binary" ]; then
		# Held until the package is made, since the next build replaces the binary.
		mkdir -p "$root/build"
		exec 8>"$root/build/package.lock"
		flock 8
		binary=$("$root/scripts/build-release" --version "$version" --publisher "$publisher" --type "$type" | tail -1)
	fi
	[ -f "$binary" ] || die "no binary \"$binary\""
	mkdir -p "$out"
	out=$(cd "$out" && pwd)
}
