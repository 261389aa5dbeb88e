"""`aesop push`: upload a model's card to the Hugging Face hub."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from aesop.commands.card import listing, sizes_in
from aesop.publishing.hub import address_of, card_for_hub, push_to_hub
from aesop.system.terminal import Note


def push(model: str, repository: str, public: bool, dry_run: bool, console: Console) -> dict[str, Any]:
    """Upload, or say what would be uploaded; print and return it."""
    if not dry_run:
        pushed = push_to_hub(model, repository, public=public)
        console.print(Note(str(pushed)))
        return {"address": pushed.address, "uploaded": True, "public": pushed.is_public, "sizes": sizes_in(pushed.card)}
    with TemporaryDirectory() as temporary:  # for the card of a model
        sizes = sizes_in(card_for_hub(model, repository, Path(temporary) / "card"))
    console.print("\n".join(["would upload:", *listing(sizes)]))
    visible = (
        "public, if it does not exist yet" if public else "private; if it is public, nothing is uploaded without --public"
    )
    console.print(f"to {address_of(repository)} ({visible})")
    return {"address": address_of(repository), "uploaded": False, "public": None, "sizes": sizes}
