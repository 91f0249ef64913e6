#!/bin/sh
# The second half of the boot: process 1 of the guest, from the root image. Runs /job/command in a session keyring of
# its own, leaves its exit status in /job/status and ends the machine.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
# The checkout is read-only, and compiling Python is slow on an emulated machine: once per boot.
export PYTHONPYCACHEPREFIX=/run/pycache PYTHONUNBUFFERED=1

mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /run/lock /run/rpcbind
mount -t configfs config /sys/kernel/config
ip link set lo up
hostname guest
printf '127.0.0.1 localhost\n127.0.0.1 guest server.test client.test\n' >/etc/hosts
modprobe tls && insmod /job/hsgen.ko || echo "init: no module hsgen"

cd /checkout || exit
touch /job/booted
output=/dev/$(basename "$(dirname "$(grep -lx output /sys/class/virtio-ports/*/name)")")
# Own session: a command that signals its process group must not reach process 1.
setsid -w keyctl session - sh -c 'exec sh /job/command >"$0" 2>&1' "$output" </dev/null 2>/dev/null
echo $? >/job/status
sync
# Without a shutdown: there is nothing to save. qemu ends instead of a reboot.
echo b >/proc/sysrq-trigger
sleep 60
