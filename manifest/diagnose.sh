# What the kernel or the dynamic loader said of a program that could not start becomes one line that names what is missing
# here, and ends the script: 51 when this system cannot run it, 52 when a package would help. Part of the launcher and of
# the VM application, which define fail CODE TEXT.
# shellcheck shell=sh

# The package that brings a library to this distribution.
package_of() {
	# shellcheck disable=SC1091 # the distribution's own file
	family=$(. /etc/os-release 2>/dev/null && echo " ${ID-} ${ID_LIKE-} ")
	case "$1 $family" in
	libsystemd.so.*" debian "* | libsystemd.so.*" suse "*) echo libsystemd0 ;;
	libsystemd.so.*) echo systemd-libs ;;
	libssl.so.3*" debian "* | libcrypto.so.3*" debian "*) echo "libssl3t64 (before Debian 13 and Ubuntu 24.04: libssl3)" ;;
	libssl.so.3*" suse "* | libcrypto.so.3*" suse "*) echo libopenssl3 ;;
	libssl.so.3* | libcrypto.so.3*) echo openssl-libs ;;
	libz.so.*" debian "*) echo zlib1g ;;
	libz.so.*" suse "*) echo libz1 ;;
	libz.so.*) echo "zlib (RHEL 10: zlib-ng-compat)" ;;
	*) echo "the package that contains it" ;;
	esac
}

# diagnose CODE OUTPUT
diagnose() {
	case $2 in
	*"shared libraries: "*": cannot open"*)
		missing=${2##*shared libraries: }
		missing=${missing%%:*}
		fail 52 "this system has no $missing: install $(package_of "$missing")"
		;;
	*": version "*" not found"*)
		missing=${2#*: version ?}
		fail 51 "this system is too old, its libraries have no ${missing%%[!A-Za-z0-9_.]*}: Ubuntu 22.04, Debian 12, Azure Linux 3, RHEL 9 and later are supported"
		;;
	*"rror while loading shared libraries"*) fail 52 "the program cannot start: $(first_line "$2")" ;;
	esac
	case $1 in
	126) fail 51 "the program is not one that this machine ($(uname -m)) executes: $(first_line "$2")" ;;
	127) fail 51 "this system has not the dynamic loader of glibc for $(uname -m): it cannot run the program" ;;
	esac
	fail 51 "the program cannot start (exit code $1): $(first_line "$2")"
}

# What a command says goes into our one line; it may be long, so its first line is enough.
first_line() {
	printf '%s\n' "$1" | head -n 1 | cut -c 1-400
}
