"""What the weight files of a training say of the model."""

from aesop.system.option_types import Options


class ModelOptions(Options):
    title: str = ""
    """Its name, e.g. Faces. Default: the run's name."""
    author: str = ""
    """Who made it; several names with commas between them."""
    license: str = ""
    """SPDX identifier of the licence of the weights, e.g. CC-BY-4.0."""
    tags: list[str] = []
    """What it is for, in single words: photo, faces, compression-removal."""
    description: str = ""
    """What it is good at, and what not, as Markdown."""
