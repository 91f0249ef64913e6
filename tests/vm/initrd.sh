#!/bin/busybox sh
# The first half of the boot: find the root and what the host shares, then let the checkout's own script go on.
# The root image is read-only and shared by all boots; what a boot writes is in memory and gone with it.
b=/bin/busybox
$b mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
for module in /modules/*.ko; do
    $b insmod "$module" || echo "initrd: $module can't be loaded"
done

fail() {
    echo "initrd: $1"
    $b reboot -f
}

share() {
    $b mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,$3" "$1" "$2" || fail "no shared folder $1"
}

$b mkdir -p /mnt/base /mnt/changes /mnt/root
$b mount -t ext4 -o ro /dev/vda /mnt/base || fail "no root"
$b mount -t tmpfs -o size=2g changes /mnt/changes || fail "no memory file system"
$b mkdir /mnt/changes/upper /mnt/changes/work
$b mount -t overlay -o lowerdir=/mnt/base,upperdir=/mnt/changes/upper,workdir=/mnt/changes/work root /mnt/root ||
    fail "no overlay"
$b mkdir -p /mnt/root/checkout /mnt/root/job
share checkout /mnt/root/checkout ro,cache=loose
share job /mnt/root/job rw
$b mount --move /dev /mnt/root/dev
$b mount --move /proc /mnt/root/proc
$b mount --move /sys /mnt/root/sys
exec $b switch_root /mnt/root /bin/sh /checkout/tests/vm/guest/init.sh
