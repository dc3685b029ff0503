"""Draw deliveries per second against the number of clients, one line for each server."""

import logging
import math
from collections import defaultdict
from itertools import pairwise

import matplotlib
import report
from cases import PLOT
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

# After Okabe and Ito, whose colours the colour-blind can tell apart; darker, for text on white.
COLOURS = {
    "C": "#4d4d4d",
    "fws_server": "#0072b2",
    "picows": "#a96c00",
    "websockets": "#00835f",
    "aiohttp": "#b04a86",
    "ws": "#c75000",
}
LABELS = {"picows": "picows, bare", "ws": "ws on node"}
TITLE = "Deliveries per second on one core, by number of clients"
EMPHASISED = "fws_server"
FAINT = "#6e7781"

STYLE = {
    "font.family": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 11,
    "svg.fonttype": "none",  # text stays text, in a font of the reader's
    "svg.hashsalt": "race",  # the same figures give the same file
    "axes.edgecolor": FAINT,
    "text.color": "#1f2328",
}


def draw(rows, path):
    """Write the plot as SVG, on white so that it can be read on any page, if it has any points."""
    lines = lines_of(rows)
    if not lines:
        return
    # Not everybody has all of these fonts, and one is enough.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 5))
        axes = figure.add_axes((0.075, 0.17, 0.745, 0.65))
        draw_lines(axes, lines)
        scale(axes)
        label_lines(axes, {server: line[-1] for server, line in lines.items()})
        caption(figure, rows)
        figure.savefig(path, metadata={"Creator": None, "Date": None})


def lines_of(rows):
    """Return the points of each server: clients and deliveries per second."""
    lines = defaultdict(list)
    for row in rows:
        if row["case"] in PLOT and not int(row["failed"]):
            clients = PLOT[row["case"]]["n"]
            lines[row["server"]].append((clients, float(row["deliveries_per_s"])))
    return {server: sorted(line) for server, line in lines.items()}


def draw_lines(axes, lines):
    for server, line in lines.items():
        ours = server == EMPHASISED
        axes.loglog(
            *zip(*line, strict=True),
            color=COLOURS[server],
            linestyle="dashed" if server == "C" else "solid",
            linewidth=3.5 if ours else 1.6,
            marker="o",
            markersize=7 if ours else 4,
            zorder=3 if ours else 2,
        )


def label_lines(axes, ends):
    """Write the name of each line beside its end, and none over another."""
    low, high = axes.get_ylim()
    apart = 0.055 * math.log10(high / low)
    heights = {server: math.log10(rate) for server, (_, rate) in ends.items()}
    upwards = sorted(heights, key=heights.get)
    for _ in range(100):
        for lower, upper in pairwise(upwards):
            overlap = max(0, heights[lower] + apart - heights[upper])
            heights[lower] -= overlap / 2
            heights[upper] += overlap / 2
    most = max(clients for clients, _ in ends.values())
    for server, (clients, _) in ends.items():
        name = LABELS.get(server, server)
        axes.annotate(
            name if clients == most else f"{name}, fails with more",
            (clients, 10 ** heights[server]),
            xytext=(11, 0),
            textcoords="offset points",
            verticalalignment="center",
            annotation_clip=False,
            color=COLOURS[server],
            fontweight="bold" if server == EMPHASISED else "normal",
        )


def scale(axes):
    clients = [settings["n"] for settings in PLOT.values()]
    axes.set_xticks(clients, [f"{n:,}" for n in clients])
    axes.set_xlabel("clients", color=FAINT, labelpad=6)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_major_formatter(lambda rate, _: spoken(rate))
    axes.minorticks_off()
    axes.margins(y=0.1)
    axes.grid(axis="y", color="#d8dee4", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, pad=7, labelcolor=FAINT)


def spoken(rate):
    return f"{rate / 1e6:g} M" if rate >= 1e6 else f"{rate / 1e3:g} k"


def caption(figure, rows):
    left = 0.025
    figure.text(left, 0.935, TITLE, fontsize=16, fontweight="bold")
    figure.text(
        left,
        0.875,
        "10 more clients publish 128-byte messages to all, 60 in flight. Both axes logarithmic.",
        color=FAINT,
    )
    figure.text(left, 0.03, report.origin(rows), color=FAINT, fontsize=9)
