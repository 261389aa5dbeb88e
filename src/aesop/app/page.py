"""The page: what is on it, and what its parts do. The work itself is in `session.py`.

A further choice is a component beside `model` and a field of `Wish`. A further view of a result is one of _VIEWS, and a
file that `Session.previews` writes.
"""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aesop.app.session import MAX_MB, MAX_MEGAPIXELS, Cancelled, Session, Sessions, Wish
from aesop.commands.upscale_results import Result, counted
from aesop.inference.final_size import FinalSize
from aesop.inference.hallucination import FULL_COLOUR
from aesop.inference.models import known_models
from aesop.inference.shipped_models import MODELS, faithful_partner, shipped_model
from aesop.system.wording import readable
from aesop.weights.blend import MOST_TEXTURE

_HEAD = (
    "<h1>AESOP</h1><p>Drop pictures and get them back larger, with their metadata, transparency, and colour profile. "
    "They stay on this computer and are removed when you close the page.</p>"
)
_LEGEND = (
    "<p>Where the map is bright, the original may have looked different: the small picture did not show it. Black is "
    f"certain; in yellow places, values are expected to be off by {FULL_COLOUR} of 255 or more.</p>"
)
# What a size asks for: the fields of FinalSize, each with a label, a usual value, and its decimals.
_SIZES: Mapping[str, Mapping[str, tuple[str, float, int]]] = {
    "x2": {},
    "x4": {},
    "Longer side": {"longest": ("Longer side in pixels", 4000, 0)},
    "Fit into": {"width": ("Width in pixels", 3840, 0), "height": ("Height in pixels", 2160, 0)},
    "Megapixels": {"megapixels": ("Megapixels", 12, 1)},
}
# What the slider compares: the numbers of two of `Session.previews`.
_VIEWS = {"Before and after": (0, 1), "What was invented": (1, 2)}
_AUTOMATIC = "automatic"
_NO_PARTNER, _OWN_PARTNER = "", "own"
_NUMBERS = {name: number for fields in _SIZES.values() for name, number in fields.items()}


