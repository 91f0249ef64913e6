#!/bin/sh
# The first half of the boot, as initrd.sh is under qemu: the root is the host's own, read-only, until the image is
# found. CHECKOUT, JOB and OUTPUT are from the kernel's command line.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t tmpfs -o size=2g changes /mnt
mkdir /mnt/dev /mnt/base /mnt/upper /mnt/work /mnt/root
mount -t devtmpfs dev /mnt/dev
mount -t ext4 -o ro /mnt/dev/ubda /mnt/base
mount -t overlay -o lowerdir=/mnt/base,upperdir=/mnt/upper,workdir=/mnt/work root /mnt/root
mkdir -p /mnt/root/checkout /mnt/root/job
mount -t hostfs -o "$CHECKOUT" checkout /mnt/root/checkout
mount -t hostfs -o "$JOB" job /mnt/root/job
mount --move /mnt/dev /mnt/root/dev
mount -t proc proc /mnt/root/proc
mount -t sysfs sys /mnt/root/sys
chroot /mnt/root /bin/sh /checkout/tests/vm/guest/init.sh
busybox poweroff -f
