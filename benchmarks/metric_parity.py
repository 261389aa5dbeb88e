"""Compare our metrics with those of pyiqa and torchmetrics on real images: a table of every difference and its cause.

    python benchmarks/metric_parity.py --data DATA --weights WEIGHTS [--niqe niqe_pris_params.npz] [--images 14]

DATA contains HR images, from which LR is made by our bicubic interpolation; measured are bicubic interpolation and the
bundled model. All libraries get the same trunks, heads, and parameters, from WEIGHTS (as in `AESOP_WEIGHTS`). Each is
measured as it is, and with the settings that remove one cause of a difference after the other. Finished values are kept in
the record, so an interrupted run continues. The table is written to docs/evidence/metrics.md.
"""

import argparse
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from aesop.images.listing import list_images
from aesop.images.resize import imresize, mod_crop
from aesop.images.tensors import to_tensor
from aesop.inference.shipped_models import shipped_model
from aesop.inference.tiling import upscale_image
from aesop.metrics.dists import DISTS
from aesop.metrics.lpips import LPIPS
from aesop.metrics.luma import crop, rgb_to_y
from aesop.metrics.niqe import NIQE
from aesop.metrics.psnr import psnr
from aesop.metrics.ssim import ssim, ssim_maps
from aesop.system.files import replacing
from aesop.weights.load import load_generator
from aesop.weights.pretrained import find_pretrained
from record import RESULTS, described

SCALE, BORDER = 4, 4
CPU = torch.device("cpu")
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "evidence" / "metrics.md"


@dataclass(frozen=True)
class Variant:
    """A metric of a library with some settings: (SR, HR), each (1, 3, H, W) in [0, 1] -> a scalar tensor."""

    metric: str
    library: str
    settings: str
    measure: Callable[[Tensor, Tensor], Tensor]
    cause: str = ""
    """Of the difference from ours that remains."""

    @property
    def key(self) -> str:
        return f"{self.metric}, {self.library}, {self.settings}"


