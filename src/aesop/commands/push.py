"""`aesop push`: upload a model's card to the Hugging Face hub."""

from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from aesop.commands.card import listing
from aesop.publishing.hub import card_for_hub, push_to_hub
from aesop.system.terminal import Note


def push(model: str, repository: str, public: bool, dry_run: bool, console: Console) -> None:
    if not dry_run:
        console.print(Note(push_to_hub(model, repository, public=public)))
        return
    with TemporaryDirectory() as temporary:  # for the card of a model
        folder = card_for_hub(model, repository, Path(temporary) / "card")
        console.print("\n".join(["would upload:", *listing(folder)]))
    visible = (
        "public, if it does not exist yet" if public else "private; if it is public, nothing is uploaded without --public"
    )
    console.print(f"to https://huggingface.co/{repository} ({visible})")
