"""States cut short and with flipped bits: every one has to be refused, and the one before it used."""

import random
from collections import Counter
from pathlib import Path
from unittest import TestCase

from kills import recipe, start, write_photos

from aesop.options.read import load_config
from aesop.system.distributed import World
from aesop.training.build_stage import build_stage
from aesop.training.checkpoint import load_state, newest_state, states
from aesop.weights.errors import WeightsError

TOTAL = 10


def damage_states(root: Path, count: int, seed: int, stage_name: str = "psnr") -> Counter[tuple[str, str]]:
    """How many damages of each kind, by file, were tried on the newest state of a training.

    Raises:
        AssertionError: when one was not noticed.
    """
    write_photos(root / "photos")
    file = recipe(stage_name, root / "photos", root, "damaged", TOTAL)
    process = start(file)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    config, _ = load_config(file)
    stage, folder = build_stage(config, World()), root / "damaged" / "state"
    before, newest = states(folder)
    assert load_state(newest, stage, config).iteration == TOTAL
    draw, tried = random.Random(seed), Counter[tuple[str, str]]()
    files = sorted(newest.iterdir())
    for number in range(count):
        file = files[number % len(files)]
        whole = file.read_bytes()
        place = (0, len(whole) - 1)[number // len(files) % 2] if number < 4 * len(files) else draw.randrange(len(whole))
        kind = draw.choice(["cut", "flipped bit"])
        flipped = whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :]
        file.write_bytes(whole[:place] if kind == "cut" else flipped)
        what = f"{file.name}, {kind} at byte {place}"
        try:
            load_state(newest, stage, config)
            raise AssertionError(f"not noticed: {what}")
        except WeightsError:
            pass
        with TestCase().assertLogs("aesop", "WARNING") as log:
            assert newest_state(folder, World()) == before, what
        assert "trying the one before it" in log.output[0], what
        file.write_bytes(whole)
        tried[file.name, kind] += 1
    assert load_state(newest, stage, config).iteration == TOTAL
    return tried
