#!/bin/sh
# Holds what outlives the boots of one test machine: its network, its disk and its cgroup.
#
#   unshare --mount --net -- sh holder.sh MOUNT_POINT BASE_TREE DISK_SIZE CGROUP_NAME
#
# Says "ready" when all of it is there, then waits for the end of its standard input, which comes when
# the test closes the machine and also when the test dies. Then it ends whatever still runs in the
# cgroup and removes that; the mounts and the network go with the process's namespaces.
set -eu

mount_point=$1
base_tree=$2
disk_size=$3
cgroup_name=$4

mount -t tmpfs -o "size=$disk_size,mode=0755" tmpfs "$mount_point"
mkdir "$mount_point/upper" "$mount_point/work" "$mount_point/root" "$mount_point/cgroup"
mount -t overlay -o "lowerdir=$base_tree,upperdir=$mount_point/upper,workdir=$mount_point/work" overlay "$mount_point/root"
mount -t cgroup2 cgroup2 "$mount_point/cgroup"
cgroup=$mount_point/cgroup/$cgroup_name
mkdir "$cgroup"

# The platform's two addresses are this machine's own; waagent 2.7.3 looks for a route to the first.
ip link set lo up
ip address add 168.63.129.16/32 dev lo
ip address add 169.254.169.254/32 dev lo
ip route add 168.63.129.16/32 dev lo

echo ready
while read -r _; do :; done

echo 1 >"$cgroup/cgroup.kill"
tries=100
while ! find "$cgroup" -depth -type d -delete 2>/dev/null; do
	tries=$((tries - 1))
	[ "$tries" -gt 0 ] || exit 1
	sleep 0.05
done
