# The source tree as it is, also what is not committed yet, for builds that need one of their own. Sourced, with $root set.
# shellcheck shell=bash disable=SC2154 # root is set by who sources this

# copy_tree DIR: every file that belongs to the project, into a directory that exists.
copy_tree() {
	(cd "$root" && if [ -d .git ] || [ -f .git ]; then
		git ls-files -co --exclude-standard -z | while IFS= read -r -d '' file; do
			[ ! -e "$file" ] || printf '%s\0' "$file"
		done
	else
		find . -path ./build -prune -o -type f -print0
	fi | tar --null -cf - -T -) | tar -xf - -C "$1"
}

# The one place where the version stands.
project_version() {
	sed -nE 's/^project\(evenkeel VERSION ([0-9.]+).*/\1/p' "$root/CMakeLists.txt"
}

# When what is made was last changed: SOURCE_DATE_EPOCH, else the last commit's time.
source_date() {
	echo "${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null)}"
}
