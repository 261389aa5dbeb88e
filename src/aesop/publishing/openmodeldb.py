"""Entries of OpenModelDB (openmodeldb.info): what one may contain, as its repository checks it."""

from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# Tags that an entry may have. The database derives others, for scale, architecture, and licence, by itself.
TAGS = (
    *("ai-generated", "anime", "anti-aliasing", "cartoon", "cgi", "colorization", "compression-removal", "dds", "debanding"),
    *("deblur", "dedither", "dehalftone", "dehalo", "denoise", "faces", "game-screenshots", "game-textures"),
    *("general-upscaler", "inpainting", "jpeg", "manga", "photo", "pixel-art", "pretrained", "research", "restoration"),
    *("text", "texture-generation", "video-frame"),
)
MODEL_ID = r"^\d+x-[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*$"


def _real_date(text: str) -> str:
    date.fromisoformat(text)
    return text


def _known_tag(tag: str) -> str:
    if tag not in TAGS:
        raise ValueError(f"OpenModelDB has no tag {tag}")
    return tag


def _lasting(url: str) -> str:
    if url.startswith("https://cdn.discordapp.com/"):
        raise ValueError("links to Discord's files expire")
    return url


Id = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
ModelId = Annotated[str, Field(pattern=MODEL_ID)]
Text = Annotated[str, Field(min_length=1)]
Trimmed = Annotated[str, Field(pattern=r"^(\S([\s\S]*\S)?)?$")]
Date = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$"), AfterValidator(_real_date)]
Url = Annotated[str, Field(pattern=r"^\s*https?://\S+\s*$"), AfterValidator(_lasting)]
Number = Annotated[int, Field(ge=1)]
Channels = Annotated[int, Field(ge=1, le=4)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Resource(_Record):
    """A file to download."""

    platform: Literal["pytorch", "onnx", "ncnn"]
    type: Literal["pth", "safetensors", "onnx"]
    size: Number
    """In bytes."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
    """Of the whole file."""
    urls: Annotated[list[Url], Field(min_length=1)]


class PairedImage(_Record):
    """Two pictures of one size, shown with a slider."""

    type: Literal["paired"]
    LR: Url
    SR: Url
    caption: str | None = None


class StandaloneImage(_Record):
    type: Literal["standalone"]
    url: Url
    caption: str | None = None


class Entry(_Record):
    """The JSON file of a model. Thumbnails are made by the database and stand in no entry."""

    name: Text
    author: Id | Annotated[list[Id], Field(min_length=1)]
    license: Text | None
    tags: Annotated[list[Annotated[str, AfterValidator(_known_tag)]], Field(min_length=1)]
    description: Trimmed
    date: Date
    architecture: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+|\+)*$")]
    size: Annotated[list[Text], Field(min_length=1)] | None
    """How large the network is, in its architecture's terms: 64nf, 23nb."""
    scale: Annotated[int, Field(ge=1, le=16)]
    inputChannels: Channels
    outputChannels: Channels
    resources: Annotated[list[Resource], Field(min_length=1)]
    trainingIterations: Number | None = None
    trainingEpochs: Number | None = None
    trainingBatchSize: Number | None = None
    trainingHRSize: Number | None = None
    trainingOTF: bool | None = None
    """Whether LR was made by random degradation during the training."""
    dataset: str | None = None
    datasetSize: Number | None = None
    pretrainedModelG: ModelId | None = None
    pretrainedModelD: ModelId | None = None
    images: list[Annotated[PairedImage | StandaloneImage, Field(discriminator="type")]]

    def to_json(self) -> str:
        return self.model_dump_json(indent=4, exclude_defaults=True) + "\n"
