"""The error that videos raise."""


class VideoError(ValueError):
    """A clip that cannot be read, or not be written as asked. The message names it and the next step."""
