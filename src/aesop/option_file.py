"""Reading option files: overrides, pipelines, and all faults of a file at once with line and nearest valid name."""

import copy
import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from aesop.config import STAGES, Config, Datasets, PairedDataset, SpandrelNetOptions
from aesop.published import former_place, from_published

# An option file has a few hundred values in a few kilobytes. With a limit, none takes noticeable time or memory.
MAX_BYTES = 200_000
MAX_VALUES = 5_000


class ConfigError(ValueError):
    """An option file with faults; the message lists all of them with line and remedy."""

    def __init__(self, message: str, faults: Sequence[str] = ()):
        count = f": {len(faults)} fault{'s' if len(faults) > 1 else ''}\n  " if faults else ""
        faults = [fault if len(fault) <= 2000 else f"{fault[:2000]} ..." for fault in faults]
        super().__init__(message + count + "\n  ".join(faults))
        self.faults = faults


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Config, list[str]]:
    """An option file with `key.path=value` overrides -> (configuration, notes on options without meaning here).

    Raises:
        ConfigError: listing every fault with its line and the nearest valid name.
    """
    raw, nodes = read_yaml(path)
    if isinstance(raw.get("stages"), Mapping):
        raise ConfigError(f"{path} describes several stages: run it with `aesop pipeline {path}`")
    apply_overrides(raw, overrides)
    return build_config(raw, str(path), nodes)


def load_pipeline(path: str | Path, overrides: Sequence[str] = ()) -> tuple[dict[str, dict[str, Any]], yaml.Node | None]:
    """A pipeline file: what all stages share, and below `stages` what each stage changes -> raw options per stage.

    A stage with `weights: FILE` is skipped, whatever else it says, and hands that file on. An override of a shared option
    (`train.total_iter=9`) holds for every stage, one of `stages.psnr.train.total_iter` for that stage.
    """
    raw, nodes = read_yaml(path)
    shared = [override for override in overrides if not override.startswith("stages.")]
    apply_overrides(raw, [override for override in overrides if override.startswith("stages.")])
    stages = raw.pop("stages", None)
    if not isinstance(stages, Mapping) or not stages:
        raise ConfigError(f"{path}: no `stages` section; for a single stage use `aesop train {path}`")
    unknown = [str(name) for name in stages if name not in STAGES]
    if unknown:
        raise ConfigError(f"{path}: unknown stage {', '.join(unknown)}; the stages are {', '.join(STAGES)}, in that order")
    merged = {}
    for stage in STAGES:
        own = stages.get(stage)
        if own is None:
            raise ConfigError(f"{path}: stages.{stage} is missing; give its options, or `weights: FILE` to skip it")
        if not isinstance(own, Mapping):
            raise ConfigError(f"{path}: stages.{stage} must be a mapping of options, found {_shown(own)}")
        if "weights" in own:
            merged[stage] = {"weights": own["weights"]}
        else:
            merged[stage] = {**_merge(raw, own), "stage": stage}
            apply_overrides(merged[stage], shared)
    return merged, nodes


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

    yaml_constructors = {  # noqa: RUF012
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
    }
    yaml_implicit_resolvers = {  # noqa: RUF012
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


def apply_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> None:
    """Set `key.path=value` (the value read as YAML) in nested options."""
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign or not key:
            raise ConfigError(f"override {_shown(override)} must look like key.path=value, e.g. train.total_iter=1000")
        *parents, last = key.split(".")
        node = raw
        for name in parents:
            child = node.get(name)
            if not isinstance(child, dict):
                child = node[name] = {}
            node = child
        try:
            node[last] = _parse(value)[0]
        except ValueError as error:
            raise ConfigError(f"override {_shown(override)}: the value is no valid YAML") from error


def build_config(raw: Mapping[str, Any], source: str, nodes: yaml.Node | None = None) -> tuple[Config, list[str]]:
    """Check raw options; see `load_config`. `nodes` gives the faults their line numbers."""
    try:
        raw, notes = from_published(raw)
        return Config.model_validate(raw), notes
    except ValidationError as error:
        faults = [fault for entry in _without_union_echoes(error.errors()) for fault in _describe(entry, nodes)]
    except ValueError as error:
        faults = list(_with_lines(str(error), nodes))
    raise ConfigError(source, faults) from None


def _without_union_echoes(entries: list[Any]) -> list[Any]:
    """A value that fits no member of a plain union is reported once a member: keep the first."""
    seen, kept = set(), []
    for entry in entries:
        where = tuple(part for part in entry["loc"] if part not in ("str", "list[str]"))
        if where not in seen:
            seen.add(where)
            kept.append(entry)
    return kept


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


def stage_nodes(nodes: yaml.Node | None, stage: str) -> yaml.Node | None:
    """A pipeline file's node tree as one stage sees it: its own options over the shared ones."""
    own = _child(_child(nodes, "stages"), stage)
    return nodes if own is None else _merge_nodes(nodes, own)


def _child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    entries = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for key, value in entries if key.value == name), None)


