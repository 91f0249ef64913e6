#!/bin/sh
# The second half of the boot: process 1 of the guest, from the root image. Runs /job/command in a session keyring of
# its own, leaves its exit status in /job/status and ends the machine. OUTPUT: where its output goes, if that is no virtio
# port.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
export PYTHONUNBUFFERED=1

mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /run/lock /run/rpcbind
mount -t configfs config /sys/kernel/config
ip link set lo up
hostname guest
echo "127.0.0.1 localhost guest" >/etc/hosts
[ -c /dev/hsgen ] || modprobe tls && insmod /job/hsgen.ko || echo "init: no module hsgen"

# The host's checkout is read-only. What is written into it here, compiled Python above all, is kept for this boot.
mkdir -p /run/checkout/changes /run/checkout/work
mount -t overlay -o lowerdir=/checkout,upperdir=/run/checkout/changes,workdir=/run/checkout/work checkout /checkout
cd /checkout || exit
touch /job/booted
output=${OUTPUT:-/dev/$(basename "$(dirname "$(grep -lx output /sys/class/virtio-ports/*/name)")")}
# Own session: a command that signals its process group must not reach process 1.
setsid -w keyctl session - sh -c 'exec sh /job/command >"$0" 2>&1' "$output" </dev/null 2>/dev/null
echo $? >/job/status
sync
# Without a shutdown: there is nothing to save. qemu ends instead of a reboot; User-Mode Linux is ended by boot.sh.
[ $$ = 1 ] || exit 0
echo b >/proc/sysrq-trigger
sleep 60
