# A private apt: lists, cache and package states of its own below a directory, the host's sources and keys. Nothing on the
# host changes. What is fetched is unpacked only, never installed. Sourced, with die() and say() defined.
# shellcheck shell=bash

# The host's own entries for the release, for the type (deb or deb-src): same mirror, suites, keys. Other vendors' are left out.
write_source_list() {
	local codename=$1 type=$2 dir=$3 file
	mkdir -p "$dir"
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -f "$file" ] || continue
		awk -v codename="$codename" -v type="$type" '$1 == "deb" {
			suite = 2
			while ($suite ~ /^\[/ && $suite !~ /\]$/) suite++
			if ($suite ~ /\]$/) suite++
			suite++
			if (index($suite, codename) == 1) { sub(/^[ \t]*deb[ \t]/, type " "); sub(/arch=[^] \t]*/, ""); print }
		}' "$file"
	done >"$dir/own.list"
	for file in /etc/apt/sources.list.d/*.sources; do
		[ -f "$file" ] || continue
		grep -v '^#' "$file" | awk -v codename="$codename" -v type="$type" 'BEGIN { RS = ""; FS = "\n" } {
			own = 0; text = ""
			for (i = 1; i <= NF; i++) {
				if ($i ~ /^Suites:/ && index($i, " " codename)) own = 1
				if ($i ~ /^Types:/) $i = "Types: " type
				if ($i !~ /^(Architectures|Enabled):/) text = text $i "\n"
			}
			if (own) print text
		}'
	done >"$dir/own.sources"
	[ -s "$dir/own.list" ] || [ -s "$dir/own.sources" ] ||
		die "no apt source for $codename found under /etc/apt: cannot tell where its packages are"
}

# other_archive DIR ARCH: makes the sources in DIR those of another architecture. Debian has all on one mirror. Ubuntu has its
# first ones on one and the others on another; both have the same suites and keys. EK_OTHER_ARCHIVE names a mirror to use.
other_archive() {
	local dir=$1 arch=$2 file archive=${EK_OTHER_ARCHIVE:-} known='[^ ]*'
	if [ -z "$archive" ]; then
		# shellcheck disable=SC1091
		[ "$(. /etc/os-release && echo "$ID")" = ubuntu ] || return 0
		known='([a-z0-9.-]+\.)?ubuntu\.com/ubuntu(-ports)?/?'
		case $arch in
		amd64) archive=http://archive.ubuntu.com/ubuntu/ ;;
		*) archive=http://ports.ubuntu.com/ubuntu-ports/ ;;
		esac
	fi
	for file in "$dir/own.list" "$dir/own.sources"; do
		sed -E -i "/^(deb|URIs:)/s|https?://$known|$archive|" "$file"
	done
	grep -q "$archive" "$dir/own.list" "$dir/own.sources" ||
		die "cannot tell which mirror has $arch: name one in EK_OTHER_ARCHIVE, as http://ports.ubuntu.com/ubuntu-ports"
}

# The release that this host runs, as apt's sources name it: sid calls itself by the name of the release that it will become.
host_codename() {
	local codename releases
	# shellcheck disable=SC1091
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:?}")
	# shellcheck disable=SC2016 # apt's variables
	releases=$(apt-get indextargets --format '$(RELEASE) $(CODENAME)' 'Created-By: Packages')
	awk -v own="$codename" '$1 == own || $2 == own { found = own } $2 == "sid" { sid = $1 } END { print found ? found : sid ? sid : own }' \
		<<<"$releases"
}

# The Debian archive that this host takes its own packages from.
host_mirror() {
	local mirror
	# shellcheck disable=SC2016 # apt's variables
	mirror=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
		awk -v codename="$(host_codename)" '$1 == codename && $2 == "main" && $3 ~ /debian/ && !found { print $3; found = 1 }')
	[ -n "$mirror" ] || die "no Debian mirror among this host's apt sources"
	echo "$mirror"
}

# private_apt DIR: sets apt to the options. Its sources are in DIR/sources.d.
private_apt() {
	local dir=$1
	mkdir -p "$dir/sources.d" "$dir/lists/partial" "$dir/cache/archives/partial"
	[ -e "$dir/status" ] || : >"$dir/status"
	apt=(-q=2 -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$dir/sources.d"
		-o "Dir::State=$dir" -o "Dir::State::Lists=$dir/lists" -o "Dir::State::status=$dir/status" -o "Dir::Cache=$dir/cache"
		-o "APT::Get::List-Cleanup=1" -o "APT::Sandbox::User=$(id -un)" -o "Acquire::Languages=none" -o "Acquire::Retries=3"
		-o "APT::Get::AllowUnauthenticated=false")
}

# unpack_packages DIR ROOT ARCH PACKAGE…: the packages for that architecture and what they depend on, into a directory that
# must not exist yet. Every version is the newest of the sources in DIR/sources.d.
unpack_packages() {
	local dir=$1 target=$2 arch=$3 deb link
	shift 3
	private_apt "$dir"
	apt+=(-o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o "APT::Install-Recommends=false")
	apt-get "${apt[@]}" update >&2 || die "apt could not read the package lists for $arch (network, or not on this mirror)"
	# There is no system to keep whole, only files to have: what merely belongs to a bootable one is left out.
	apt-get "${apt[@]}" -y --download-only -o Debug::NoLocking=1 install "$@" >&2 ||
		die "apt could not fetch for $arch: $*"
	rm -rf -- "$target.new"
	mkdir -p "$target.new"
	# The release after Debian 12 has no directories /bin and /lib any more; packages of both must end in the same place.
	mkdir -p "$target.new"/usr/{bin,sbin,lib,lib64}
	ln -s usr/bin usr/sbin usr/lib usr/lib64 "$target.new/"
	for deb in "$dir"/cache/archives/*.deb; do
		dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$target.new" --no-same-owner ||
			die "cannot unpack $deb"
	done
	rm -f -- "$dir"/cache/archives/*.deb
	# An absolute link would lead out of the directory, to nothing or to the host's files.
	find "$target.new" -type l -lname '/*' | while IFS= read -r link; do
		ln -sfnr -- "$target.new$(readlink "$link")" "$link"
	done
	mv "$target.new" "$target"
}
