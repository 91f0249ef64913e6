"""The kernel's user-space interfaces: one file per header, its numbers and structures and nothing else."""