def _merge_nodes(base: yaml.Node | None, over: yaml.Node) -> yaml.Node:
    if not (isinstance(base, yaml.MappingNode) and isinstance(over, yaml.MappingNode)):
        return over
    own = [(key, _merge_nodes(_child(base, key.value), value)) for key, value in over.value]
    names = {key.value for key, _ in own}
    return yaml.MappingNode(over.tag, own + [entry for entry in base.value if entry[0].value not in names])


def _describe(entry: Mapping[str, Any], nodes: yaml.Node | None) -> Iterator[str]:
    """One pydantic error as lines of text: where, what is wrong, what to do."""
    location, model = _resolve(entry["loc"])
    kind, given = entry["type"], entry.get("input")
    if kind == "union_tag_invalid":
        location = [*location, "type"]
    line = _line_of(location, nodes, whole=kind != "missing")
    where = f"{f'line {line}' if line else 'option'}: {'.'.join(location)}"
    if kind == "value_error":
        text = str(entry["ctx"]["error"])
        yield from (f"{where}: {line}" for line in text.splitlines()) if location else _with_lines(text, nodes)
    elif kind == "extra_forbidden":
        known = list(model.model_fields) if model else []
        near = difflib.get_close_matches(location[-1], known, 1, 0.6)
        yield f"{where}: unknown option; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")
    elif kind == "missing":
        yield f"{where}: missing"
    elif kind in ("union_tag_invalid", "literal_error"):
        tag = given.get("type") if isinstance(given, Mapping) else given
        expected = str(entry["ctx"].get("expected_tags") or entry["ctx"].get("expected"))
        names = [name.strip(" '") for name in expected.replace(" or ", ",").split(",")]
        near = difflib.get_close_matches(tag, names, 1, 0.6) if isinstance(tag, str) else []
        yield f"{where}: {_shown(tag)} is none of {expected}" + (f"; did you mean {near[0]}?" if near else "")
    elif kind == "union_tag_not_found" and not isinstance(given, Mapping):
        yield f"{where}: must hold options (`key: value` lines), found {_shown(given)}"
    elif kind == "union_tag_not_found" and model is not None:
        members = _models_in(model.model_fields[location[-1]].annotation)
        names = [name for member in members for name in get_args(member.model_fields["type"].annotation)]
        others = " and spandrel's (SwinIR, DRCT ...)" if SpandrelNetOptions in members else ""
        yield f"{where}.type: missing; known: {', '.join(names)}{others}"
    elif kind in ("model_type", "model_attributes_type", "dict_type"):
        yield f"{where}: must hold options (`key: value` lines), found {_shown(given)}"
    else:
        yield f"{where}: {entry['msg'][0].lower()}{entry['msg'][1:]}, found {_shown(given)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."


def _with_lines(text: str, nodes: yaml.Node | None) -> Iterator[str]:
    """Messages that begin with an option's name, each with the option's line."""
    for message in text.splitlines():
        found = _line_of(message.partition(":")[0].split("."), nodes)
        yield f"line {found}: {message}" if found else message


def _resolve(loc: Sequence[Any]) -> tuple[list[str], type[BaseModel] | None]:
    """Pydantic's location -> the option's dotted path without union tags, and the model that holds the last name."""
    path: list[str] = []
    candidates: list[type[BaseModel]] = [Config]
    holder: type[BaseModel] | None = Config
    for part in loc:
        tagged = [m for m in candidates if "type" in m.model_fields and part in get_args(m.model_fields["type"].annotation)]
        tagged += [m for m in candidates if m is SpandrelNetOptions and part == "spandrel"]
        if tagged and len(candidates) > 1:
            candidates = tagged
            continue
        if isinstance(part, str) and part in ("str", "list[str]", "int"):
            continue
        path.append(str(part))
        holder = candidates[0] if candidates else holder
        annotations = [m.model_fields[part].annotation for m in candidates if part in m.model_fields]
        if not annotations and any(m is Datasets for m in candidates):
            annotations = [PairedDataset]
        candidates = [model for annotation in annotations for model in _models_in(annotation)]
    return path, holder


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, Annotated, dict, list):
        return [model for argument in get_args(annotation) for model in _models_in(argument)]
    return []


def _line_of(location: Sequence[str], nodes: yaml.Node | None, whole: bool = False) -> int | None:
    """The line of the deepest part of an option's path that the file has; with `whole` None unless it has all of it."""
    found = (_line_in(place, nodes, whole=True) for place in former_place(list(location)))
    return next((line for line in found if line), None) or _line_in(location, nodes, whole)


def _line_in(location: Sequence[str], nodes: yaml.Node | None, whole: bool) -> int | None:
    line, node = None, nodes
    for name in location:
        if not isinstance(node, yaml.MappingNode):
            break
        found = next(((key, value) for key, value in node.value if key.value == name), None)
        if found is None:
            return None if whole else line
        line, node = found[0].start_mark.line + 1, found[1]
    return line
