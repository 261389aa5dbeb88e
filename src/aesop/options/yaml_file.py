"""Reading YAML safely: no objects, no bombs, no repeated keys."""

import copy
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from aesop.options.error_messages import ConfigError

# An option file has a few hundred values in a few kilobytes. With a limit, none takes noticeable time or memory.
MAX_BYTES = 200_000
MAX_VALUES = 5_000


def read_yaml(path: str | Path) -> tuple[dict[str, Any], yaml.Node | None]:
    """The mapping in a YAML file and its node tree (for line numbers)."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], 1)
        raise ConfigError(f"option file {path} does not exist" + (f"; did you mean {near[0]}?" if near else "")) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"option file {path} cannot be read: {error}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES // 1000} kB: it is no option file")
    try:
        raw, nodes = _parse(text)
    except ValueError as error:
        raise ConfigError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds no options (expected `key: value` lines)")
    repeated = list(_repeated_keys(nodes))
    if repeated:
        raise ConfigError(f"{path} gives options twice:\n  " + "\n  ".join(repeated))
    return _merge({}, raw), nodes  # what an alias stands for becomes a copy, for an override to change alone


class _Loader(yaml.SafeLoader):
    """Words, numbers, lists and mappings: no option is a date, bytes or a set, and a run may be named after a day."""

    yaml_constructors = {
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
    }
    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str):
        super().__init__(text)
        self.values, self.values_in = 0, {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Counts values with each alias replaced by what it stands for: a few lines of them can make billions."""
        before, is_alias = self.values, self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        # An alias inside what it stands for has no end.
        self.values += self.values_in.get(node, MAX_VALUES) if is_alias else 1
        self.values_in.setdefault(node, self.values - before)
        if self.values > MAX_VALUES:
            raise ValueError(f"it holds more than {MAX_VALUES} values, with what its aliases stand for written out")
        return node

    def construct_scalar(self, node: Any) -> Any:
        if node.tag.endswith(":int") and len(node.value) > 1000:  # Python prints none of more than 4300 digits
            raise ValueError(f"line {node.start_mark.line + 1}: a number has too many digits")
        return super().construct_scalar(node)


def _parse(text: str) -> tuple[Any, yaml.Node | None]:
    """The value in a YAML text and its node tree.

    Raises:
        ValueError: for a text that is no YAML, or stands for more than an option file can hold.
    """
    try:
        loader = _Loader(text)
        nodes = loader.get_single_node()
        if nodes is None:
            return None, None
        return loader.construct_document(copy.deepcopy(nodes)), nodes  # constructing merges `<<` into the nodes
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error).replace('in "<unicode string>", ', "")) from error
    except LookupError as error:  # `!!bool word` and `!!int ""`
        raise ValueError(f"a value is not of the type of its tag ({error})") from error


def _repeated_keys(node: yaml.Node | None, where: str = "") -> Iterator[str]:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = f"{where}{key.value}"
            if name in seen:
                yield f"line {key.start_mark.line + 1}: {name}"
            seen.add(name)
            yield from _repeated_keys(value, f"{name}.")


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge into a new dictionary; an option group of another `type` replaces the former one whole."""
    merged = {k: _merge({}, v) if isinstance(v, Mapping) else v for k, v in base.items()}
    for key, value in over.items():
        if isinstance(value, Mapping):
            former = merged.get(key)
            same_type = isinstance(former, Mapping) and value.get("type", former.get("type")) == former.get("type")
            merged[key] = _merge(former if same_type else {}, value)
        else:
            merged[key] = value
    return merged
