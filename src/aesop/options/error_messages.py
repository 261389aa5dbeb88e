"""What is wrong with an option file, in words: where, what, the nearest valid name."""

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from aesop.archs import SpandrelNetOptions
from aesop.options.basicsr import former_place
from aesop.options.config import Config
from aesop.options.datasets import Datasets, PairedDataset


class ConfigError(ValueError):
    """An option file with faults; the message lists all of them with line and remedy."""

    def __init__(self, message: str, faults: Sequence[str] = ()):
        count = f": {len(faults)} fault{'s' if len(faults) > 1 else ''}\n  " if faults else ""
        faults = [fault if len(fault) <= 2000 else f"{fault[:2000]} ..." for fault in faults]
        super().__init__(message + count + "\n  ".join(faults))
        self.faults = faults


def _without_union_echoes(entries: list[Any]) -> list[Any]:
    """A value that fits no member of a plain union is reported once a member: keep the first."""
    seen, kept = set(), []
    for entry in entries:
        where = tuple(part for part in entry["loc"] if part not in ("str", "list[str]"))
        if where not in seen:
            seen.add(where)
            kept.append(entry)
    return kept


def _child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    entries = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for key, value in entries if key.value == name), None)


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
