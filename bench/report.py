"""What was measured, as tables: in the terminal, README.md and docs/performance.md."""

import csv
import os
import platform
from collections import defaultdict
from pathlib import Path
from statistics import median

from cases import BRIEFLY, TABLE

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "performance.md"
CSV = ROOT / "docs" / "performance" / "race.csv"
PLOT = CSV.with_suffix(".svg")
TARGETS = CSV.with_name("targets.csv")

FIGURES = ("deliveries_per_s", "cpu_us_per_delivery", "p99_us", "client_idle")
BEGIN = "<!-- make bench writes this, from docs/performance/race.csv -->\n\n"
END = "\n<!-- end of what make bench writes -->"
TARGETS_BEGIN = "<!-- make bench-targets writes this, from docs/performance/targets.csv -->\n\n"
TARGETS_END = "\n<!-- end of what make bench-targets writes -->"


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
    return row | {column: runs[-1][column] for column in ("seconds", "date", "machine")}


def machine():
    """Return processor, cores, kernel and Python in a line."""
    processor = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    kernel = platform.release().partition("-")[0]
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{processor}, {os.cpu_count()} cores, Linux {kernel}, {python}"


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path, rows, columns=None):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns or rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def publish(rows):
    """Write the CSV of the race, and renew what README.md and docs/performance.md say of it."""
    write(CSV, rows)
    for path, text in pages(rows).items():
        renew(path, BEGIN, text, END)


def publish_targets(rows):
    """Write the CSV of the targets, and renew what docs/performance.md says of it."""
    write(TARGETS, rows)
    renew(PAGE, TARGETS_BEGIN, targets_table(rows), TARGETS_END)


def renew(path, begin, text, end):
    old = path.read_text()
    start = old.index(begin) + len(begin)
    path.write_text(old[:start] + text + old[old.index(end, start) :])


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


def targets_table(rows):
    """Return one table of all that has a target."""
    lines = [["", "median", "smallest to largest", "target", ""]]
    for row in rows:
        if not row["median"]:
            lines.append([row["row"], row["verdict"], "", "", ""])
            continue
        middle, low, high = (rounded(float(row[figure])) for figure in ("median", "low", "high"))
        goal = f"{row['target']} {row['unit']}"
        lines.append([row["row"], middle, f"{low} to {high}", goal, row["verdict"]])
    return f"{markdown(lines)}\n\n{origin(rows)}\n"


def rounded(number):
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:#.3g}".rstrip(".")


def origin(rows):
    runs = max(int(row["runs"]) for row in rows)
    counted = "one run" if runs == 1 else f"medians of {runs} runs"
    length = f"{float(rows[0]['seconds']):g} s"
    return f"{rows[0]['date']}, {rows[0]['machine']}; {counted} of {length}."


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
    if not limit:
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
