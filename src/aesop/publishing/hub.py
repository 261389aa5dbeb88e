"""Uploading a model's card to the Hugging Face hub. Nothing becomes public without being asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aesop.inference.hub import HUB_PREFIX, clear_errors, hub_library, is_repository
from aesop.publishing.card import FINDER, is_card, write_card


@dataclass(frozen=True)
class Pushed:
    """A card that was uploaded. As text, a sentence."""

    card: Path
    address: str
    is_public: bool
    wanted_public: bool

    def __str__(self) -> str:
        if self.wanted_public and not self.is_public:
            return f"{self.address} is private and stays so: its settings there make it public"
        return f"{self.address} ({'public' if self.is_public else 'private'})"


def push_to_hub(model: str | Path, repository: str, *, public: bool = False, api: Any = None) -> Pushed:
    """Upload a model's card to `owner/name` on the Hugging Face hub, and return what became of it.

    A repository that does not exist is created, private unless `public`. Files of the same names are replaced; the hub keeps
    their former versions. Needs the extra `hub` and a login (`hf auth login`).

    Args:
        model: a card's folder, or a model, of which `card_for_hub` writes the card.
        public: allow a public repository.
        api: what stands in for `huggingface_hub.HfApi()`.

    Raises:
        ValueError: the repository is public and `public` is not set; or the model does not say what a card needs.
        OSError: the hub is not reached, or refuses.
    """
    hub = hub_library()
    api = hub.HfApi() if api is None else api
    folder = card_for_hub(model, repository)
    with clear_errors(hub, HUB_PREFIX + repository):
        try:
            is_public = not api.model_info(repository).private
        except hub.errors.RepositoryNotFoundError:
            api.create_repo(repository, private=not public)
            is_public = public
        if is_public and not public:
            raise ValueError(f"{repository} is public: add --public to upload to it")
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message=f"Upload {folder.name}", ignore_patterns=f"**{FINDER}"
        )
    return Pushed(folder, address_of(repository), is_public, public)


def address_of(repository: str) -> str:
    return f"https://huggingface.co/{repository}"


def card_for_hub(model: str | Path, repository: str, target: Path | None = None) -> Path:
    """The card's folder itself, or one that is written for a model, with the repository as the place of its weights.

    It is written to `target`; default: see `write_card`.
    """
    if not is_repository(repository):
        raise ValueError(f"{repository}: write the repository as owner/name")
    folder = Path(model)
    if not folder.is_dir():
        return write_card(model, target, urls=[HUB_PREFIX + repository])
    if not is_card(folder):
        raise ValueError(f"{folder} is not a card and nothing else, so it is not uploaded: aesop card MODEL writes one")
    return folder
