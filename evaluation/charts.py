# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Pictures of scores as HTML and SVG text: bars, radar, histogram, thumbnails. Everything that comes in is escaped here."""

import base64
import io
import math
import re
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from PIL import Image

from unime.data.example import MMEB_IMAGE

SIDE = 128  # pixels of a thumbnail
SMALL_COPY = re.compile(r"data:image/jpeg;base64,[A-Za-z0-9+/]+=*")


class Bar(NamedTuple):
    """One bar: its name, its value, that in words, a CSS colour, and the interval and the mark drawn over it."""

    name: str
    value: float
    words: str
    colour: str
    interval: Sequence[float] | None = None
    mark: float | None = None


def bars(entries: Sequence[Bar], full: float, mark_name: str = "") -> str:
    """Horizontal bars in a `<dl>`; one of value `full` has full length, a negative one none; `mark_name` says what marks are."""
    rows = []
    for bar in entries:
        line = whisker = ""
        if bar.mark is not None:
            line = f'<s style="left:{_portion(bar.mark, full)}" title="{escape(mark_name)}"></s>'
        if bar.interval is not None:
            low, high = bar.interval
            edges = f"left:{_portion(low, full)};right:calc(100% - {_portion(high, full)})"
            whisker = f'<u style="{edges}"></u>'
        rows.append(
            f'<dt>{escape(bar.name).replace("/", "/<wbr>")}</dt><dd><div class="track"><i style="width:{_portion(bar.value, full)};'
            f'background:{escape(bar.colour)}"></i>{line}{whisker}</div><span>{escape(bar.words)}</span></dd>'
        )
    return f'<dl class="bars">{"".join(rows)}</dl>'


def _portion(value: float, full: float) -> str:
    return f"{100 * min(max(value / full if full else 0.0, 0.0), 1.0):.2f}%"


class Series(NamedTuple):
    """One outline of a radar: its name, a CSS colour, a value from 0 to 1 on each axis, and whether it is dashed."""

    name: str
    colour: str
    values: Sequence[float]
    dashed: bool = False


def radar(axes: Sequence[str], series: Sequence[Series], label: str) -> str:
    """Outlines over three or more axes, the centre 0 and the rim 1, with their legend."""
    radius, middle, top = 100, 210, 132

    def place(axis: int, value: float) -> tuple[float, float]:
        angle = 2 * math.pi * axis / len(axes)
        return middle + radius * value * math.sin(angle), top - radius * value * math.cos(angle)

    def outline(values: Sequence[float]) -> str:
        corners = (place(axis, min(max(value, 0.0), 1.0)) for axis, value in enumerate(values))
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners) + "Z"

    parts = [f'<svg viewBox="0 0 420 264" role="img" aria-label="{escape(label)}">']
    for ring in (0.25, 0.5, 0.75, 1.0):
        parts.append(f'<path class="grid" d="{outline([ring] * len(axes))}"/>')
        parts.append(f'<text x="{middle + 3}" y="{top - radius * ring + 11:.1f}" class="ring">{100 * ring:.0f}</text>')
    for axis, name in enumerate(axes):
        x, y = place(axis, 1.0)
        parts.append(f'<path class="grid" d="M{middle} {top}L{x:.1f} {y:.1f}"/>')
        x, y = place(axis, 1.1)
        side = "middle" if abs(x - middle) < 1 else "start" if x > middle else "end"
        parts.append(f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="{side}">{escape(name)}</text>')
    for one in series:
        dashes = ' stroke-dasharray="5 4"' if one.dashed else ""
        shown = ", ".join(f"{name} {100 * value:.1f}" for name, value in zip(axes, one.values, strict=True))
        parts.append(
            f'<path class="area" d="{outline(one.values)}" style="stroke:{escape(one.colour)};'
            f'fill:{"none" if one.dashed else escape(one.colour)}"{dashes}><title>{escape(f"{one.name}: {shown}")}</title></path>'
        )
    entries = [(one.name, one.colour, one.dashed) for one in series]
    return f'<figure class="radar">{"".join(parts)}</svg>{legend(entries)}</figure>'


def legend(entries: Sequence[tuple[str, str, bool]]) -> str:
    """Names with their colours, dashed or not."""
    lines = (
        f'<li><i{" class=dashes" if dashed else ""} style="color:{escape(colour)}"></i>{escape(name)}</li>'
        for name, colour, dashed in entries
    )
    return f'<ul class="legend">{"".join(lines)}</ul>'


def histogram(counts: Sequence[tuple[str, str, Sequence[int]]], low: float, high: float, label: str) -> str:
    """Shares of several groups (name, CSS colour, counts) in equal bins from `low` to `high`, one over the other."""
    width, height, foot = 320, 96, 16
    shares = [[count / (sum(group) or 1) for count in group] for _, _, group in counts]
    tallest = max((share for group in shares for share in group), default=0.0) or 1.0
    parts = [f'<svg viewBox="0 0 {width} {height + foot}" role="img" aria-label="{escape(label)}">']
    for (name, colour, _), group in zip(counts, shares, strict=True):
        step = width / len(group)
        path = f"M0 {height}" + "".join(
            f"V{height * (1 - 0.96 * share / tallest):.1f}H{step * (bin_number + 1):.1f}"
            for bin_number, share in enumerate(group)
        )
        parts.append(
            f'<path class="area" d="{path}V{height}Z" style="stroke:{escape(colour)};fill:{escape(colour)}">'
            f"<title>{escape(name)}</title></path>"
        )
    parts.append(f'<path class="axis" d="M0 {height}H{width}"/>')
    for x, anchor, value in ((0, "start", low), (width / 2, "middle", (low + high) / 2), (width, "end", high)):
        parts.append(f'<text x="{x:g}" y="{height + 13}" text-anchor="{anchor}">{value:.3f}</text>')
    return "".join(parts) + "</svg>"


def readable(text: str | None) -> str:
    """A raw MMEB string as a person reads it, on one line: without the image token and the line ends."""
    return " ".join(MMEB_IMAGE.sub(" ", text or "").split())


def picture(image: Image.Image, name: str) -> str:
    """An `<img>` that holds its bytes, `name` for screen readers."""
    return f'<img src="{_data_url(image, "png", optimize=True)}" alt="{escape(name)}">'


def small_copy(image: Image.Image) -> str:
    """The data URL of a JPEG of no more than `SIDE` pixels a side."""
    copy = image.convert("RGB")
    copy.thumbnail((SIDE, SIDE))
    return _data_url(copy, "jpeg", quality=80)


def thumbnail(url: str | None, name: str) -> str:
    """An `<img>` of what `small_copy` gave; nothing for any other URL."""
    if not isinstance(url, str) or not SMALL_COPY.fullmatch(url):
        return ""
    return f'<img src="{url}" alt="{escape(name)}" loading="lazy">'


def _data_url(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
