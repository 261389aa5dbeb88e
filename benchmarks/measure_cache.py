"""Time `aesop measure` without a cache, with an empty one, and with one that holds everything.

    python benchmarks/measure_cache.py --hr FOLDER [--lr FOLDER] [--rounds 3] [--record]

The commands take turns, so that a busy machine slows all of them alike; shown are medians of processor time and of wall
time of the whole command, start included, on one thread. They measure the bundled model and bicubic by the usual metrics, as
far as their weights are on this machine. The last row has a cache of the bundled model only and measures one method more.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from aesop.images.listing import list_images
from record import described, write

NET = "aesop_compact_x4"


def timed(*words: str) -> tuple[float, float]:
    """(processor time, wall time) of `aesop measure`, in seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "aesop", "measure", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def one_round(images: list[str], folder: Path) -> tuple[dict[str, tuple[float, float]], dict[str, int]]:
    """Times by what the cache holds, and what a full one consists of."""
    cache, partial = (["--cache", str(folder / name)] for name in ("cache", "partial"))
    timed(NET, *images, *partial)
    times = {
        "no cache": timed(NET, "bicubic", *images, "--no-cache"),
        "empty cache": timed(NET, "bicubic", *images, *cache),
        "full cache": timed(NET, "bicubic", *images, *cache),
        "cache of the bundled model": timed(NET, "bicubic", *images, *partial),
    }
    files = [path for path in (folder / "cache").rglob("*") if path.is_file()]
    return times, {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hr", required=True)
    parser.add_argument("--lr")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = ["--hr", arguments.hr, *(["--lr", arguments.lr] if arguments.lr else [])]
    rounds, size = [], {}
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            times, size = one_round(images, Path(folder))
            rounds.append(times)
    record: dict[str, Any] = described(torch.device("cpu")) | {
        "rounds": arguments.rounds,
        "images": len(list_images(Path(arguments.hr))),
        "cache": size,
    }
    print("| | processor time, s | wall time, s | share of no cache |\n| --- | --- | --- | --- |")
    for name in rounds[0]:
        cpu, wall = (statistics.median(times[name][kind] for times in rounds) for kind in (0, 1))
        share = statistics.median(times[name][0] / times["no cache"][0] for times in rounds)
        record[name] = {"processor_s": round(cpu, 2), "wall_s": round(wall, 2), "share": round(share, 3)}
        print(f"| {name} | {cpu:.1f} | {wall:.1f} | {share:.2f} |")
    print(f"\na full cache: {size['files']} files, {size['bytes'] / 1e6:.1f} MB")
    if arguments.record:
        write("measure_cache", record)


if __name__ == "__main__":
    main()
