"""Models of the Hugging Face hub: `hf:owner/name`, or `hf:owner/name/file` (extra: hub).

Files are kept in the cache of huggingface_hub, which also finds the user's login and obeys HF_HUB_OFFLINE.
"""

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from aesop.system.wording import first_few
from aesop.weights.errors import WeightsError

HUB_PREFIX = "hf:"
LOGIN = "`hf auth login` asks for a token of https://huggingface.co/settings/tokens"


def hub_library() -> Any:
    """The package huggingface_hub; ValueError says how to get it."""
    try:
        import_module("huggingface_hub.errors")
        return import_module("huggingface_hub")
    except ImportError as error:
        raise ValueError('the Hugging Face hub needs another package: pip install "aesop-sr[hub]"') from error


def is_repository(name: str) -> bool:
    """Whether a name has the form owner/name."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None


def download(name: str, extensions: Sequence[str]) -> Path:
    """The weight file that `hf:owner/name/file` names, or the only .safetensors file of `hf:owner/name`.

    Raises:
        WeightsError: there is no such file, there are several, or the hub is not reached and the file is not in the cache.
    """
    repository, file = _parts(name)
    hub = hub_library()
    with clear_errors(hub, name):
        if not file:
            file = _only_weights(_files(hub, repository), name)
        elif not file.endswith(tuple(extensions)):
            raise WeightsError(f"{name}: give a weight file ({' '.join(extensions)})")
        return Path(hub.hf_hub_download(repository, file))


def _parts(name: str) -> tuple[str, str]:
    owner, _, rest = name.removeprefix(HUB_PREFIX).partition("/")
    repository, _, file = rest.partition("/")
    if not is_repository(f"{owner}/{repository}"):
        raise WeightsError(f"{name}: write {HUB_PREFIX}owner/name, or {HUB_PREFIX}owner/name/file.safetensors")
    return f"{owner}/{repository}", file


def _files(hub: Any, repository: str) -> list[str]:
    """The files of a repository; those in the cache if the hub is not reached."""
    try:
        return hub.HfApi().list_repo_files(repository)
    except hub.errors.HfHubHTTPError:
        raise  # its answer: there is none, or none for this user
    except (OSError, hub.errors.HTTPError):
        cached = Path(hub.snapshot_download(repository, local_files_only=True, allow_patterns="*.safetensors"))
        return [file.relative_to(cached).as_posix() for file in cached.rglob("*") if file.is_file()]


def _only_weights(files: Sequence[str], name: str) -> str:
    found = [file for file in files if file.endswith(".safetensors")]
    if len(found) == 1:
        return found[0]
    if found:
        raise WeightsError(f"{name} has several weight files: add one of {first_few(found, most=10, separator=', ')}")
    raise WeightsError(f"{name} has no .safetensors file; it has {first_few(files, most=10, separator=', ') or 'no files'}")


@contextmanager
def clear_errors(hub: Any, name: str) -> Generator[None]:
    """Raise what the hub and the network raise as a WeightsError or an OSError of one line."""
    errors = hub.errors
    try:
        yield
    except errors.GatedRepoError as error:
        raise WeightsError(
            f"{name}: its owner asks you to accept terms on its page at https://huggingface.co first"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise WeightsError(
            f"{name}: the Hugging Face hub has no such repository, or it is private and you are not logged in: {LOGIN}"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise OSError(f"{name} is not in the cache, and the Hugging Face hub is not reached: are you offline?") from error
    except errors.EntryNotFoundError as error:
        raise WeightsError(f"{name}: the repository has no such file") from error
    except errors.LocalTokenNotFoundError as error:
        raise OSError(f"{name}: you are not logged in: {LOGIN}") from error
    except (errors.OfflineModeIsEnabled, errors.HTTPError) as error:
        brief = (str(error) or type(error).__name__).splitlines()[0]
        refused = getattr(getattr(error, "response", None), "status_code", None) in (401, 403)
        raise OSError(f"{name}: the Hugging Face hub: {brief}{f' ({LOGIN})' if refused else ''}") from error
