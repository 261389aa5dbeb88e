"""Reading YAML safely: plain values only, with limits on size and nesting, and no key twice in a mapping."""

import copy
import difflib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from aesop.options.error_messages import ConfigError, Lines

# An option file has a few hundred values in a few kilobytes. Files within these limits take little time and memory.
MAX_BYTES = 200_000
MAX_VALUES = 5_000


def read_yaml(path: str | Path) -> tuple[dict[str, Any], Lines]:
    """The mapping in a YAML file, without a key `$schema` at its top, and the line of every option in it."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES // 1000} kB")
        raw, node = parse_yaml(data.decode())
        if not isinstance(raw, dict):
            raise ValueError("it holds no options (expected `key: value` lines)")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], 1)
        raise ConfigError(f"option file {path} does not exist" + (f"; did you mean {near[0]}?" if near else "")) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"option file {path} cannot be read: {error}") from error
    places = list(_lines_below(node))
    lines, count = dict(places), Counter(option for option, _ in places)
    if repeated := [f"line {lines[option]}: {'.'.join(option)}" for option in lines if count[option] > 1]:
        raise ConfigError(f"{path} gives options twice:\n  " + "\n  ".join(repeated))
    raw.pop("$schema", None)  # for editors
    # Aliases of one anchor become copies, so that an override changes only one of them.
    return merged({}, raw), lines


class _Loader(yaml.SafeLoader):
    """Text, numbers, booleans, lists and mappings only. Dates stay text: a run may be named after a day."""

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
        """Count values with every alias expanded: a few lines of nested aliases can stand for billions of values."""
        before, is_alias = self.values, self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        # An alias to a node that is still open would expand without end.
        self.values += self.values_in.get(node, MAX_VALUES) if is_alias else 1
        self.values_in.setdefault(node, self.values - before)
        if self.values > MAX_VALUES:
            raise ValueError(f"it holds more than {MAX_VALUES} values with its aliases expanded")
        return node

    def construct_scalar(self, node: Any) -> Any:
        if node.tag.endswith(":int") and len(node.value) > 1000:  # Python refuses to print more than 4300 digits
            raise ValueError(f"line {node.start_mark.line + 1}: a number has too many digits")
        return super().construct_scalar(node)


def parse_yaml(text: str) -> tuple[Any, yaml.Node | None]:
    """The value in a YAML text, and its node tree. Text that an option file cannot hold is a ValueError."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        # Constructing expands `<<` in the node itself.
        return (None if node is None else loader.construct_document(copy.deepcopy(node))), node
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error).replace('in "<unicode string>", ', "")) from error
    except LookupError as error:  # `!!bool word` and `!!int ""`
        raise ValueError(f"a value does not have the type of its tag ({error})") from error


def _lines_below(node: yaml.Node | None, option: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    children: list[tuple[Any, Any, Any]] = []
    if isinstance(node, yaml.MappingNode):
        children = [(key.value, key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        children = [(index, item, item) for index, item in enumerate(node.value)]
    for name, start, child in children:
        yield (*option, str(name)), start.start_mark.line + 1
        yield from _lines_below(child, (*option, str(name)))


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A deep merge as a new dictionary. A section with another `type` replaces the one in `base` as a whole."""
    result = {name: merged({}, value) if isinstance(value, Mapping) else value for name, value in base.items()}
    for name, value in over.items():
        if isinstance(value, Mapping):
            former = result.get(name)
            same_type = isinstance(former, Mapping) and value.get("type", former.get("type")) == former.get("type")
            value = merged(former if same_type else {}, value)
        result[name] = value
    return result
