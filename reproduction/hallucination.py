"""Train and calibrate the map of `aesop upscale --hallucination-map` for the bundled model.

    python reproduction/photographs.py -o datasets/lanes --more FOLDER
    python reproduction/hallucination.py datasets/lanes -o src/aesop/assets/hallucination/aesop_compact_x4.safetensors

Each photograph of photographs.pack is reduced by bicubic interpolation and enlarged by the model. The head learns the mean
absolute error of blocks of 8 x 8 pixels, from crops. Its loss is that of an exponential distribution, whose least expected
value is at the mean: log(estimate) + error / estimate. The calibration is a table of mean estimates and mean errors of the
photographs of heldout.pack, in steps of equally many blocks. Half of the training pictures as JPEG instead cost 0.03 of the
rank correlation on clean pictures, for which the model is meant.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from aesop import Upscaler
from aesop.images.listing import list_images
from aesop.images.resize import imresize, mod_crop
from aesop.inference.hallucination import BLOCK, ErrorHead, head_input
from aesop.inference.shipped_models import shipped_model
from aesop.system.files import replacing

SEED = 0
LARGEST = 1010  # side of the training photographs in pixels
STEPS, BATCH, CROP = 2500, 8, 24  # CROP in blocks
LEARNING_RATE = 2e-3
LEAST = 0.05  # grey levels, added to errors, so that those of flat blocks are not infinitely surprising
TABLE = 20
Sample = tuple[Tensor, Tensor]  # input of the head (6, H, W) as float16, errors of blocks (H / 8, W / 8) in grey levels


def samples(pack: Path, upscaler: Upscaler) -> list[Sample]:
    images = [image for image in list_images(pack) if max(image.size()) <= LARGEST]
    return [sample(mod_crop(image.read_uint8(), BLOCK), upscaler) for image in images]


def sample(hr: np.ndarray, upscaler: Upscaler) -> Sample:
    lr = imresize(hr, 0.25)
    sr = upscaler(lr)
    enlarged = cv2.resize(lr, hr.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return head_input(sr, enlarged)[0].half(), block_errors(sr, hr)


def block_errors(sr: np.ndarray, hr: np.ndarray) -> Tensor:
    """Mean absolute differences of blocks, in grey levels; both images are uint8 (H, W, 3), H and W multiples of BLOCK."""
    difference = np.abs(sr.astype(np.float32) - hr.astype(np.float32)).mean(2)
    return F.avg_pool2d(torch.from_numpy(difference)[None, None], BLOCK)[0, 0]


def train(data: list[Sample], draw: np.random.Generator) -> ErrorHead:
    head = ErrorHead()
    last = head.layers[-1]
    assert isinstance(last, torch.nn.Conv2d)
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, 1.8)  # 6 grey levels
    optimizer = torch.optim.Adam(head.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(1, STEPS + 1):
        inputs, errors = (torch.stack(parts) for parts in zip(*(crop(data, draw) for _ in range(BATCH)), strict=True))
        logarithms = head(inputs.float())[:, 0]
        loss = (logarithms + (errors + LEAST) * torch.exp(-logarithms)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"{step}/{STEPS}  loss {loss.item():.3f}", flush=True)
    return head


def crop(data: list[Sample], draw: np.random.Generator) -> Sample:
    x, error = data[draw.integers(len(data))]
    top, left = (int(draw.integers(max(side - CROP, 0) + 1)) for side in error.shape)
    x = x[:, top * BLOCK : (top + CROP) * BLOCK, left * BLOCK : (left + CROP) * BLOCK]
    error = error[top : top + CROP, left : left + CROP]
    for axis in (-1, -2):
        if draw.random() < 0.5:
            x, error = x.flip(axis), error.flip(axis)
    return (x.transpose(-1, -2), error.T) if draw.random() < 0.5 else (x, error)


def calibrated(head: ErrorHead, data: list[Sample]) -> list[tuple[float, float]]:
    """Mean estimates and mean errors of TABLE equal parts of all blocks, by their estimates; both rise."""
    with torch.inference_mode():
        estimates = torch.cat([head(x[None].float())[0, 0].exp().flatten() for x, _ in data]).numpy()
    errors = torch.cat([error.flatten() for _, error in data]).numpy()
    parts = np.array_split(np.argsort(estimates), TABLE)
    measured = np.maximum.accumulate([errors[part].mean() for part in parts])
    return [(float(estimates[part].mean()), float(error)) for part, error in zip(parts, measured, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with photographs.pack and heldout.pack")
    parser.add_argument("--output", "-o", type=Path, required=True, metavar="FILE.safetensors")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    draw = np.random.default_rng(SEED)
    upscaler = Upscaler(shipped_model(), "cpu", "fp32")
    data = samples(arguments.folder / "photographs.pack", upscaler)
    print(f"{len(data)} pictures to train on", flush=True)
    head = train(data, draw).half().float()  # as it is stored
    table = calibrated(head, samples(arguments.folder / "heldout.pack", upscaler))
    metadata = {
        "generator": shipped_model().stem,
        "generator_sha256": upscaler.weights,
        "calibration": json.dumps([[round(value, 4) for value in row] for row in table]),
        "trained_on": f"bicubic reductions by 4 of {len(data)} pictures; {STEPS} steps, seed {SEED}",
    }
    with replacing(arguments.output) as temporary:
        temporary.write_bytes(save({name: value.half() for name, value in head.state_dict().items()}, metadata))
    print(f"{arguments.output}: {metadata['calibration']}")


if __name__ == "__main__":
    main()
