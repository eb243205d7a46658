# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Draws the demo's scenes with PIL: soft light backgrounds, shaded anti-aliased objects, crops of single objects.

Everything is drawn four times too large and averaged down, which is all the anti-aliasing there is. The same scene
always gives the same pixels: jitter, tilt and background come from the scene's `look`.
"""

from __future__ import annotations

import math
import random
from functools import lru_cache

from PIL import Image, ImageDraw

from examples.demo.scenes_world import GRID, Scene, Thing

IMAGE_SIZE = 96  # pixels; one grid cell is 32 pixels wide
OVERSAMPLING = 4
RADIUS = {"small": 10.0, "large": 15.0}  # pixels
JITTER = 1.0  # pixels, at most, from the middle of the cell
TILT = 5.0  # degrees, at most: more would turn squares into diamonds
CROP_MARGIN = 2.0  # pixels around an object that is cut out
PALETTE = {
    "red": (222, 48, 48),
    "orange": (247, 146, 30),
    "yellow": (250, 214, 40),
    "green": (52, 168, 83),
    "blue": (50, 104, 222),
    "purple": (142, 68, 200),
    "pink": (246, 130, 190),
    "black": (48, 50, 58),
}
PAPERS = (
    ((250, 248, 240), (232, 226, 212)),
    ((242, 248, 252), (214, 228, 240)),
    ((246, 250, 242), (222, 234, 214)),
    ((252, 244, 246), (238, 220, 226)),
    ((247, 245, 252), (226, 221, 238)),
    ((248, 248, 248), (224, 224, 226)),
)


@lru_cache(maxsize=256)
def _paper(colors: int, direction: int, pattern: int) -> Image.Image:
    """An oversampled background: a gradient between two light tones, plain, dotted or lined; `direction` is 0 to 3."""
    light, dark = PAPERS[colors]
    middle = tuple((a + b) // 2 for a, b in zip(light, dark, strict=True))
    corners = Image.new("RGB", (2, 2))
    corners.putdata([light, middle, middle, dark])
    side = IMAGE_SIZE * OVERSAMPLING
    paper = corners.rotate(90 * direction).resize((side, side), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(paper)
    step = 12 * OVERSAMPLING
    faint = tuple(value - 9 for value in dark)
    for start in range(step // 2, side, step):
        if pattern == 1:
            for other in range(step // 2, side, step):
                draw.ellipse((start - 4, other - 4, start + 4, other + 4), fill=faint)
        elif pattern == 2:
            draw.line((0, start, side, start), fill=faint, width=3)
    return paper


def _outline(shape: str, radius: float) -> list[tuple[float, float]]:
    """Corners of a shape around the origin, y pointing down; circle and ring are drawn as ellipses instead."""
    if shape == "square":
        side = 0.86 * radius
        return [(-side, -side), (side, -side), (side, side), (-side, side)]
    if shape == "triangle":
        return [(0, -radius), (0.95 * radius, 0.75 * radius), (-0.95 * radius, 0.75 * radius)]
    if shape == "diamond":
        return [(0, -1.08 * radius), (0.72 * radius, 0), (0, 1.08 * radius), (-0.72 * radius, 0)]
    if shape == "star":
        lengths = [1.1 * radius if index % 2 == 0 else 0.46 * radius for index in range(10)]
        angles = [math.pi * index / 5 for index in range(10)]
        return [(r * math.sin(a), -r * math.cos(a)) for r, a in zip(lengths, angles, strict=True)]
    if shape == "cross":
        arm, half = radius, 0.34 * radius
        corner = [(-half, -arm), (half, -arm), (half, -half), (arm, -half), (arm, half), (half, half)]
        return corner + [(-x, -y) for x, y in corner]
    if shape == "heart":
        angles = [2 * math.pi * index / 40 for index in range(40)]
        scale = radius / 16.5
        return [
            (
                scale * 16 * math.sin(a) ** 3,
                -scale * (13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)),
            )
            for a in angles
        ]
    raise ValueError(f"unknown shape {shape!r}")


def _draw_shape(
    draw: ImageDraw.ImageDraw,
    shape: str,
    center: tuple[float, float],
    radius: float,
    tilt: float,
    fill: tuple[int, int, int],
) -> None:
    """Draw one flat shape in oversampled pixels, tilted by `tilt` degrees."""
    x, y = center
    if shape in ("circle", "ring"):
        box = (x - radius, y - radius, x + radius, y + radius)
        if shape == "circle":
            draw.ellipse(box, fill=fill)
        else:
            draw.ellipse(box, outline=fill, width=round(0.36 * radius))
        return
    cos, sin = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    draw.polygon([(x + cos * u - sin * v, y + sin * u + cos * v) for u, v in _outline(shape, radius)], fill=fill)


def _pose(scene: Scene, thing: Thing) -> tuple[float, float, float, float]:
    """Center x and y and radius in pixels, tilt in degrees: fixed by the scene's look, the cell and the size."""
    rng = random.Random(f"{scene.look}/{thing.row}/{thing.column}")
    x = IMAGE_SIZE / GRID * (thing.column + 0.5) + rng.uniform(-JITTER, JITTER)
    y = IMAGE_SIZE / GRID * (thing.row + 0.5) + rng.uniform(-JITTER, JITTER)
    return x, y, RADIUS[thing.size] * rng.uniform(0.93, 1.07), rng.uniform(-TILT, TILT)


def draw_scene(scene: Scene) -> Image.Image:
    """Render a scene as an RGB picture of `IMAGE_SIZE` pixels a side."""
    look = random.Random(scene.look)
    picture = _paper(look.randrange(len(PAPERS)), look.randrange(4), look.randrange(3)).copy()
    draw = ImageDraw.Draw(picture, "RGBA")
    for thing in scene.things:
        x, y, radius, tilt = (value * OVERSAMPLING for value in _pose(scene, thing))
        tilt /= OVERSAMPLING
        base = PALETTE[thing.color]
        dark = tuple(round(0.78 * value) for value in base)
        drop = 1.1 * OVERSAMPLING
        _draw_shape(draw, thing.shape, (x + drop, y + drop), radius, tilt, (60, 60, 80, 70))  # shadow
        _draw_shape(draw, thing.shape, (x, y), radius, tilt, dark)  # rim
        _draw_shape(draw, thing.shape, (x, y), radius - 1.0 * OVERSAMPLING, tilt, base)
    return picture.reduce(OVERSAMPLING)


def crop_thing(picture: Image.Image, scene: Scene, thing: Thing) -> Image.Image:
    """Cut one object out of its drawn scene: a square box with a small margin, kept inside the picture."""
    x, y, radius, _ = _pose(scene, thing)
    half = 1.1 * radius + CROP_MARGIN
    x, y = (min(max(value, half), IMAGE_SIZE - half) for value in (x, y))
    return picture.crop((round(x - half), round(y - half), round(x + half), round(y + half)))