def build_page(gr: Any, sessions: Sessions) -> Any:
    """The page as `gradio.Blocks`; `gr` is gradio."""

    def slider_of(session: Session, number: int, view: str) -> list[str]:
        previews = session.previews(number)
        return [_address(previews[side]) for side in _VIEWS[view]]

    # Uploads are copied into the session's folder at once; gradio's own copies are removed after a minute.
    with gr.Blocks(title="AESOP", delete_cache=(60, 60), analytics_enabled=False) as page:
        gr.HTML(_HEAD, padding=False)
        with gr.Row(equal_height=False):
            with gr.Column(min_width=300, scale=2):
                drop = gr.File(label="Pictures", file_count="multiple", height=140, elem_id="drop")
                added = gr.HTML(_list_added([], []), elem_id="added", padding=False)
                clear = gr.Button("Remove all", size="sm", visible=False, elem_id="clear")
                model = gr.Dropdown(_models(), label="Model", elem_id="model")
                partner = gr.Dropdown(
                    _partners(_AUTOMATIC),
                    value=_partner_of(_AUTOMATIC),
                    label="Faithful model",
                    info="A network of the same training that adds no texture. With one, the texture can be chosen",
                    elem_id="partner",
                )
                texture = gr.Slider(
                    0,
                    MOST_TEXTURE,
                    value=1,
                    step=0.05,
                    label="Texture",
                    info="0: smooth and faithful, 1: the model as it is, above: even more",
                    visible=bool(_partner_of(_AUTOMATIC)),
                    elem_id="texture",
                )
                size = gr.Radio([*_SIZES], value="x4", label="Size", elem_id="size")
                with gr.Row():
                    numbers = [
                        gr.Number(value, label=label, visible=False, precision=digits, elem_id=name)
                        for name, (label, value, digits) in _NUMBERS.items()
                    ]
                start = gr.Button("Upscale", variant="primary", elem_id="start")
                cancel = gr.Button("Cancel", visible=False, elem_id="cancel")
            with gr.Column(min_width=300, scale=3):
                status = gr.HTML("<p>Results appear here.</p>", elem_id="status", padding=False)
                with gr.Column(visible=False) as comparison:
                    shown = gr.Dropdown(label="Shown", visible=False, elem_id="shown")
                    compared = gr.Radio([*_VIEWS], value=next(iter(_VIEWS)), label="Compare", elem_id="compared")
                    slider = gr.ImageSlider(
                        label="Drag the line", interactive=False, buttons=["fullscreen"], elem_id="slider"
                    )
                    legend = gr.HTML(_LEGEND, visible=False, elem_id="legend", padding=False)
                # Without this, gradio copies both files into a folder that all sessions share. It holds for plain values,
                # not for updates, which replace the component.
                slider.postprocess = lambda files: files and slider.data_model(root=[{"url": file} for file in files])
                downloads = gr.HTML(elem_id="downloads", padding=False)
        results = [status, comparison, shown, compared, slider, legend, downloads]

        def add(uploads: list[str], request: gr.Request) -> tuple[None, str, Any]:
            session = sessions.of(request.session_hash)
            errors = []
            for upload in uploads:
                try:
                    session.add(Path(upload))
                except (ValueError, OSError) as error:
                    errors.append(session.line(error))
            return None, _list_added([*session.pictures], errors), gr.update(visible=bool(session.pictures))

        def remove(request: gr.Request) -> tuple[str, Any]:
            sessions.of(request.session_hash).clear()
            return _list_added([], []), gr.update(visible=False)

        def ask_numbers(size: str) -> list[Any]:
            return [gr.update(visible=name in _SIZES[size]) for name in _NUMBERS]

        def begin() -> list[Any]:
            hidden = gr.update(visible=False)
            return [hidden, gr.update(visible=True), "", hidden, hidden, next(iter(_VIEWS)), None, hidden, ""]

        def find_partner(model: str) -> list[Any]:
            own = _partner_of(model)
            return [gr.update(choices=_partners(model), value=own), gr.update(visible=bool(own), value=1)]

        def ask_texture(partner: str) -> Any:
            return gr.update(visible=bool(partner))

        def upscale(
            model: str,
            partner: str,
            texture: float,
            size: str,
            longest: float | None,
            width: float | None,
            height: float | None,
            megapixels: float | None,
            request: gr.Request,
            progress: Any = gr.Progress(),  # noqa: B008 - gradio wants it so
        ) -> list[Any]:
            session = sessions.of(request.session_hash)
            given = {"longest": longest, "width": width, "height": height, "megapixels": megapixels}
            error = ""
            try:
                chosen = None if model == _AUTOMATIC else Path(model)
                mixes = partner != _NO_PARTNER and texture != 1
                faithful = None if partner in (_NO_PARTNER, _OWN_PARTNER) else Path(partner)
                wish = Wish(chosen, _final_size(size, given), texture if mixes else None, faithful if mixes else None)
                session.upscale(wish, lambda part: progress(part, desc="Upscaling"))
            except Cancelled:
                error = "Cancelled."
            except (ValueError, OSError) as fault:
                error = session.line(fault)
            return view(session, error)

        def view(session: Session, error: str = "") -> list[Any]:
            done = [number for number, result in enumerate(session.results) if not result.error]
            choices = [(session.results[number].target.name, number) for number in done]
            return [
                _status(session, error),
                gr.update(visible=bool(done)),
                gr.update(choices=choices, value=done[0] if done else None, visible=len(done) > 1),
                next(iter(_VIEWS)),
                slider_of(session, done[0], next(iter(_VIEWS))) if done else None,
                gr.update(visible=False),
                _list_results(session),
            ]

        def end() -> list[Any]:
            return [gr.update(visible=True), gr.update(visible=False)]

        def stop(request: gr.Request) -> list[Any]:
            session = sessions.of(request.session_hash)
            session.cancel()
            return [*end(), *view(session, "Cancelled.")]

        def show(number: int, view: str, request: gr.Request) -> tuple[list[str], Any]:
            legend = gr.update(visible=view != next(iter(_VIEWS)))
            return slider_of(sessions.of(request.session_hash), number, view), legend

        def leave(request: gr.Request) -> None:
            sessions.close(request.session_hash)

        private = {"api_visibility": "private"}
        quiet = {"show_progress": "hidden", **private}
        drop.upload(add, drop, [drop, added, clear], **private)
        clear.click(remove, None, [added, clear], **quiet)
        model.input(find_partner, model, [partner, texture], **quiet)
        partner.input(ask_texture, partner, texture, **quiet)
        size.change(ask_numbers, size, numbers, **quiet)
        begun = start.click(begin, None, [start, cancel, *results], queue=False, **quiet)
        running = begun.then(
            upscale,
            [model, partner, texture, size, *numbers],
            results,
            show_progress_on=status,
            concurrency_limit=1,
            **private,
        )
        running.then(end, None, [start, cancel], queue=False, **quiet)
        cancel.click(stop, None, [start, cancel, *results], cancels=[running], queue=False, **quiet)
        for choice in (shown, compared):
            choice.input(show, [shown, compared], [slider, legend], **private)
        page.unload(leave)
    return page


