"""Draw the comparison with the peers, and the cost of a row by the number of rows, from their figures.

python -m benchmarks.plot
"""

from __future__ import annotations

import json

from benchmarks.peers import is_told
from benchmarks.pipeline import RESULTS

GREEN, GREY = "#2f6f4f", "#b9b9b0"


def main() -> None:
    """Draw what has been measured."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "windrow", "font.size": 9})
    for name, draw in (("peers", draw_peers), ("scale", draw_scale)):
        if (RESULTS / f"{name}.json").exists():
            draw()


def draw_scale() -> None:
    """Read ``scale.json`` and write ``scale.svg``: milliseconds a row and peak memory, by the number of rows."""
    from matplotlib import pyplot as plt

    told = json.loads((RESULTS / "scale.json").read_text(encoding="utf-8"))
    figure, panels = plt.subplots(1, 2, figsize=(10, 2.8), constrained_layout=True)
    for (name, found), colour in zip(told["results"].items(), (GREY, GREEN), strict=True):
        for is_new, line in ((True, "-"), (False, ":")):
            runs = sorted((run for run in found if bool(run["texts_scored"]) == is_new), key=lambda run: run["rows"])
            rows = [run["rows"] for run in runs]
            told_as = {"color": colour, "linestyle": line, "marker": "o", "markersize": 3}
            label = f"{name}, {'all texts new' if is_new else 'no text new'}"
            panels[0].plot(rows, [1000 * run["seconds"] / run["rows"] for run in runs], label=label, **told_as)
            panels[1].plot(rows, [run["peak_mb"] for run in runs], **told_as)
    panels[0].set_title("milliseconds a row, start-up included", loc="left")
    panels[0].set_yscale("log")
    panels[0].legend(frameon=False, fontsize=8)
    panels[1].set_title("peak memory, MB", loc="left")
    panels[1].set_ylim(0)
    for panel in panels:
        panel.set_xscale("log")
        panel.set_xlabel("rows")
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(RESULTS / "scale.svg", metadata={"Date": None})


def draw_peers() -> None:
    """Read ``peers.json`` and write ``peers.svg``: rows a second, a panel for each length of text."""
    from matplotlib import pyplot as plt

    told = json.loads((RESULTS / "peers.json").read_text(encoding="utf-8"))
    figure, panels = plt.subplots(1, len(told["results"]), figsize=(10, 2.8), constrained_layout=True)
    for panel, (name, found) in zip(panels, told["results"].items(), strict=True):
        who = list(found)[::-1]
        speeds = [found[one]["without_start"] if is_told(found[one], "without_start") else 0 for one in who]
        colours = [GREEN if one.startswith("Windrow") else GREY for one in who]
        bars = panel.barh([one.replace(", sorted", ",\nsorted") for one in who], speeds, color=colours)
        labels = [f"{speed:,.0f}" if speed else "start-up is nearly all" for speed in speeds]
        panel.bar_label(bars, labels, padding=2)
        panel.set_title(name, loc="left")
        panel.set_xlabel("rows/s without start-up")
        panel.set_xlim(0, max(speeds) * 1.18)
        panel.spines[["top", "right"]].set_visible(False)
        if panel is not panels[0]:
            panel.set_yticklabels([])
    figure.savefig(RESULTS / "peers.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
