# Compiling for a named architecture, this machine's or another. Sourced, with $root, die() and say() defined, and lib/apt.sh.
# shellcheck shell=bash disable=SC2034,SC2154 # set here, read by who sources this

architectures="amd64 arm64"

host_architecture() {
	case $(uname -m) in
	x86_64) echo amd64 ;;
	aarch64) echo arm64 ;;
	*) uname -m ;;
	esac
}

# As uname names it.
machine_of() {
	case $1 in
	amd64) echo x86_64 ;;
	arm64) echo aarch64 ;;
	*) echo "$1" ;;
	esac
}

# target ARCH: sets arch, machine, triplet, branch (flags that protect branches), cc and strip, and for
# another machine's architecture sysroot and toolchain, a file for CMake; these two are empty for this machine's.
target() {
	arch=$1
	machine=$(machine_of "$arch")
	case $arch in
	amd64) branch=-fcf-protection=full ;;
	arm64) branch=-mbranch-protection=standard ;;
	*) branch= ;;
	esac
	triplet=$machine-linux-gnu
	sysroot='' toolchain=''
	if [ "$arch" = "$(host_architecture)" ]; then
		cc=${CC:-cc} strip=${STRIP:-strip}
		return
	fi
	[[ " $architectures " = *" $arch "* ]] || die "no architecture \"$arch\": $architectures"
	cc=$triplet-gcc strip=$triplet-strip
	command -v "$cc" >/dev/null || die "$cc is missing: run scripts/bootstrap (Debian: gcc-${triplet/x86_64/x86-64})"
	sysroot=${EK_STATIC_CACHE:-$root/build/static-cache}/sysroot-$(host_codename)-$arch
	toolchain=$sysroot.cmake
}

# Headers and libraries of the other architecture, from the same release as the host's, so that both binaries need the same.
# Call with the lock of build-static held.
make_sysroot() {
	local pc
	[ -n "$sysroot" ] || return 0
	if [ ! -d "$sysroot" ]; then
		[ "${1-}" != offline ] || die "no $sysroot: run scripts/build-static --arch $arch --download-only where there is a network"
		say "unpacking headers and libraries for $arch"
		write_source_list "$(host_codename)" deb "$root/build/static/apt-$arch/sources.d"
		other_archive "$root/build/static/apt-$arch/sources.d" "$arch"
		unpack_packages "$root/build/static/apt-$arch" "$sysroot" "$arch" libc6-dev libssl-dev libsystemd-dev zlib1g-dev
		# Names of what is inside, from where the file is, so that pkg-config needs no notion of a sysroot: it would put that
		# before our prefix, too.
		# shellcheck disable=SC2016 # pkg-config's variable, not ours
		for pc in "$sysroot"/usr/lib/"$triplet"/pkgconfig/*.pc; do
			sed -i 's|=/usr|=${pcfiledir}/../../..|' "$pc"
		done
	fi
	cat >"$toolchain" <<-END
		set(CMAKE_SYSTEM_NAME Linux)
		set(CMAKE_SYSTEM_PROCESSOR $machine)
		set(CMAKE_C_COMPILER $cc)
		set(CMAKE_SYSROOT $sysroot)
		set(CMAKE_LIBRARY_ARCHITECTURE $triplet)
		set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
		set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY BOTH)
		set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)
		set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
		set(ENV{PKG_CONFIG_LIBDIR} $sysroot/usr/lib/$triplet/pkgconfig)
	END
}
