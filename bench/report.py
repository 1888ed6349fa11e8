"""Tables of timings: Markdown, JSON and a picture, written anew after every row, so that a run that
is cut short keeps what it has."""

import json
import math
import pathlib

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402

OURS = "sepconv"


def mean(ratios):
    ratios = [r for r in ratios if not math.isnan(r)]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan


def ratio(row):
    """The best peer's time ÷ ours."""
    others = [t for name, t in row["seconds"].items() if name != OURS]
    return min(others) / row["seconds"][OURS] if others else math.nan


class Report:
    """machine: facts for the heading; peak_gflops of all threads, read_gbps of a core by level."""

    def __init__(self, machine, peers, path=None):
        self.machine, self.peers, self.path = machine, peers, path
        self.tables = []

    def table(self, title, unit):
        self.tables.append({"title": title, "unit": unit, "rows": []})
        self._print(self._heading(self.tables[-1]))

    def row(self, name, seconds, flops, bytes_moved=None):
        row = {"name": name, "flops": flops, "bytes": bytes_moved, "seconds": seconds}
        self.tables[-1]["rows"].append(row)
        self._print(self._line(self.tables[-1], row))
        self._write()

    def end_table(self):
        self._print(self._mean(self.tables[-1]))
        self._write()

    def _print(self, text):
        print(text, flush=True)

    def _heading(self, table):
        columns = " | ".join([*self.peers, OURS, "GFLOP/s", "of peak", "ratio"])
        return (
            f"\n### {table['title']}, {table['unit']}\n\n| | {columns} |\n"
            + "|---" * (len(self.peers) + 5)
            + "|"
        )

    def _line(self, table, row):
        scale, digits = (1e3, 2) if table["unit"] == "ms" else (1e6, 1)
        times = row["seconds"]
        cells = [f"{times[p] * scale:.{digits}f}" if p in times else "–" for p in self.peers]
        rate = row["flops"] / times[OURS] / 1e9
        cells += [
            f"{times[OURS] * scale:.{digits}f}", f"{rate:.0f}",
            f"{rate / self.machine['peak_gflops']:.0%}", f"{ratio(row):.2f}",
        ]  # fmt: skip
        return f"| {row['name']} | {' | '.join(cells)} |"

    def _mean(self, table):
        return f"\nGeometric mean of the ratios: **{mean([ratio(r) for r in table['rows']]):.2f}**."

    def header(self):
        m = self.machine
        levels = ", ".join(f"{name} {gbps:.0f} GB/s" for name, gbps in m["read_gbps"].items())
        return (
            f"{m['processor']}, target {m['target']}; FMA peak {m['peak_gflops']:.0f} GFLOP/s, a "
            f"core reads from {levels}. {m['threads']} thread(s) on as many pinned cores, batch "
            f"{m['batch']}, float32, {m['date']}, commit {m['commit']}. The runtimes take turns, "
            "the fastest of many runs counts. Ratio: the best peer's time ÷ ours; –: it cannot "
            "run this, or gave another result."
        )

    def _write(self):
        if self.path is None:
            return
        parts = [self.header()]
        for table in self.tables:
            lines = [self._line(table, row) for row in table["rows"]]
            parts.append("\n".join([self._heading(table), *lines, self._mean(table)]))
        path = pathlib.Path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".md").write_text("\n".join(parts) + "\n")
        facts = {"machine": self.machine, "peers": self.peers, "tables": self.tables}
        path.with_suffix(".json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        self._draw(path.with_suffix(".svg"))

    def _draw(self, path):
        tables = [t for t in self.tables if t["rows"]]
        lines = [r for t in tables for r in t["rows"] if r["bytes"]]
        count = len(tables) + bool(lines)
        width = max([12, *(len(t["rows"]) // 3 for t in tables)])
        figure, axes = pyplot.subplots(count, 1, figsize=(width, 4 * count), squeeze=False)
        for axis, table in zip(axes[:, 0], tables):
            self._bars(axis, table)
        if lines:
            self._roofline(axes[-1, 0], lines)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)

    def _bars(self, axis, table):
        """Speed as a share of the FMA peak: a group a row, a bar a runtime."""
        names = [*self.peers, OURS]
        for i, name in enumerate(names):
            shares = [
                100 * r["flops"] / r["seconds"][name] / 1e9 / self.machine["peak_gflops"]
                if name in r["seconds"] else 0
                for r in table["rows"]
            ]  # fmt: skip
            at = [k + (i - len(names) / 2) * 0.8 / len(names) for k in range(len(shares))]
            color = "black" if name == OURS else f"C{i}"
            axis.bar(at, shares, 0.8 / len(names), label=name, color=color, align="edge")
        axis.set_xticks(range(len(table["rows"])), [r["name"] for r in table["rows"]], rotation=20)
        axis.set_ylabel("% of FMA peak")
        axis.set_title(table["title"])
        axis.legend(fontsize=7, ncols=3)

    def _roofline(self, axis, rows):
        """Ours in every table that has layers, against the machine's limits."""
        peak = self.machine["peak_gflops"]
        x = [2**e for e in range(-2, 9)]
        for name, gbps in self.machine["read_gbps"].items():
            roof = gbps * self.machine["threads"]
            axis.plot(x, [min(peak, v * roof) for v in x], linewidth=1, label=f"read from {name}")
        axis.scatter(
            [r["flops"] / r["bytes"] for r in rows],
            [r["flops"] / r["seconds"][OURS] / 1e9 for r in rows],
            color="black", s=12, label=OURS, zorder=3,
        )  # fmt: skip
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.set_xlabel("flops per byte of input, output and weights")
        axis.set_ylabel("GFLOP/s")
        axis.set_title("Roofline of the layers and blocks")
        axis.legend(fontsize=7)
