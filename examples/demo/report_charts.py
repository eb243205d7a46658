# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Pictures of numbers as HTML and SVG text: line charts and heat maps. Everything that comes in is escaped here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 360, 200  # of a line chart, in its own units
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 8, 34  # room for the axes
GREY = "var(--soft)"
CELL = 14  # of a heat map
HEAT_STOPS = ((246, 249, 251), (193, 220, 232), (92, 160, 198), (31, 95, 150), (12, 42, 86))  # low to high, RGB


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        name: For the legend.
        colour: CSS colour.
        points: (x, y) in order of x.
        dashed: Drawn with dashes, so that two lines differ without colour.
    """

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True)
class Scale:
    """How the values of a chart are written.

    Args:
        factor: Values are multiplied by it.
        digits: Decimals.
        unit: Behind the number.
    """

    factor: float = 1.0
    digits: int = 3
    unit: str = ""

    def value(self, value: float) -> str:
        """A value with all its decimals."""
        return f"{self.factor * value:.{self.digits}f}{self.unit}".replace("-", "−")

    def tick(self, value: float) -> str:
        """A round number without needless decimals."""
        return f"{self.factor * value + 0.0:.6g}{self.unit}".replace("-", "−")


PLAIN = Scale()
SHARE = Scale(100, 1, " %")


def cosine(value: float) -> str:
    """A cosine or correlation with three decimals and a true minus sign."""
    return PLAIN.value(value)


def seconds(value: float) -> str:
    """A duration: "0.4 s", "37 s", "4 min 05 s"."""
    if value < 59.5:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s"


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers that cover a range."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def line_chart(
    lines: Sequence[Line],
    title: str,
    y_span: tuple[float, float] | None = None,
    scale: Scale = PLAIN,
) -> str:
    """A line chart over training steps with its legend."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    y_ticks = nice_ticks(*(y_span or (min(ys), max(ys))))
    x_ticks = [tick for tick in nice_ticks(0, max(xs), 5) if tick <= max(xs) * 1.02]
    right = max(xs)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (WIDTH - LEFT - RIGHT) * x / right if right else 0.0
        down = (HEIGHT - TOP - BOTTOM) * (y_ticks[-1] - y) / (y_ticks[-1] - y_ticks[0])
        return LEFT + across, TOP + down

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in y_ticks:
        _, y = place(0, tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(scale.tick(tick))}</text>')
    for tick in x_ticks:
        x, _ = place(tick, y_ticks[0])
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{tick:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">step</text>')
    for line in lines:
        places = [place(*point) for point in line.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        dashes = ' stroke-dasharray="5 3"' if line.dashed else ""
        parts.append(f'<path class="line" d="M{path}" style="stroke:{escape(line.colour)}"{dashes}/>')
        for (x, y), (step, value) in zip(places, line.points, strict=True):
            note = escape(f"{line.name}, step {step:g}: {scale.value(value)}")
            parts.append(f'<circle class="spot" cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{note}</title></circle>')
    parts.append("</svg>")
    legend = "".join(
        f'<li><i class="{"dashes" if line.dashed else ""}" style="color:{escape(line.colour)}"></i>'
        f"{escape(line.name)} <b>{escape(scale.value(line.points[0][1]))} → {escape(scale.value(line.points[-1][1]))}</b></li>"
        for line in lines
    )
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>{"".join(parts)}'
        f'<ul class="legend">{legend}</ul></figure>'
    )


def heat_colour(position: float) -> str:
    """Colour of the scale."""
    place = min(max(position, 0.0), 1.0) * (len(HEAT_STOPS) - 1)
    index = min(int(place), len(HEAT_STOPS) - 2)
    channels = (
        round(a + (b - a) * (place - index)) for a, b in zip(HEAT_STOPS[index], HEAT_STOPS[index + 1], strict=True)
    )
    return "#" + "".join(f"{channel:02x}" for channel in channels)


def heat_map(matrix: np.ndarray, label: str) -> str:
    """A square matrix of similarities; its diagonal, which is 1 for any model, stays grey."""
    count = len(matrix)
    others = matrix[~np.eye(count, dtype=bool)]  # (N * (N - 1),)
    low, high = float(others.min()), float(others.max())
    edge = 20  # room for the numbers
    side = edge + CELL * count
    parts = [f'<svg viewBox="0 0 {side} {side}" role="img" aria-label="{escape(label)}" class="heat">']
    for row in range(count):
        middle = edge + CELL * row + CELL / 2
        parts.append(f'<text x="{edge - 4}" y="{middle + 3:g}" text-anchor="end">{row + 1}</text>')
        parts.append(f'<text x="{middle:g}" y="{edge - 5}" text-anchor="middle">{row + 1}</text>')
        for column in range(count):
            value = float(matrix[row, column])
            colour = "#d9dde1" if row == column else heat_colour((value - low) / ((high - low) or 1.0))
            parts.append(
                f'<rect x="{edge + CELL * column}" y="{edge + CELL * row}" width="{CELL - 0.5}" '
                f'height="{CELL - 0.5}" fill="{colour}"><title>{row + 1} and {column + 1}: {cosine(value)}</title>'
                "</rect>"
            )
    parts.append("</svg>")
    stops = ",".join(heat_colour(step / 8) for step in range(9))
    scale = (
        f'<div class="scale"><span>{cosine(low)}</span>'
        f'<i style="background:linear-gradient(90deg,{stops})"></i><span>{cosine(high)}</span></div>'
    )
    return "".join(parts) + scale
