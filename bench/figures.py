"""Figures from records and the arrays beside them. Deterministic: no clock, no random ids."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from bench.claims.base import Dots, Evidence
from bench.records import by_cell, values
from bench.tables.summary import likelihood_kind, order

# Okabe and Ito's and Tol's colours, which colour-blind readers tell apart; one per family, everywhere.
COLOURS = {
    "baseline": "#8C8C8C", "normalizing flow": "#0072B2", "continuous flow": "#56B4E9", "autoregressive": "#222222",
    "VAE": "#E69F00", "diffusion": "#D55E00", "score-based": "#7A2E00", "flow matching": "#F0877A",
    "SurVAE flow": "#009E73", "stochastic normalizing flow": "#CC79A7", "DiffFlow": "#882255", "GAN": "#999933",
}  # fmt: skip
INK, FAINT = "#22262B", "#D9DCE1"
STYLE = {
    "svg.hashsalt": "relaxbench", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 9,
    "axes.titlesize": 9.5, "axes.labelsize": 9, "axes.edgecolor": "#8A9099", "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": "#5A616B", "ytick.color": "#5A616B", "xtick.labelsize": 8, "ytick.labelsize": 8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "grid.color": "#ECEEF1",
    "figure.facecolor": "white", "savefig.facecolor": "white", "legend.frameon": False, "legend.fontsize": 8,
}  # fmt: skip
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)), (0, (8, 3)), (0, (3, 1, 1, 1, 1, 1)))
DENSITY = sns.color_palette("mako", as_cmap=True)
Cells = Mapping[str, Sequence[dict]]


def png(figure: Figure, dpi: int = 110) -> bytes:
    return _saved(figure, "png", dpi=dpi, metadata={"Software": None})


def svg(figure: Figure) -> bytes:
    return _saved(figure, "svg", metadata={"Date": None, "Creator": None})


def _saved(figure: Figure, fmt: str, **options: object) -> bytes:
    out = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(out, format=fmt, **options)
    plt.close(figure)
    return out.getvalue()


def rows_of(records: Sequence[dict], dataset: str) -> dict[str, list[dict]]:
    """Row -> its records on that data set, in the order of the tables."""
    cells = {row: found for (d, row), found in by_cell(records).items() if d == dataset}
    return dict(sorted(cells.items(), key=lambda item: order(item[1])))


def arrays(cells: Path, records: Sequence[dict]) -> dict[str, np.ndarray]:
    """What lies beside the first record that ended well; empty where nothing does."""
    for record in records:
        run = record["run"]
        path = cells / run["dataset"] / run["row"] / f"seed{run['seed']}.npz"
        if record["status"] == "ok" and path.exists():
            with np.load(path, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files if name != "log_prob"}
    return {}


@cache
def truth(dataset: str, cells: int = 240) -> tuple[np.ndarray, tuple[float, float, float, float]] | None:
    """The exact density of a 2-D data set on a grid (row = y) and its box (x0, x1, y0, y1); None where unknown."""
    import torch

    from bench.datasets import describe

    make = describe(dataset).density
    if make is None:
        return None
    density = make()
    (x0, x1), (y0, y1) = density.bounds
    x, y = (torch.linspace(a, b, cells, dtype=torch.float64) for a, b in ((x0, x1), (y0, y1)))
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)
    return density.log_prob(points).exp().reshape(cells, cells).numpy(), (x0, x1, y0, y1)


def density_maps(dataset: str, records: Sequence[dict], cells: Path, columns: int = 6) -> Figure | None:
    """The truth, then every row: its density where it has one, else a histogram of its samples; one colour scale."""
    rows = {
        row: (found, stored) for row, found in rows_of(records, dataset).items() if (stored := arrays(cells, found))
    }
    known = truth(dataset)
    if known is None or not rows:
        return None
    density, box = known
    norm = PowerNorm(0.6, vmin=0, vmax=float(density.max()) * 1.05)
    with matplotlib.rc_context(STYLE):
        figure, panels = _panels(len(rows) + 1, columns, 1.75, 1.95)
        _map(panels[0], density, box, box, norm)
        panels[0].set_title("truth", weight="bold")
        for axes, (found, stored) in zip(panels[1:], rows.values(), strict=False):
            _model_map(axes, found[0]["run"], stored, box, norm)
    return figure


def _model_map(axes: Axes, run: Mapping, stored: Mapping[str, np.ndarray], box: tuple, norm: PowerNorm) -> None:
    if "grid_log_density" in stored:
        own = tuple(float(v) for v in stored["grid_box"])
        _map(axes, np.exp(stored["grid_log_density"].astype(np.float64)), own, box, norm)
        label = run["name"]
    else:
        x, y = stored["samples"].reshape(-1, 2).T
        cells, _, _ = np.histogram2d(y, x, bins=64, range=[box[2:], box[:2]])
        area = (box[1] - box[0]) * (box[3] - box[2]) / 64**2
        _map(axes, cells / len(x) / area, box, box, norm)
        label = f"{run['name']} *"
    axes.set_title(_short(label), color=COLOURS.get(run["group"], INK))


def _map(axes: Axes, density: np.ndarray, extent: tuple, box: tuple, norm: PowerNorm) -> None:
    axes.imshow(density, origin="lower", extent=extent, cmap=DENSITY, norm=norm, interpolation="nearest", aspect="auto")
    axes.set(xlim=box[:2], ylim=box[2:], xticks=[], yticks=[], facecolor=DENSITY(0.0))
    for spine in axes.spines.values():
        spine.set_visible(False)


def _panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(columns, count)
    lines = math.ceil(count / columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(width * columns, height * lines), squeeze=False, layout="constrained"
    )
    panels = list(grid.flat)
    for spare in panels[count:]:
        spare.axis("off")
    return figure, panels[:count]


def _short(text: str, length: int = 24) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def sample_grids(
    dataset: str, records: Sequence[dict], cells: Path, real: np.ndarray | None = None, columns: int = 4
) -> Figure | None:
    """Thirty-six samples of every row, the data first where ``real`` (n, 1, h, w) is given."""
    shown = [("data", "", real)] if real is not None else []
    for found in rows_of(records, dataset).values():
        stored = arrays(cells, found)
        if "samples" in stored and stored["samples"].ndim == 4:
            shown.append((found[0]["run"]["name"], found[0]["run"]["group"], stored["samples"]))
    if not shown or (real is not None and len(shown) == 1):
        return None
    top = max(float(images.max()) for _, _, images in shown)
    with matplotlib.rc_context(STYLE):
        figure, panels = _panels(len(shown), columns, 2.3, 2.5)
        for axes, (name, group, images) in zip(panels, shown, strict=True):
            axes.imshow(_mosaic(images), cmap="gray_r", vmin=0, vmax=top, interpolation="nearest")
            axes.set_title(_short(name, 30), color=COLOURS.get(group, INK), weight="bold" if not group else "normal")
            axes.axis("off")
    return figure


def _mosaic(images: np.ndarray, side: int = 6) -> np.ndarray:
    tiles = images[: side * side, 0].astype(np.float64)
    tiles = np.pad(tiles, ((0, side * side - len(tiles)), (1, 1), (1, 1)))
    _, h, w = tiles.shape
    return tiles.reshape(side, side, h, w).transpose(0, 2, 1, 3).reshape(side * h, side * w)


def curves(dataset: str, records: Sequence[dict]) -> Figure | None:
    """Validation loss against training steps: a thin line per seed, families by colour, rows of a family by dash."""
    rows = {
        row: found
        for row, found in rows_of(records, dataset).items()
        if likelihood_kind(found) != "none" and any("validation" in r["series"] for r in found)
    }
    if not rows:
        return None
    seen: dict[str, int] = {}
    ends: list[float] = []
    below = math.ceil(len(rows) / 3) if len(rows) > 14 else 0  # lines of a legend too long to stand beside the axes
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 3.3 + 0.17 * below), layout="constrained")
        for found in rows.values():
            run = found[0]["run"]
            dash = DASHES[seen.setdefault(run["group"], 0) % len(DASHES)]
            seen[run["group"]] += 1
            drawn = [series for r in found if (series := r["series"].get("validation"))]
            for i, series in enumerate(drawn):
                y = [math.nan if v is None else v for v in series["y"]]
                label = run["name"] if i == 0 else None
                axes.plot(
                    series["x"], y, color=COLOURS.get(run["group"], INK), ls=dash, lw=1.1, alpha=0.85, label=label
                )
                ends += [v for v in y if math.isfinite(v)]
        low, high = np.quantile(ends, [0.0, 0.93])
        # The first validations of an untrained model would flatten everything that follows.
        axes.set_ylim(low - 0.06 * (high - low + 1e-9), high + 0.1 * (high - low + 1e-9))
        axes.set(xlabel="training steps", ylabel="validation loss, nats", title=dataset)
        axes.set_xlim(left=0)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        if below:
            figure.legend(loc="outside lower center", ncols=3, handlelength=2.6)
        else:
            axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), handlelength=2.6)
    return figure


def tradeoff(dataset: str, records: Sequence[dict]) -> Figure | None:
    """Quality of samples against the time that one takes: every row a point, the mean over its seeds."""
    points = []
    for found in rows_of(records, dataset).values():
        cost, quality = (values(found, name) for name in ("seconds_per_1000_samples", "total_variation"))
        if cost and quality:
            points.append((found[0]["run"], statistics.fmean(cost), statistics.fmean(quality)))
    if len(points) < 2:
        return None
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6.2, 4.2), layout="constrained")
        axes.set_xscale("log")
        for run, x, y in points:
            axes.scatter(x, y, s=42, color=COLOURS.get(run["group"], INK), edgecolor="white", linewidth=0.8, zorder=3)
        axes.margins(x=0.05, y=0.08)
        left, right = axes.get_xlim()
        axes.set_xlim(left, right * (right / left) ** 0.28)  # room for names to the right of the points
        _name_points(axes, points)
        _plain_log(axes.xaxis)
        axes.set(xlabel="ms per sample (amortised over a batch)", ylabel="total variation to the truth", title=dataset)
        axes.grid(True)
        axes.set_axisbelow(True)
    return figure


def _name_points(axes: Axes, points: Sequence[tuple[Mapping, float, float]]) -> None:
    """Names to the right of their points, each moved up or down to the nearest free place."""
    place = axes.transAxes.inverted().transform
    spots = [tuple(place(axes.transData.transform((x, y)))) for _, x, y in points]
    taken = [(u, u + 0.02, v) for u, v in spots]
    for (run, _, _), (u, v) in sorted(zip(points, spots, strict=True), key=lambda item: item[1]):
        left, right = u + 0.02, u + 0.035 + 0.0145 * len(run["name"])
        shifts = sorted((step * 0.046 for step in range(-6, 7)), key=abs)
        others = [t for t in taken if t[:1] + t[2:] != (u, v)]
        free = (s for s in shifts if not any(a < right and left < b and abs(v + s - w) < 0.044 for a, b, w in others))
        at = v + next(free, 0.0)
        taken.append((left, right, at))
        if at != v:
            axes.plot([u, left - 0.004], [v, at], transform=axes.transAxes, color="#B4BAC2", lw=0.6, zorder=1)
        axes.text(
            left,
            at,
            run["name"],
            transform=axes.transAxes,
            fontsize=8,
            va="center",
            color=COLOURS.get(run["group"], INK),
        )


def _plain_log(axis) -> None:
    """1, 2, 5, 10 instead of powers; only the decades where there are many."""
    low, high = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if high / low < 200 else (1.0,)
    axis.set_major_locator(ticker.LogLocator(subs=subs))
    axis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 100 else f"{v:g}"))
    axis.set_minor_locator(ticker.NullLocator())


def evidence(shown: Evidence) -> Figure | None:
    """The small figure of a claim: values per seed with their mean, or curves, one panel per data set."""
    if not shown.dots:
        return None
    panels = {p: [d for d in shown.dots if d.panel == p] for p in dict.fromkeys(d.panel for d in shown.dots)}
    curves = any(d.x for d in shown.dots)
    height = 2.2 if curves else 0.55 + 0.23 * max(map(len, panels.values()))
    alike = len({tuple(d.label for d in rows) for rows in panels.values()}) == 1
    with matplotlib.rc_context(STYLE):
        columns = min(3, len(panels))
        figure, axes = _panels(len(panels), columns, 2.1 + 1.2 / columns, height + (0 if curves else 0.3))
        for i, (panel, rows) in enumerate(panels.items()):
            (_curve_panel if curves else _strip_panel)(axes[i], rows, shown)
            axes[i].set_title(panel)
            if alike and not curves and i % columns:
                axes[i].set_yticklabels([])
            if curves and (i or len(rows) > 3):
                axes[i].get_legend().remove()
        figure.supxlabel(shown.x_label if curves else shown.y_label, fontsize=9)
        if curves:
            figure.supylabel(shown.y_label, fontsize=9)
    return figure


def _strip_panel(axes: Axes, rows: Sequence[Dots], shown: Evidence) -> None:
    for i, row in enumerate(reversed(rows)):
        colour = COLOURS.get(row.group, INK)
        axes.scatter(row.y, [i] * len(row.y), s=20, color=colour, alpha=0.75, linewidth=0, zorder=3)
        axes.plot([statistics.fmean(row.y)] * 2, [i - 0.32, i + 0.32], color=colour, lw=1.8, zorder=4)
    axes.set_yticks(range(len(rows)), [_short(row.label, 22) for row in reversed(rows)])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    found = [v for row in shown.dots for v in row.y]  # of every panel: they share one scale
    low, high = min(found), max(found)
    if shown.reference is not None:
        axes.axvline(shown.reference, color="#5A616B", lw=0.9, ls=(0, (4, 2)))
    if shown.log and low > 0:
        pad = max(1.15, (high / low) ** 0.08)
        axes.set_xscale("log")
        axes.set_xlim(low / pad, high * pad)
        _plain_log(axes.xaxis)
    else:
        ends = [*found, *([] if shown.reference is None else [shown.reference])]
        low, high = (0.0 if 0 <= min(ends) < 0.5 * max(ends) else min(ends)), max(ends)
        pad = 0.08 * (high - low) or 0.5
        axes.set_xlim(low if low == 0 and min(ends) > 0 else low - pad, high + pad)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)


def _curve_panel(axes: Axes, rows: Sequence[Dots], shown: Evidence) -> None:
    for row in rows:
        scattered = len(set(row.x)) < len(row.x)
        style = {"ls": "none", "marker": "o", "ms": 4} if scattered else {"marker": "o", "ms": 3.5, "lw": 1.4}
        axes.plot(row.x, row.y, color=COLOURS.get(row.group, INK), label=row.label, alpha=0.9, **style)
    axes.set_xscale("log")
    ticks = sorted({x for row in rows for x in row.x})
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    if shown.log:
        axes.set_yscale("log")
        _plain_log(axes.yaxis)
    else:
        axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.legend(handlelength=1.4)
