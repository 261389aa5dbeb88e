"""Options of the data sets."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from aesop.system.option_types import Count, Options, Positive, Side, _name_below


class IOBackend(Options):
    type: Literal["disk", "lmdb"] = "disk"
    """Where the images are: `disk`, image files in folders, or decoded in packs NAME.pack (`aesop prepare pack`); `lmdb`,
    LMDB folders NAME.lmdb of BasicSR's layout."""


class PairedDataset(Options):
    name: str = ""
    """Shown in tables and logs; default: the section's name."""
    type: Literal["PairedImageDataset", "SingleImageDataset", "RealESRGANDataset"] = "PairedImageDataset"
    """HR images, with LR images or with LR made from them by bicubic; SingleImageDataset, for tests: the network's input
    alone; RealESRGANDataset, for training: HR images, from which the `degradation` makes LR."""
    dataroot_gt: str | list[str] | None = None
    """Folder(s) of HR images, searched recursively, or packs of them."""
    dataroot_lq: str | list[str] | None = None
    """Folder(s) or packs of LR images; without it LR is made from HR by MATLAB-compatible bicubic."""
    filename_tmpl: str = "{}"
    """LR file name for an HR name, without suffix: `{}x4` pairs img.png with imgx4.png."""
    io_backend: IOBackend = IOBackend()
    """How the images are stored."""

    @model_validator(mode="after")
    def _has_images(self) -> Self:
        here = ("SingleImageDataset",) if isinstance(self, TrainDataset) else ("RealESRGANDataset",)
        if self.type in here:
            raise ValueError(f"type: {self.type} is for {'tests' if isinstance(self, TrainDataset) else 'training'}")
        if self.type == "SingleImageDataset":
            if not self.dataroot_lq or self.dataroot_gt:
                raise ValueError("a SingleImageDataset has dataroot_lq, the network's input, and no dataroot_gt")
        elif self.dataroot_gt is None:
            raise ValueError("dataroot_gt is missing; without HR images use type: SingleImageDataset")
        roots = [
            root
            for given in (self.dataroot_gt, self.dataroot_lq)
            for root in ([given] if isinstance(given, str) else given or [])
        ]
        wrong = [root for root in roots if not root.rstrip("/").endswith(".lmdb")]
        if self.io_backend.type == "lmdb" and wrong:
            raise ValueError(f"io_backend lmdb reads folders whose names end in .lmdb, found {wrong[0]}")
        return self

    @field_validator("filename_tmpl")
    @classmethod
    def _one_place(cls, value: str) -> str:
        if re.fullmatch(r"[^{}]*\{\}[^{}]*", value) is None:
            raise ValueError(f"must have {{}} once, where the HR name goes (e.g. '{{}}x4'), found {value!r}")
        return value


class TrainDataset(PairedDataset):
    meta_info: str | None = None
    """A list of the files below dataroot_gt to use, one name a line; default: all of them."""
    gt_size: Side = 128
    """Side of the HR crop in pixels, a multiple of the scale."""
    use_flip: bool = True
    """Flip left-right with probability 1/2."""
    use_rot: bool = True
    """Flip up-down and transpose, each with probability 1/2 (with use_flip: all eight orientations)."""
    batch_size_per_gpu: Positive = 16
    """Images per step and process."""
    num_worker_per_gpu: Annotated[Count, Field(le=256)] = 4
    """Loader processes per process; 0 loads in the training process. Never changes the samples."""
    bad_images: Literal["stop", "skip"] = "stop"
    """An image that cannot be read, or is too small: stop and name it, or train without it and say so. Training on less than
    one thinks is the worse surprise, so it stops by default."""
    cache: bool = False
    """Keep decoded images in memory (each worker its own): for small sets."""


class Datasets(BaseModel):
    """`train`, and any number of sections whose name begins with `val` or `test`."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, PairedDataset] = Field(init=False)  # ty: ignore[incompatible-mutable-override]
    train: TrainDataset | None = None
    """What is trained on."""

    @model_validator(mode="before")
    @classmethod
    def _names(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            wrong = [str(name) for name in data if not str(name).startswith(("train", "val", "test"))]
            wrong += [str(name) for name in data if str(name).startswith("train") and name != "train"]
            if wrong:
                raise ValueError(f"unknown section {', '.join(wrong)}: use train, val..., or test...")
            for name in data:  # results are saved under it
                _name_below(str(name))
            # `datasets.test_3=null` on the command line leaves a set of the file out.
            data = {name: section for name, section in data.items() if section is not None}
        return data

    def measured(self, prefix: str) -> dict[str, PairedDataset]:
        """The sections to validate (`val`) or test (`test`) on."""
        return {name: data for name, data in (self.__pydantic_extra__ or {}).items() if name.startswith(prefix)}


class TrainingDatasets(Datasets):
    """The data sets of a training file, which must have `train`."""

    train: TrainDataset
    """What is trained on."""
