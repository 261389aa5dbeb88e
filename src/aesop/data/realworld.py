"""Real-world training pairs: HR crops from files, LR made of them on the device (Real-ESRGAN, section 3)."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from aesop.config import Config, TrainDataset
from aesop.data.degradations import TrainingPool, batch_generator, degrade, paired_random_crop, smallest_side, usm_sharpen
from aesop.data.images import ImageError, read_image_uint8
from aesop.data.pairs import Pair, as_tensor, augment, find_pairs, permutation
from aesop.files import replacing
from aesop.weights import WeightsError, read_state_dict


class HRCrops(Dataset):
    """Sample k: {gt}, an HR image flipped and turned, then cut or continued to side x side, uint8 (3, side, side).

    As published: flips first, padding by reflection at the bottom and right. A pure function of (seed, k), as in
    TrainingCrops.
    """

    def __init__(self, options: TrainDataset, side: int, seed: int):
        self.options, self.side, self.seed = options, side, seed
        self.pairs = select(find_pairs(options, "train"), options)

    def __getitem__(self, index: int) -> dict[str, Any]:
        epoch, position = divmod(index, len(self.pairs))
        image = read_image_uint8(self.pairs[int(permutation(self.seed, epoch, len(self.pairs))[position])].gt)
        draw = np.random.default_rng((self.seed, 1, index))
        flips = draw.random(3) < 0.5
        image = augment(image, *(flips & np.array([self.options.use_flip, self.options.use_rot, self.options.use_rot])))
        height, width = image.shape[:2]
        missing = [(0, max(0, self.side - height)), (0, max(0, self.side - width)), (0, 0)]
        top, left = (int(draw.integers(0, max(0, side - self.side), endpoint=True)) for side in (height, width))
        image = np.pad(image[top : top + self.side, left : left + self.side], missing, mode="reflect")
        return {"gt": as_tensor(image)}


def select(pairs: list[Pair], options: TrainDataset) -> list[Pair]:
    """Those named in `meta_info`, a list of file names below dataroot_gt (anything from a ` (` on is ignored).

    Raises:
        ImageError: no such list, an empty one, or names of no file (counted, the first named).
    """
    if options.meta_info is None:
        return pairs
    try:
        lines = Path(options.meta_info).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"datasets.train.meta_info: {options.meta_info} cannot be read ({error})") from error
    roots = [options.dataroot_gt] if isinstance(options.dataroot_gt, str) else options.dataroot_gt or []
    by_name = {
        pair.gt.relative_to(Path(root).expanduser()).as_posix(): pair
        for pair in pairs
        for root in roots
        if pair.gt.is_relative_to(Path(root).expanduser())
    }
    names = [name for name in (line.split(" (")[0].strip() for line in lines) if name]
    unknown = [name for name in names if name not in by_name]
    if unknown or not names:
        raise ImageError(
            f"datasets.train.meta_info: of {len(names)} names in {options.meta_info} {len(unknown)} are no image below "
            f"dataroot_gt: {', '.join(unknown[:3])}"
        )
    return [by_name[name] for name in names]


class Degrader:
    """HR crops of a batch -> (LR, HR) for training: degraded, cut to gt_size, exchanged with the pool's pairs.

    A batch is a pure function of (seed, iteration, rank) and of the pool, whose content is saved with the state.

    Raises:
        ValueError: for a crop_pad_size too small for the blur kernels and resizing.
    """

    def __init__(self, config: Config, rank: int):
        assert config.degradation is not None
        assert config.datasets.train is not None
        self.options, self.scale, self.seed, self.rank = config.degradation, config.scale, config.manual_seed, rank
        self.gt_size = config.datasets.train.gt_size
        if config.degradation.crop_pad_size < (smallest := smallest_side(config.degradation, config.scale)):
            raise ValueError(
                f"degradation.crop_pad_size: with these kernels and resize_range it must be at least {smallest}, found "
                f"{config.degradation.crop_pad_size}"
            )
        batch, queue = config.datasets.train.batch_size_per_gpu, config.degradation.queue_size
        self.pool = TrainingPool(queue, batch) if queue else None

    def __call__(self, gt: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        """(N, 3, S, S) in [0, 1] -> LR (N, 3, gt_size / scale, ...) and HR (N, 3, gt_size, gt_size)."""
        generator = batch_generator(self.seed, iteration, self.rank)
        per_sample = self.options.per_sample
        lq, _ = degrade(usm_sharpen(gt), self.options, self.scale, generator, per_sample)
        (gt,), lq = paired_random_crop([gt], lq, self.gt_size, self.scale, generator, per_sample)
        return (lq, gt) if self.pool is None else self.pool.exchange(lq, gt, generator)

    def save(self, folder: Path) -> None:
        """Every process puts its pool where `engine.checkpoint.save_state` takes it from."""
        if self.pool is not None:
            with replacing(folder / waiting_name(self.rank)) as temporary:
                save_file({name: images.cpu().contiguous() for name, images in self.pool.state_dict().items()}, temporary)

    def load(self, state: Path, device: Any) -> str | None:
        """Continue with the pool of a state folder; returns what to tell the user where it has none for this process."""
        if self.pool is None:
            return None
        file = state / pool_name(self.rank)
        if not file.is_file():
            return f"{state} has no pool of degraded pairs for process {self.rank}: it fills anew"
        try:
            self.pool.load_state_dict(read_state_dict(file)[0], device)
        except ValueError as error:
            raise WeightsError(f"{file}: {error}") from error
        return None


def pool_name(rank: int) -> str:
    return f"pool_{rank}.safetensors"


def waiting_name(rank: int) -> str:
    return f".{os.path.splitext(pool_name(rank))[0]}.waiting.safetensors"
