#!/bin/sh
# PID 1 of a test machine until systemd takes over: lays out its mounts and enters its tree.
#
#   nsenter (the holder's mounts and network) unshare --pid --fork --mount --uts --ipc -- \
#       sh boot.sh MOUNT_POINT CGROUP_NAME HOST_NAME VM_ID BOOT_ID CONSOLE
#
# Says "entered" on standard output as soon as no path leads back to the host's tree.
set -eu

root=$1/root
cgroup=$1/cgroup/$2
host_name=$3
vm_id=$4
boot_id=$5
console=$6

# What the last boot left of its own cgroups is empty by now.
find "$cgroup" -mindepth 1 -depth -type d -delete
echo 0 >"$cgroup/cgroup.procs"

hostname "$host_name"

mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"

# The kernel is the host's, so its switches are not the machine's to turn.
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
for switches in sys sysrq-trigger irq bus; do
	if [ -e "$root/proc/$switches" ]; then
		mount --bind "$root/proc/$switches" "$root/proc/$switches"
		mount -o remount,bind,ro "$root/proc/$switches"
	fi
done
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"

# What Azure's firmware says of a virtual machine.
machine_files=$root/run/machine
mkdir -m 0700 "$machine_files" "$machine_files/class"
mkdir -p "$machine_files/class/dmi/id"
(
	cd "$machine_files/class/dmi/id"
	echo "Microsoft Corporation" >sys_vendor
	echo "Virtual Machine" >product_name
	echo "7783-7084-3265-9085-8269-3286-77" >chassis_asset_tag
	echo "$vm_id" >product_uuid
	chmod 0444 sys_vendor product_name chassis_asset_tag
	chmod 0400 product_uuid
)
mount -t overlay -o "ro,lowerdir=$machine_files/class:$root/sys/class" overlay "$root/sys/class"

# The kernel's boot id stays the same when only this machine boots anew.
echo "$boot_id" >"$machine_files/boot-id"
chmod 0444 "$machine_files/boot-id"
mount --bind "$machine_files/boot-id" "$root/proc/sys/kernel/random/boot_id"
mount -o remount,bind,ro "$root/proc/sys/kernel/random/boot_id"

mount -t tmpfs -o mode=0755,nosuid tmpfs "$root/dev"
for device in null zero full random urandom tty; do
	: >"$root/dev/$device"
	mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5,nosuid,noexec devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
: >"$root/dev/console"
mount --bind "$console" "$root/dev/console"

cd "$root"
pivot_root . .
umount -l .
cd /

# systemd hands credentials to services through mounts that must propagate.
mount --make-rshared /

echo entered

# The cgroup namespace must begin in the machine's own cgroup, and its mount within the namespace.
exec env -i container=evenkeel-test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin LANG=C.UTF-8 TERM=dumb \
	unshare --cgroup -- sh -c 'mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup && exec /lib/systemd/systemd' \
	</dev/null >/dev/console 2>&1
