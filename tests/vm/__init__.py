"""The daemon on a real kernel: a guest that is built from Debian's packages, booted under qemu and given commands.

    recipe.py   what the guest is made of; its hash is the cache's key
    image.py    recipe -> root.ext4, vmlinuz, initrd, whole or not at all
    module.py   a folder of C -> a kernel module for that kernel
    qemu.py     boot, share the checkout, run a command, give back its output and exit status
    uml.py      the same with the kernel as a program of the host: for measuring
    guest/      what runs inside: the boot script and the scenarios, which are pytest's

On the host: `python -m tests.vm run -- COMMAND`, or `make test-vm` for all scenarios in one boot.
"""
