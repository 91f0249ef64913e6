"""The fuzz targets' seeds, and random changes of them: no exception but the engine's own."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.targets import TARGETS

CHANGES = 300


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_changes(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    for seed in seeds:
        target.run(seed)
    chance = random.Random(name)
    for _ in range(CHANGES):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(1, len(data))
            match chance.randrange(3):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + chance.randrange(8)]
                case _:
                    data[at:at] = chance.randbytes(chance.randrange(8))
            if len(data) < 3:
                break
        target.run(bytes(data))
