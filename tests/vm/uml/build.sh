# sh build.sh IMAGE SCRATCH: build SCRATCH/source/linux in an overlay over the image, with packages of the image's suites.
# Run in a mount namespace of its own.
set -e
cd "$2"
mkdir base changes changes/upper changes/work root
mount -o loop,ro "$1" base
mount -t overlay -o lowerdir=base,upperdir=changes/upper,workdir=changes/work overlay root
mount --bind /dev root/dev
mount -t proc proc root/proc
mount -t tmpfs tmp root/tmp
mount --bind source root/mnt
exec chroot root sh -e <<'INSIDE'
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends bc bison flex gcc libc6-dev linux-source
mkdir /usr/src/uml
cd /usr/src/uml
tar -x --strip-components=1 -f /usr/src/linux-source-*.tar.xz
cp /mnt/hsgen.c net/handshake
echo "obj-y += hsgen.o" >>net/handshake/Makefile
make -s ARCH=um allnoconfig KCONFIG_ALLCONFIG=/mnt/config
grep ^CONFIG_ /mnt/config | while read -r line; do
    grep -qx "$line" .config || { echo "the kernel can't have $line"; exit 1; }
done
make -s ARCH=um -j"$(nproc)" linux
strip -o /mnt/linux linux
INSIDE
