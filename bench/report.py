"""What the race has measured, as tables: in the terminal, README.md and docs/performance.md."""

import csv
from collections import defaultdict
from pathlib import Path
from statistics import median

from cases import BRIEFLY, TABLE

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "performance.md"
CSV = ROOT / "docs" / "performance" / "race.csv"
PLOT = CSV.with_suffix(".svg")

FIGURES = ("deliveries_per_s", "cpu_us_per_delivery", "p99_us", "client_idle")
BEGIN = "<!-- make bench writes this, from docs/performance/race.csv -->\n\n"
END = "\n<!-- end of what make bench writes -->"


def medians(runs):
    """Return one row for each case and server, with the medians of the runs that did not fail."""
    groups = defaultdict(list)
    for run in runs:
        groups[run["case"], run["server"]].append(run)
    return [median_row(group) for group in groups.values()]


def median_row(runs):
    row = {column: runs[0][column] for column in ("case", "server", "version")}
    passed = [run for run in runs if not run["error"]]
    row |= {"runs": len(runs), "failed": len(runs) - len(passed)}
    for figure in FIGURES:
        row[figure] = median(run[figure] for run in passed) if passed else ""
    return row | {column: runs[-1][column] for column in ("date", "machine")}


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def publish(rows):
    """Write the CSV, and renew what README.md and docs/performance.md say of it."""
    CSV.parent.mkdir(exist_ok=True)
    with CSV.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for path, text in pages(rows).items():
        old = path.read_text()
        begin = old.index(BEGIN) + len(BEGIN)
        path.write_text(old[:begin] + text + old[old.index(END, begin) :])


def pages(rows):
    """Return what stands between `BEGIN` and `END` in each file."""
    return {
        README: f"{brief_table(rows)}\n\n{origin(rows)}\n",
        PAGE: full_tables([row for row in rows if row["case"] in TABLE]),
    }


def full_tables(rows):
    """Return a table for each case, with all figures."""
    tables = [f"### {case}\n\n{case_table(found)}\n" for case, found in by_case(rows).items()]
    return "\n".join([*tables, f"{origin(rows)} {versions(rows)}.\n"])


def case_table(by_server):
    head = ["", "deliveries/s", "CPU µs per delivery", "times C", "p99 ms"]
    lines = []
    for server, row in by_server.items():
        if int(row["failed"]):
            lines.append([server, failure(row), "", "", ""])
            continue
        rate, cpu, p99 = (float(row[figure]) for figure in FIGURES[:3])
        lines.append([server, f"{rate:,.0f}", f"{cpu:.3f}", times_c(row, by_server), in_ms(p99)])
    return markdown([head, *lines])


def brief_table(rows):
    """Return one table of some cases: how many times the CPU time of C, and deliveries/s."""
    cases = {case: by_server for case, by_server in by_case(rows).items() if case in BRIEFLY}
    servers = list(dict.fromkeys(row["server"] for row in rows))
    lines = [
        [case, *(brief_cell(server, by_server) for server in servers)]
        for case, by_server in cases.items()
    ]
    return markdown([["", *servers], *lines])


def brief_cell(server, by_server):
    row = by_server[server]
    if int(row["failed"]):
        return failure(row)
    return f"{times_c(row, by_server)} ({short(float(row['deliveries_per_s']))})"


def origin(rows):
    runs = max(int(row["runs"]) for row in rows)
    counted = "one run each" if runs == 1 else f"medians of {runs} runs"
    return f"{rows[0]['date']}, {rows[0]['machine']}; {counted}."


def versions(rows):
    found = {row["server"]: row["version"] for row in rows}
    return ", ".join(f"{server} {version}" for server, version in found.items())


def by_case(rows):
    found = defaultdict(dict)
    for row in rows:
        found[row["case"]][row["server"]] = row
    return found


def failure(row):
    return f"fails {row['failed']} of {row['runs']}"


def times_c(row, by_server):
    limit = float(by_server["C"]["cpu_us_per_delivery"]) if "C" in by_server else 0
    if not limit:  # a run too short for the clock of CPU time has 0 too
        return ""
    ratio = float(row["cpu_us_per_delivery"]) / limit
    return f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.0f}"


def in_ms(microseconds):
    milliseconds = microseconds / 1000
    return f"{milliseconds:.2f}" if milliseconds < 10 else f"{milliseconds:,.0f}"


def short(rate):
    return f"{rate / 1e6:.1f} M" if rate >= 1e6 else f"{rate / 1e3:.0f} k"


def markdown(lines):
    """Return Markdown whose source is aligned as well."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in (lines[0], rule, *lines[1:])
    )
