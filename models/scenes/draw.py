"""The renderer: signed distances of simple figures, evaluated for many pictures at once in torch.

Every figure is a function of coordinates scaled to its half sides, so its outline lies within [-1,
1]; y points down. The distance formulas of the star and heart follow Inigo Quilez,
https://iquilezles.org/articles/distfunctions2d/. Edges are one pixel wide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.scenes.layout import SIDE, Primitive, backdrop_rgb

if TYPE_CHECKING:
    from models.scenes.scene import Scene

Distance = Callable[[Tensor, Tensor], Tensor]


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 1


def _box(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 1


def _square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.88


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum((2 * x.abs() - y - 0.9) / math.sqrt(5), y - 0.9)


def _wedge(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum((2 * x.abs() - y - 1) / math.sqrt(5), y - 1)


def _diamond(x: Tensor, y: Tensor) -> Tensor:
    return (1.3 * x.abs() + y.abs() - 1) / math.hypot(1.3, 1)


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.74).abs() - 0.26


def _cross(x: Tensor, y: Tensor) -> Tensor:
    long, short = torch.maximum(x.abs(), y.abs()), torch.minimum(x.abs(), y.abs())
    return torch.maximum(long - 1, short - 0.32)


def _star(x: Tensor, y: Tensor) -> Tensor:
    """Five points: fold the plane onto one half point, then take the distance to its edge line."""
    angle = torch.atan2(x, -y)
    sector = 2 * math.pi / 5
    angle = torch.remainder(angle + sector / 2, sector) - sector / 2
    radius = torch.hypot(x, y)
    u, v = radius * torch.cos(angle), radius * torch.sin(angle).abs()
    notch = 0.45
    edge_u, edge_v = notch * math.cos(sector / 2) - 1.05, notch * math.sin(sector / 2)
    length = math.hypot(edge_u, edge_v)
    return ((u - 1.05) * edge_v - v * edge_u) / length


def _heart(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.abs() * 0.6, 0.55 - y * 0.6
    lobe = torch.hypot(x - 0.25, y - 0.75) - math.sqrt(2) / 4
    tip = torch.clamp((x + y) / 2, min=0)
    low = torch.minimum(torch.hypot(x, y - 1), torch.hypot(x - tip, y - tip))
    return torch.where(x + y > 1, lobe, low * torch.sign(x - y)) / 0.6


def _sail(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(torch.maximum(y - 1, -x - 1), (x - y) / math.sqrt(2))


def _hull(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(y.abs() - 1, x.abs() - 0.82 + 0.18 * y)


def _smile(x: Tensor, y: Tensor) -> Tensor:
    arc = (torch.hypot(x, 0.9 * y + 0.5) - 0.88).abs() - 0.2
    return torch.maximum(arc, -y - 0.3)


def _frown(x: Tensor, y: Tensor) -> Tensor:
    return _smile(x, -y)


FIGURES: dict[str, Distance] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "diamond": _diamond,
    "star": _star,
    "heart": _heart,
    "ring": _ring,
    "cross": _cross,
    "box": _box,
    "wedge": _wedge,
    "sail": _sail,
    "hull": _hull,
    "smile": _smile,
    "frown": _frown,
}


def draw(
    scenes: Sequence[Scene],
    layouts: Sequence[Sequence[Primitive]],
    device: torch.device | str = "cpu",
    *,
    stroke_px: float = 0.0,
) -> Tensor:
    """Render laid-out scenes to pictures (n, 3, 128, 128), float32 in [0, 1].

    With `stroke_px`, figures are outlines of this width, inside their edge, and not filled.
    """
    pictures = _backdrops(scenes, device)
    for depth in range(max(map(len, layouts))):
        by_kind: dict[str, list[int]] = {}
        for index, layout in enumerate(layouts):
            if depth < len(layout):
                by_kind.setdefault(layout[depth].kind, []).append(index)
        for kind, indices in by_kind.items():
            figures = [layouts[index][depth] for index in indices]
            _paint(pictures, indices, figures, FIGURES[kind], stroke_px)
    return pictures


def _grid(device: torch.device | str) -> tuple[Tensor, Tensor]:
    centres = torch.arange(SIDE, device=device, dtype=torch.float32) + 0.5
    return centres.view(1, 1, SIDE), centres.view(1, SIDE, 1)


def _paint(
    pictures: Tensor,
    indices: list[int],
    figures: list[Primitive],
    distance: Distance,
    stroke_px: float,
) -> None:
    grid_x, grid_y = _grid(pictures.device)
    rows = [(f.x, f.y, f.half_width, f.half_height, *(c / 255 for c in f.rgb)) for f in figures]
    values = torch.tensor(rows, device=pictures.device)
    x, y, half_width, half_height = values[:, :4, None, None].unbind(1)
    away = distance((grid_x - x) / half_width, (grid_y - y) / half_height)
    away_px = away * torch.minimum(half_width, half_height)
    if stroke_px:
        away_px = (away_px + stroke_px / 2).abs() - stroke_px / 2
    coverage = (0.5 - away_px).clamp_(0, 1)[:, None]
    at = torch.tensor(indices, device=pictures.device)
    pictures[at] = torch.lerp(pictures[at], values[:, 4:, None, None], coverage)


def _backdrops(scenes: Sequence[Scene], device: torch.device | str) -> Tensor:
    """Plain colours, stripes and checks of 16 and 32 pixels, or a gradient from top to bottom."""
    pairs = [backdrop_rgb(scene) for scene in scenes]
    first = torch.tensor([pair[0] for pair in pairs], device=device) / 255
    second = torch.tensor([pair[-1] for pair in pairs], device=device) / 255
    x, y = _grid(device)
    flat = torch.zeros(1, SIDE, SIDE, device=device)
    masks = {
        "plain": flat,
        "horizontal stripes": flat + (y // 16) % 2,
        "vertical stripes": flat + (x // 16) % 2,
        "checks": flat + ((x // 32) + (y // 32)) % 2,
        "gradient": flat + y / SIDE,
    }
    mask = torch.stack([masks[scene.backdrop.kind] for scene in scenes])
    return torch.lerp(first[..., None, None], second[..., None, None], mask)
