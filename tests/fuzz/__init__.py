"""Fuzz targets: bytes that a peer could send, in ever other forms, guided by what of the engine they reach.

    python -m tests.fuzz [--inputs N] [--seed S] [TARGET...]

runs each target (all of `targets.TARGETS` by default) on N inputs in a process of its own with atheris (PyPI, which is
libFuzzer for Python) and prints how it went. An input is a finding if it leads to another exception than the engine's
own, takes longer than a second, or makes the process grow by more than 64 MiB; it is kept in .cache/fuzz then.
`test_targets` runs the seeds and some changes of them without atheris.
"""
