"""SR images and values of earlier measurements, kept in a folder by what they were computed from.

`records/` holds a JSON file for each key: the value of a metric, or the SHA-256 of an SR image, which is then below
`images/` under this name. Keys name everything that decides the result: pixels and weights by SHA-256, options, the code of
aesop, and the versions of the libraries. What is damaged or missing is computed again.
"""

import hashlib
import json
import logging
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from aesop.data.measured_pairs import Sample, digest
from aesop.evaluation.image_views import Image
from aesop.evaluation.measure import MeasureImage, Metrics, measuring
from aesop.evaluation.methods import Method
from aesop.evaluation.protocol import code_version, metric_record, versions
from aesop.images.errors import ImageError
from aesop.images.read import ImageFile
from aesop.images.write import write_image
from aesop.metrics.pyiqa_metrics import PYIQA
from aesop.options.validation import MetricOptions
from aesop.system.files import replacing
from aesop.system.user_cache import trim

log = logging.getLogger("aesop")
MOST_BYTES = 10 * 10**9
Key = Mapping[str, Any]


class Cache:
    """A folder that several processes may share. Everything is written aside and renamed."""

    def __init__(self, folder: Path):
        self.folder, self.has_failed = folder, False
        self.computed_by = [code_version(), versions()]

    def method(self, method: Method) -> Method:
        """The method, with answers from the cache. Only those of networks are kept, whose weights a hash names."""
        if method.sha256 is None:
            return method

        def answer(sample: Sample) -> Image:
            if sample.pair.lq is not None:
                _ = sample.lq  # read, so that the digests have it
            key = {"weights": method.sha256, "settings": method.settings, "sample": sample.digests()}
            if (known := self._image(self._value(key))) is not None:
                return known
            image = method.answer(sample)
            self._keep_image(key, image)
            return image

        return replace(method, answer=answer)

    def measuring(
        self, metrics: Metrics, options: Mapping[str, MetricOptions], scale: int, device: torch.device
    ) -> MeasureImage:
        """`measuring`, with values from the cache. pyiqa's are not kept: what weights it uses is not known."""
        records: dict[str, dict[str, Any]] = {
            name: {**metric_record(name, options[name]), "scale": scale, "device": device.type} for name in metrics
        }

        def measure_image(sr: Image, gt: Image | None) -> dict[str, float]:
            images = {"sr": digest(sr), "hr": None if gt is None else digest(gt)}
            keys = {name: {"metric": record, **images} for name, record in records.items()}
            kept = {name: key for name, key in keys.items() if not records[name]["type"].startswith(PYIQA)}
            known = {name: value for name, key in kept.items() if isinstance(value := self._value(key), float)}
            new = measuring({name: metrics[name] for name in metrics if name not in known}, device)(sr, gt)
            for name in kept.keys() & new.keys():
                self._keep(kept[name], new[name])
            return {name: (known | new)[name] for name in metrics if name in known or name in new}

        return measure_image

    def trim(self) -> None:
        """Remove what was used longest ago, so that at most MOST_BYTES remain."""
        trim(self.folder, MOST_BYTES)

    def _record(self, key: Key) -> tuple[Path, str]:
        """The file of a key, and the key as text."""
        text = json.dumps({"computed by": self.computed_by, **key}, sort_keys=True)
        return self._path("records", hashlib.sha256(text.encode()).hexdigest(), "json"), text

    def _path(self, kind: str, name: str, ending: str) -> Path:
        return self.folder / kind / name[:2] / f"{name}.{ending}"

    def _value(self, key: Key) -> Any:
        """The value of a key; None if there is none, or only a damaged one."""
        path, text = self._record(key)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["key"] != text or record["sum"] != _sum(text, record["value"]):
                return None
        except (OSError, ValueError, LookupError, TypeError):
            return None
        _touch(path)
        return record["value"]

    def _keep(self, key: Key, value: Any) -> None:
        path, text = self._record(key)
        content = json.dumps({"key": text, "value": value, "sum": _sum(text, value)})
        with self._writing(), replacing(path) as temporary:
            temporary.write_text(content, encoding="utf-8")

    def _image(self, name: Any) -> Image | None:
        """The image with this digest, if it is there and whole."""
        if not isinstance(name, str):
            return None
        path = self._path("images", name, "png")
        try:
            image = ImageFile.at(path).read_uint8()
        except ImageError:
            return None
        _touch(path)
        return image if digest(image) == name else None

    def _keep_image(self, key: Key, image: Image) -> None:
        name = digest(image)
        with self._writing():
            write_image(self._path("images", name, "png"), image)
        self._keep(key, name)

    @contextmanager
    def _writing(self) -> Generator[None]:
        """A full disk, or a folder that only others may write to, costs time, but does not stop a measurement."""
        try:
            yield
        except OSError as error:
            if not self.has_failed:
                log.warning("%s cannot be written to (%s): the cache lacks what is new", self.folder, error.strerror)
            self.has_failed = True


def _sum(key: str, value: Any) -> str:
    return hashlib.sha256(json.dumps([key, value]).encode()).hexdigest()


def _touch(path: Path) -> None:
    """Note that a file was used."""
    with suppress(OSError):
        os.utime(path)
