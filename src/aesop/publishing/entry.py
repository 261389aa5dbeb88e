"""A model's entry of OpenModelDB, and the ids that it has there."""

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from aesop.archs import image_channels
from aesop.publishing.model import Model
from aesop.publishing.openmodeldb import MODEL_ID, TAGS, Entry, PairedImage, Resource
from aesop.publishing.training import DEGRADED
from aesop.system.files import sha256_of

# Architectures whose ids there are not our names in small letters.
_ARCHITECTURES = {
    "RRDBNet": "esrgan",
    "MSRResNet": "sr-res-net",
    "SPSRNet": "spsr",
    "SRVGGNetCompact": "compact",
    "UpCunet2x": "real-cugan",
    "UpCunet3x": "real-cugan",
    "UpCunet4x": "real-cugan",
    "SwiftSRGAN": "swift-srgan",
}
# How networks name what their size is given by there.
_SIZES = {"num_feat": "nf", "num_block": "nb", "num_conv": "nc"}


def entry_of(model: Model, weights: Path, urls: Sequence[str], images: Sequence[tuple[str, str]]) -> Entry:
    """The entry of a model whose file to publish is `weights`. `images`: addresses of bicubic's and the model's pictures."""
    about, options, training = model.about, model.info.options, model.training
    taken, made = image_channels(options)
    try:
        return Entry(
            name=about.title,
            author=user_ids(about.author),
            license=about.license or None,
            tags=[tag for tag in about.tags if tag in TAGS],
            description=about.description.strip(),
            date=about.date,
            architecture=architecture_id(options["type"]),
            size=[f"{options[name]}{unit}" for name, unit in _SIZES.items() if name in options] or None,
            scale=model.info.scale,
            inputChannels=taken,
            outputChannels=made,
            resources=[
                Resource(
                    platform="pytorch",
                    type="safetensors",
                    size=weights.stat().st_size,
                    sha256=sha256_of(weights),
                    urls=list(urls),
                )
            ],
            trainingIterations=training.iterations,
            trainingBatchSize=training.batch_size,
            trainingHRSize=training.hr_size,
            trainingOTF=training.lr == DEGRADED if training.lr else None,
            dataset=training.dataset or None,
            pretrainedModelG=training.start if re.match(MODEL_ID, training.start) else None,
            images=[PairedImage(type="paired", LR=bicubic, SR=sr) for bicubic, sr in images],
        )
    except ValidationError as error:
        fault = error.errors()[0]
        raise ValueError(
            f"OpenModelDB does not take {'.'.join(map(str, fault['loc']))} {fault['input']!r}: {fault['msg']}"
        ) from error


def model_id(title: str, scale: int) -> str:
    """The name of an entry's file: `4x-Title`, where the title names its scale only once."""
    name = "-".join(re.findall(r"[a-zA-Z0-9]+", title))
    name = re.sub(rf"^({scale}x|x{scale})-?|-({scale}x|x{scale})$", "", name)
    if not name:
        raise ValueError(
            f"--title {title}: the title needs letters from a to z or digits besides the scale, for names of files"
        )
    return f"{scale}x-{name}"


def user_ids(author: str) -> str | list[str]:
    """The ids of the persons of `A, B`."""
    ids = ["-".join(re.findall(r"[a-z0-9]+", name.lower())) for name in author.split(",")]
    return ids[0] if len(ids) == 1 else ids


def architecture_id(network: str) -> str:
    return _ARCHITECTURES.get(network) or "-".join(re.findall(r"[a-z0-9]+", network.lower()))