def variants(niqe_file: Path | None) -> Iterator[Variant]:
    """Ours first for each metric, then the others from as they are to as close to ours as their settings allow."""
    pyiqa, tm = import_module("pyiqa"), import_module("torchmetrics.functional.image")
    create = partial(pyiqa.create_metric, device=CPU)
    luma = lambda x: crop(rgb_to_y(x.double()), BORDER)  # noqa: E731
    ycbcr = {"test_y_channel": True, "color_space": "ycbcr"}

    yield Variant("PSNR", "aesop", "as it is", psnr)
    yield Variant("PSNR", "aesop", "RGB, with the border", partial(psnr, crop_border=0, test_y_channel=False))
    yield Variant("PSNR", "pyiqa", "psnr", create("psnr"), "RGB, with the border: see ours with these settings")
    yield Variant("PSNR", "pyiqa", "psnry", create("psnry"), "luma of YIQ, 0 to 255, and not 16 to 235; the border")
    yield Variant("PSNR", "pyiqa", "ycbcr", create("psnr", **ycbcr), "the border")
    yield Variant(
        "PSNR", "pyiqa", "ycbcr, border 4", create("psnr", **ycbcr, crop_border=BORDER), "float32 instead of float64"
    )
    tm_psnr = partial(tm.peak_signal_noise_ratio, data_range=1.0)
    yield Variant("PSNR", "torchmetrics", "RGB", tm_psnr, "RGB, with the border")
    yield Variant(
        "PSNR", "torchmetrics", "our luma without the border", lambda x, y: tm_psnr(luma(x), luma(y)),
        "we add 1e-8 to the mean squared error, as BasicSR does",
    )  # fmt: skip

    yield Variant("SSIM", "aesop", "as it is", ssim)
    yield Variant("SSIM", "aesop", "RGB, with the border", partial(ssim, crop_border=0, test_y_channel=False))
    yield Variant("SSIM", "aesop", "luma rounded to integers", lambda x, y: rounded_ssim(luma(x), luma(y)))
    yield Variant("SSIM", "pyiqa", "ssim", create("ssim"), "luma of YIQ; the border; rounding")
    yield Variant("SSIM", "pyiqa", "ycbcr", create("ssim", **ycbcr), "the border; rounding")
    yield Variant(
        "SSIM", "pyiqa", "ycbcr, border 4", create("ssim", **ycbcr, crop_border=BORDER),
        "it rounds luma to integers, and a negative contrast-structure term to 0: see ours with these settings",
    )  # fmt: skip
    tm_ssim = tm.structural_similarity_index_measure
    yield Variant("SSIM", "torchmetrics", "RGB", partial(tm_ssim, data_range=1.0), "RGB, with the border; as below")
    yield Variant(
        "SSIM", "torchmetrics", "our luma without the border", lambda x, y: tm_ssim(luma(x), luma(y), data_range=1.0),
        "windows that reach beyond the image, which it reflects, count as well",
    )  # fmt: skip
    yield Variant(
        "SSIM", "torchmetrics", "our luma, only windows inside the image",
        lambda x, y: crop(tm_ssim(luma(x), luma(y), data_range=1.0, return_full_image=True)[1], 5).mean(),
        "none: rounding errors",
    )  # fmt: skip

    with patch.multiple("torchvision.models", alexnet=partial(trunk, "alexnet"), vgg16=partial(trunk, "vgg16")):
        yield Variant("LPIPS", "aesop", "as it is", LPIPS.from_weights("alex"))
        yield Variant("LPIPS", "pyiqa", "lpips", with_heads(create("lpips", pretrained=False)), "none: rounding errors")
        tm_lpips = import_module("torchmetrics.image.lpip").LearnedPerceptualImagePatchSimilarity("alex", normalize=True)
        yield Variant("LPIPS", "torchmetrics", "alex, normalize", tm_lpips, "none: rounding errors (heads from its wheel)")
        yield Variant("DISTS", "aesop", "as it is", DISTS.from_weights())
        yield Variant(
            "DISTS", "pyiqa", "dists", with_dists_weights(create("dists", pretrained=False)), "none: rounding errors"
        )
        with patch("torchmetrics.functional.image.dists.vgg16", partial(trunk, "vgg16")):
            tm_dists = import_module("torchmetrics.functional.image.dists").DISTSNetwork()
        yield Variant("DISTS", "torchmetrics", "as it is", tm_dists, "none: rounding errors (weights from its wheel)")

    ours = NIQE.from_weights(niqe_file)
    with tempfile.TemporaryDirectory() as folder:
        parameters = str(Path(folder, "niqe.mat"))
        content = {"mu_prisparam": ours.mean.numpy(), "cov_prisparam": ours.covariance.numpy()}
        import_module("scipy.io").savemat(parameters, content)
        yield Variant("NIQE", "aesop", "as it is", lambda x, y: ours(x))
        niqe = create("niqe", pretrained_model_path=parameters)
        yield Variant("NIQE", "pyiqa", "niqe", lambda x, y: niqe(x), "luma of YIQ; as below")
        close = create("niqe", pretrained_model_path=parameters, color_space="ycbcr")
        yield Variant(
            "NIQE", "pyiqa", "ycbcr", lambda x, y: close(x),
            "rounding errors count as texture in flat areas: its Gaussian has float32, and sums to 1 + 1e-8",
        )  # fmt: skip
        yield Variant(
            "NIQE", "pyiqa", "ycbcr, normalised pixels below 1e-5 set to 0", lambda x, y: with_flat_areas(close, x),
            "shape parameters on a neighbouring point of their grid",
        )  # fmt: skip


def rounded_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Our SSIM of luma (1, 1, h, w) as pyiqa prepares it."""
    luminance, structure = ssim_maps((x * 255).round(), (y * 255).round())
    return (luminance * structure.clamp(min=0)).mean()


def with_flat_areas(niqe: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """pyiqa's NIQE without the rounding errors of flat areas."""
    module = import_module("pyiqa.archs.niqe_arch")
    normalise = module.normalize_img_with_gauss

    def flat(*args: object, **options: object) -> Tensor:
        pixels = normalise(*args, **options)
        return torch.where(pixels.abs() < 1e-5, 0, pixels)

    with patch.object(module, "normalize_img_with_gauss", flat):
        return niqe(x)


def trunk(name: str, **_: object) -> nn.Module:
    """torchvision's network with our weights in place of a download."""
    net = nn.Module()
    models = import_module(f"torchvision.models.{'alexnet' if name == 'alexnet' else 'vgg'}")
    net.features = getattr(models, name)(weights=None).features
    net.load_state_dict({key: value.float() for key, value in find_pretrained(name).items()})
    return net


