"""Measure which of the bundled models `aesop upscale` takes for photographs as the web has them.

    python benchmarks/model_choice.py --data FOLDER [--record NAME]

The pictures are those of bundled_models.py. Right are `clean` for those saved without loss, and `web` for JPEG of the
qualities in COMPARED there; between 95 and 85 both models are near each other. The choice is made from the file, and once
more from the pixels alone, as in a screenshot.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import mean

from aesop.inference.shipped_models import CLEAN, WEB
from aesop.inference.suitable_model import suitable_model
from bundled_models import COMPARED, QUALITIES, SCALE, inputs, labelled
from enlarged_photographs import CPU, photographs
from record import described, write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="HR photographs")
    parser.add_argument("--record", metavar="NAME", help="write results/NAME_<date>_cpu.json, such as model_choice")
    arguments = parser.parse_args()
    ((data, pairs),) = photographs([arguments.data], SCALE).items()
    found: dict[tuple[str, int | None], list[str]] = defaultdict(list)
    for number in range(len(pairs)):
        for given in inputs(pairs, number):
            found["file", given.quality].append(suitable_model(given.lr, given.quality))
            found["pixels", given.quality].append(suitable_model(given.lr, None))
    print(f"| web, from | {' | '.join(map(labelled, QUALITIES))} | right |")
    print("| --- " * (len(QUALITIES) + 2) + "|")
    rows = []
    for source in ("file", "pixels"):
        web = {quality: mean(name == WEB for name in found[source, quality]) for quality in QUALITIES}
        right = mean(name == (CLEAN if quality is None else WEB) for quality in COMPARED for name in found[source, quality])
        rows.append({"from": source, "web": {labelled(quality): share for quality, share in web.items()}, "right": right})
        print(f"| {source} | {' | '.join(f'{100 * share:.0f} %' for share in web.values())} | {100 * right:.1f} % |")
    if arguments.record:
        write(arguments.record, described(CPU) | {"data": data, "count": len(pairs), "rows": rows})


if __name__ == "__main__":
    main()