def _models() -> list[tuple[str, str]]:
    """Names and files of the models: the choice by the picture, aesop's own, and the others that `aesop models` lists."""
    own = {shipped_model(name): f"{name}: {shipped_model(name).stem}" for name in MODELS}
    named = [*own.items(), *((file, file.stem) for file in known_models() if file not in own)]
    return [("automatic: by the picture and its size", _AUTOMATIC), *((name, str(file)) for file, name in named)]


def _partners(model: str) -> list[tuple[str, str]]:
    """What may be the faithful model of another, by names and files; the first is none."""
    if model == _AUTOMATIC:
        return [("none", _NO_PARTNER), ("its own", _OWN_PARTNER)]
    own = faithful_partner(Path(model))
    others = [own] if own else []
    others += [file for file in known_models() if file not in (own, Path(model))]
    return [("none", _NO_PARTNER), *((file.stem, str(file)) for file in others)]


def _partner_of(model: str) -> str:
    return _OWN_PARTNER if model == _AUTOMATIC else str(faithful_partner(Path(model)) or _NO_PARTNER)


def _final_size(size: str, given: Mapping[str, float | None]) -> FinalSize:
    fields = _SIZES[size]
    if not fields:
        return FinalSize(scale=float(size.removeprefix("x")))
    numbers: dict[str, Any] = {name: number for name in fields if (number := given[name]) is not None}
    if not numbers or min(numbers.values()) <= 0:
        raise ValueError(f"{size}: give a number above 0")
    return FinalSize(**numbers)


def _list_added(pictures: list[Path], errors: list[str]) -> str:
    if not pictures and not errors:
        return f"<p>Up to {MAX_MB} MB and {MAX_MEGAPIXELS} megapixels each.</p>"
    lines = [f"<li>{escape(path.name)} <small>{readable(path.stat().st_size)}</small></li>" for path in pictures]
    return f"<ul>{''.join([*lines, *map(_error, errors)])}</ul>"


def _status(session: Session, error: str) -> str:
    results = session.results
    done = sum(not result.error for result in results)
    lines = [_error(error)] if error else []
    if results:
        lines.append(f"<li>{done} of {counted(len(results), 'picture')} done.</li>")
    lines += [_error(session.line(_named(result))) for result in results if result.error]
    return f"<ul>{''.join(lines)}</ul>"


def _named(result: Result) -> str:
    error = result.error or ""
    return error if str(result.source) in error else f"{result.source}: {error}"


def _list_results(session: Session) -> str:
    lines = []
    for result in session.results:
        if not result.error:
            name = escape(result.target.name)
            notes = "".join(f"<br><small>{escape(note)}</small>" for note in (result.model, *result.notes) if note)
            size = f" <small>{readable(result.target.stat().st_size)}</small>"
            link = f'<a href="{_address(result.target)}" download="{name}">{name}</a>{size}'
            if result.map:
                link += f' <a href="{_address(result.map)}" download="{escape(result.map.name)}">map</a>'
            lines.append(f"<li>{link}{notes}</li>")
    return f"<p>Download</p><ul>{''.join(lines)}</ul>" if lines else ""


def _address(file: Path) -> str:
    return f"/gradio_api/file={quote(str(file))}"


def _error(text: str) -> str:
    return f'<li class="error">{escape(text)}</li>'