def with_heads(metric: nn.Module) -> nn.Module:
    """pyiqa's LPIPS with our heads."""
    heads = {name: weight.float() for name, weight in find_pretrained("lpips_alex").items()}
    missing = metric.net.load_state_dict(heads, strict=False).unexpected_keys
    assert not missing, missing
    return metric


def with_dists_weights(metric: nn.Module) -> nn.Module:
    for name, weight in find_pretrained("dists").items():
        getattr(metric.net, name).data.copy_(weight)
    return metric


def pairs(folder: Path, count: int) -> Iterator[tuple[str, dict[str, Callable[[], np.ndarray]], np.ndarray]]:
    """(image, {method: its SR}, HR) of the smallest images first."""
    net, _ = load_generator(shipped_model())
    net.eval().requires_grad_(False)
    for image in sorted(list_images(folder), key=lambda each: np.prod(each.size()))[:count]:
        hr = mod_crop(image.read_uint8(), SCALE)
        lr = imresize(hr, 1 / SCALE)
        yield image.stem, {"bicubic": partial(imresize, lr, SCALE), "bundled model": partial(enlarge, net, lr)}, hr


def enlarge(net: nn.Module, lr: np.ndarray) -> np.ndarray:
    return upscale_image(net, lr, SCALE, tile=0, device=CPU)


def measure(variant: Variant, sr: np.ndarray, hr: np.ndarray) -> float:
    with torch.inference_mode():
        return float(variant.measure(to_tensor(sr)[None], to_tensor(hr)[None]))


def table(record: dict) -> str:
    values: dict[str, dict[str, float]] = record["values"]
    images = [*next(iter(values.values()))]
    lines = [
        "# Metrics compared with other libraries",
        "",
        f"`python benchmarks/metric_parity.py` on {len(images) // 2} images of Set14, enlarged four times by bicubic",
        "interpolation and by the bundled model, from LR of our bicubic interpolation. All libraries have the same weights.",
        "Shown are means over the images, and the largest difference of a single image from the first row of its metric.",
        "",
        ", ".join(f"{name} {number}" for name, number in record["versions"].items()) + ".",
        "",
        "| metric | library | settings | bicubic | bundled model | largest difference | cause of the difference |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    ours: dict[str, float] = {}
    for key, cause in record["causes"].items():
        found = values[key]
        metric, library, settings = key.split(", ", 2)
        if library == "aesop" and settings == "as it is":
            ours = found
        means = [
            np.mean([found[name] for name in images if name.endswith(method)]) for method in ("bicubic", "bundled model")
        ]
        largest = max(abs(found[name] - ours[name]) for name in images)
        difference = "" if found is ours else f"{largest:.1e}"
        cells = [metric, library, settings, *(f"{mean:.4f}" for mean in means), difference, cause]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of HR images")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--niqe", type=Path, help="niqe_pris_params.npz; default: found like other weights")
    parser.add_argument("--images", type=int, default=14, help="the smallest ones")
    parser.add_argument("--record", type=Path, help="default: results/metric_parity_<date>_cpu.json")
    arguments = parser.parse_args()
    os.environ["AESOP_WEIGHTS"] = str(arguments.weights.resolve())
    warnings.simplefilter("ignore")
    info = described(CPU)
    path = arguments.record or RESULTS / f"metric_parity_{info['date']}_cpu.json"
    record = json.loads(path.read_text()) if path.is_file() else {"values": {}, "causes": {}}
    record = info | record
    record["versions"] = info["versions"] | {name: version(name) for name in ("pyiqa", "torchmetrics", "numpy")}
    known = [*variants(arguments.niqe)]
    record["causes"] = {variant.key: variant.cause for variant in known}
    for name, methods, hr in pairs(arguments.data, arguments.images):
        for method, make in methods.items():
            key = f"{name}, {method}"
            missing = [variant for variant in known if key not in record["values"].setdefault(variant.key, {})]
            sr = make() if missing else hr
            for variant in missing:
                record["values"][variant.key][key] = measure(variant, sr, hr)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(record, indent=1) + "\n")
            print(f"measured {key}", flush=True)
    text = table(record)
    print(text)
    with replacing(DOCUMENT) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
