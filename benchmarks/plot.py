"""Draw the comparison with the peers from its figures.

python -m benchmarks.plot
"""

from __future__ import annotations

import json

from benchmarks.peers import is_told
from benchmarks.pipeline import RESULTS


def main() -> None:
    """Read ``peers.json`` and write ``peers.svg``: rows a second, a panel for each length of text."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "windrow", "font.size": 9})
    from matplotlib import pyplot as plt

    told = json.loads((RESULTS / "peers.json").read_text(encoding="utf-8"))
    figure, panels = plt.subplots(1, len(told["results"]), figsize=(10, 2.8), constrained_layout=True)
    for panel, (name, found) in zip(panels, told["results"].items(), strict=True):
        who = list(found)[::-1]
        speeds = [found[one]["without_start"] if is_told(found[one], "without_start") else 0 for one in who]
        colours = ["#2f6f4f" if one.startswith("Windrow") else "#b9b9b0" for one in who]
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
