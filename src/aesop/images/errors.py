"""The error that image files and folders raise."""


class ImageError(ValueError):
    """An image file or folder that cannot be used; the message names it and says what to do."""
