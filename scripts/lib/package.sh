# What package-zip and package-vm-application have in common: whose package of which version, and its binaries. Sourced, with
# $root and usage() defined; sets version, publisher, type, out, archs (a list) and binaries (a binary for each).
# shellcheck shell=bash disable=SC2034,SC2154 # set and read across the two files

say() {
	echo "${0##*/}: $*" >&2
}

die() {
	say "$*"
	exit 1
}

# shellcheck source=scripts/lib/cross.sh
. "$root/scripts/lib/cross.sh"
# shellcheck source=scripts/lib/tree.sh
. "$root/scripts/lib/tree.sh"
declare -A binaries=()
archs=()

# The project's own values live in CMakeLists.txt alone.
project_default() {
	sed -nE "s/^set\($1 \"([^\"]*)\" CACHE.*/\1/p" "$root/CMakeLists.txt"
}

package_options() {
	version=$(project_version)
	publisher=${EK_PUBLISHER:-$(project_default EK_PUBLISHER)}
	type=${EK_TYPE:-$(project_default EK_TYPE)}
	out=$root/build/packages
	while [ $# -gt 0 ]; do
		case $1 in
		-h | --help) usage; exit 0 ;;
		--version | --out | --binary | --publisher | --type | --arch) [ $# -ge 2 ] || die "$1 needs a value" ;;
		*) usage >&2; die "unknown option $1" ;;
		esac
		case $1 in
		--arch) add_architecture "$2" ;;
		--binary) add_binary "$2" ;;
		*) declare -g "${1#--}=$2" ;;
		esac
		shift 2
	done
	[[ $publisher =~ ^[A-Za-z0-9.]+$ && $type =~ ^[A-Za-z0-9.]+$ ]] ||
		die "publisher \"$publisher\", type \"$type\": letters, digits and dots only (the agent splits names at \"-\")"
	if [ ${#archs[@]} = 0 ]; then
		read -ra archs <<<"$architectures"
	fi
}

add_architecture() {
	local name=${1/#native/$(host_architecture)}
	[[ " $architectures $(host_architecture) " = *" $name "* ]] || die "architecture \"$1\": native, ${architectures// /, }"
	[[ " ${archs[*]} " = *" $name "* ]] || archs+=("$name")
}

# FILE, or ARCH=FILE.
add_binary() {
	local name=native file=$1
	if [[ $1 =~ ^([a-z0-9]+)=(.*)$ ]]; then
		name=${BASH_REMATCH[1]} file=${BASH_REMATCH[2]}
	fi
	[ -f "$file" ] || die "no binary \"$file\""
	add_architecture "$name"
	binaries[${name/#native/$(host_architecture)}]=$file
}

# The binaries given, and new ones of what is missing.
package_binaries() {
	local name
	# Held until the package is made, since the next build replaces the binaries.
	if [ ${#binaries[@]} != ${#archs[@]} ]; then
		mkdir -p "$root/build"
		exec 8>"$root/build/package.lock"
		flock 8
	fi
	for name in "${archs[@]}"; do
		[ -z "${binaries[$name]-}" ] || continue
		binaries[$name]=$("$root/scripts/build-release" --arch "$name" --version "$version" --publisher "$publisher" \
			--type "$type" | tail -1)
		[ -f "${binaries[$name]}" ] || die "scripts/build-release made no binary for $name"
	done
	mkdir -p "$out"
	out=$(cd "$out" && pwd)
}

# The end of a package's name: nothing when it is for all architectures.
package_suffix() {
	[ ${#archs[@]} -gt 1 ] || printf '%s' "-${archs[0]}"
}

# A shell script made of its template and manifest/diagnose.sh, without that one's head.
shell_script() {
	local text part
	text=$(cat "$root/manifest/$1")
	part=$(sed '1,/^$/d' "$root/manifest/diagnose.sh")
	printf '%s\n' "${text/@DIAGNOSE@/"$part"}"
}

# What the libraries inside the binaries are, as SPDX; nothing when scripts/build-static has built none of them here.
bill_of_materials() {
	local name
	for name in "${archs[@]}"; do
		if [ -e "$root/build/static/$name/complete" ]; then
			"$root/scripts/sbom" --package "$1" --version "$version" --prefix "$root/build/static/$name"
			return
		fi
	done
}
