"""The error that images and image folders raise."""


class ImageError(ValueError):
    """An unusable image, folder or store. The message names it and the next step."""
