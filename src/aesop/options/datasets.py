"""Options of the datasets."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aesop.system.option_types import Count, Options, Positive, Side, name_below


class IOBackend(Options):
    type: Literal["disk", "lmdb"] = "disk"
    """`disk`: folders of images, or packs NAME.pack (`aesop prepare pack`). `lmdb`: LMDB folders NAME.lmdb as BasicSR's."""


class PairedDataset(Options):
    name: str = ""
    """Shown in tables and logs; default: the section's name."""
    type: Literal["PairedImageDataset", "SingleImageDataset", "RealESRGANDataset"] = "PairedImageDataset"
    """PairedImageDataset: HR images, with LR images or with LR made from them by bicubic. SingleImageDataset, for tests:
    only the network's input. RealESRGANDataset, for training: HR images, from which the `degradation` makes LR."""
    dataroot_gt: str | list[str] | None = None
    """Folder(s) of HR images, searched recursively, or packs of them."""
    dataroot_lq: str | list[str] | None = None
    """Folder(s) or packs of LR images; without it LR is made from HR by MATLAB-compatible bicubic."""
    filename_tmpl: Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$")] = "{}"
    """LR file name for an HR name, without suffix: `{}x4` pairs img.png with imgx4.png."""
    io_backend: IOBackend = IOBackend()
    """How the images are stored."""
    _refused: ClassVar[dict[str, str]] = {"RealESRGANDataset": "training"}

    @model_validator(mode="after")
    def _has_images(self) -> Self:
        if self.type in self._refused:
            raise ValueError(f"type: {self.type} is for {self._refused[self.type]}")
        if self.type == "SingleImageDataset":
            if not self.dataroot_lq or self.dataroot_gt:
                raise ValueError("a SingleImageDataset has dataroot_lq, the network's input, and no dataroot_gt")
        elif self.dataroot_gt is None:
            raise ValueError("dataroot_gt is missing; without HR images use type: SingleImageDataset")
        given = (self.dataroot_gt or [], self.dataroot_lq or [])
        for root in [root for roots in given for root in ([roots] if isinstance(roots, str) else roots)]:
            if self.io_backend.type == "lmdb" and not root.rstrip("/").endswith(".lmdb"):
                raise ValueError(f"io_backend lmdb reads folders whose names end in .lmdb, found {root}")
        return self


class TrainDataset(PairedDataset):
    dataroot_weights: list[Annotated[float, Field(gt=0)]] | None = None
    """How often samples come from each folder of dataroot_gt, as a ratio: [2, 1] draws two of three from the first. Default:
    every image equally often."""
    meta_info: str | None = None
    """A list of the files below dataroot_gt to use, one name per line, or `gt, lq` with the LR file below dataroot_lq;
    default: all of them."""
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
    """What to do about an image that is too small or cannot be read: `stop` and name it, or `skip` it with a warning."""
    cache: bool = False
    """Keep decoded images in memory, in each loader process: for small datasets."""
    _refused: ClassVar[dict[str, str]] = {"SingleImageDataset": "tests"}

    @model_validator(mode="after")
    def _one_weight_each(self) -> Self:
        folders = len(self.dataroot_gt) if isinstance(self.dataroot_gt, list) else 1
        if self.dataroot_weights is not None and len(self.dataroot_weights) != folders:
            raise ValueError(f"dataroot_weights has {len(self.dataroot_weights)} numbers, dataroot_gt {folders} folders")
        return self


class Datasets(BaseModel):
    """`train`, and any number of sections whose names begin with `val` or `test`."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, PairedDataset] = Field(init=False)  # ty: ignore[incompatible-mutable-override]
    train: TrainDataset | None = None
    """What is trained on."""

    @model_validator(mode="before")
    @classmethod
    def _names(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        for name in map(str, data):
            if name != "train" and not name.startswith(("val", "test")):
                raise ValueError(f"unknown section {name}: use train, val..., or test...")
            name_below(name)  # results are saved under it
        # `datasets.test_3=null` on the command line leaves out a dataset of the file.
        return {name: section for name, section in data.items() if section is not None}

    def measured(self, prefix: str) -> dict[str, PairedDataset]:
        """The datasets to validate (`val`) or test (`test`) on."""
        return {name: data for name, data in (self.__pydantic_extra__ or {}).items() if name.startswith(prefix)}


class TrainingDatasets(Datasets):
    """The data sets of a training file, which must have `train`."""

    train: TrainDataset
    """What is trained on."""
