# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of the role `status` as one HTML page, which asks nobody for anything.

All text goes through `tag`, which escapes it: names of pods and messages of servers are other people's.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from ansible_collections.mlops.mlflow.plugins.module_utils._cluster_info import SERVER
from ansible_collections.mlops.mlflow.plugins.module_utils._status import (
    Report,
    age_words,
    drift_words,
    plural,
    size_words,
    version_words,
)

DAY = 86_400_000  # ms
VOID = ("meta", "link")
WIDTH = 960  # of a picture's own coordinates

STYLE = """
:root { color-scheme: light dark; --page: #f4f6f9; --card: #fff; --line: #d9dfe7; --text: #18212d; --dim: #5a6778;
  --accent: #1f63c6; --fill: #1f63c622; --good: #17774a; --bad: #c02b2b; --warn: #8f5b00; }
@media (prefers-color-scheme: dark) { :root { --page: #0f141b; --card: #181f29; --line: #2d3848; --text: #e4eaf2;
  --dim: #97a5b8; --accent: #72aaff; --fill: #72aaff2e; --good: #4fc78b; --bad: #ff7a7a; --warn: #f0b45a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 28px 20px 40px; }
header { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 14px; margin-bottom: 18px; }
h1 { font-size: 25px; line-height: 1.2; margin: 0; }
h2 { font-size: 15px; margin: 0 0 12px; }
p { margin: 0; }
.dim { color: var(--dim); }
.mark { padding: 2px 12px; border-radius: 99px; border: 1.5px solid; font-weight: 600; font-size: 14px; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
header p { width: 100%; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 18px 20px;
  margin-bottom: 16px; }
section.problems { border-left: 4px solid var(--bad); }
ul { margin: 0; padding-left: 20px; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(124px, 1fr)); gap: 10px; margin-bottom: 16px; }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 11px 13px; }
.tiles b { display: block; font-size: 19px; line-height: 1.35; white-space: nowrap; }
.tiles span { color: var(--dim); font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; color: var(--dim); font-weight: 500; white-space: nowrap; }
th, td { padding: 6px 16px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: anywhere; }
tr:last-child > * { border-bottom: 0; }
td.fixed, code { font: 13px/1.55 ui-monospace, monospace; }
svg { display: block; width: 100%; height: auto; min-width: 640px; }
svg text { fill: var(--text); font: 13px system-ui, sans-serif; }
svg text.dim { fill: var(--dim); font-size: 12px; }
svg text.strong { font-weight: 600; }
svg text.good { fill: var(--good); } svg text.bad { fill: var(--bad); }
.box { fill: var(--page); stroke: var(--line); stroke-width: 1.5; }
.box.good { stroke: var(--good); } .box.bad { stroke: var(--bad); stroke-width: 2; }
.frame { fill: none; stroke: var(--dim); stroke-dasharray: 5 4; }
.arrow { fill: none; stroke: var(--dim); stroke-width: 1.5; }
.arrow.bad { stroke: var(--bad); stroke-dasharray: 4 4; }
.head { fill: var(--dim); }
.grid { stroke: var(--line); }
.area { fill: var(--fill); } .curve { fill: none; stroke: var(--accent); stroke-width: 2; }
.bar { fill: var(--accent); } .bar.bad { fill: var(--bad); }
"""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element. `class_` is class, other underscores are hyphens."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"' for key, value in attributes.items()
    )
    content = "".join(child if isinstance(child, Markup) else html.escape(str(child)) for child in children)
    return Markup(f"<{name}{given}>{content}" + ("" if name in VOID else f"</{name}>"))


def join(parts: Iterable[Markup]) -> Markup:
    """Elements, one after the other."""
    return Markup("".join(parts))


def clip(text: str, length: int) -> str:
    """A text that is no longer than there is room for."""
    return text if len(text) <= length else f"{text[: length - 1]}\u2026"


def svg(height: float, label: str, *children: Markup) -> Markup:
    """A picture."""
    return tag(
        "div", tag("svg", *children, viewBox=f"0 0 {WIDTH} {height:g}", role="img", aria_label=label), class_="wide"
    )


def text(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> Markup:
    """Text in a picture."""
    return tag("text", words, x=f"{x:g}", y=f"{y:g}", class_=class_, text_anchor=anchor)


def box(x: float, y: float, width: float, rows: Sequence[tuple[str, str]], mark: str = "") -> Markup:
    """A box in a picture with rows of text, each with its class."""
    height = 16 + 19 * len(rows)
    room = int((width - 24) / 7)  # characters
    lines = [text(x + 12, y + 21 + 19 * row, clip(words, room), kind) for row, (words, kind) in enumerate(rows)]
    frame = tag("rect", x=x, y=y, width=width, height=height, rx=8, class_=f"box {mark}")
    return join([tag("g", tag("title", "\n".join(words for words, kind in rows)), frame, *lines)])


def arrow(x: float, y: float, to_x: float, to_y: float, mark: str = "") -> Markup:
    """An arrow to the right in a picture."""
    bend = (x + to_x) / 2
    curve = f"M{x:g} {y:g} C{bend:g} {y:g} {bend:g} {to_y:g} {to_x - 8:g} {to_y:g}"
    head = f"M{to_x:g} {to_y:g} l-9 -5 v10 z"
    return join([tag("path", d=curve, class_=f"arrow {mark}"), tag("path", d=head, class_="head")])


def topology(made: Report) -> Markup:
    """Who speaks to whom, and where it runs."""
    ends = made["endpoints"]
    pods = sorted(made["pods"], key=lambda pod: (pod["component"] != SERVER, pod["name"]))
    step, top = 92, 40
    rows = max(len(ends), len(pods), 1)
    height = top + step * rows + 22

    def middle(index: int, count: int) -> float:
        """The place of one of `count` boxes in the height of all."""
        return top + step * rows * (index + 0.5) / max(count, 1)

    center = middle(0, 1)
    nodes = ", ".join(node["name"] for node in made["cluster"]["nodes"]) or made["context"] or "cluster"
    parts = [
        tag("rect", x=466, y=8, width=WIDTH - 474, height=height - 16, rx=12, class_="frame"),
        text(482, 30, f"node {clip(nodes, 60)}", "dim"),
        box(2, center - 27, 122, [("Clients", "strong"), ("Python, web", "dim")]),
    ]
    servers = [index for index, pod in enumerate(pods) if pod["component"] == SERVER]
    for index, end in enumerate(ends):
        mark, y = ("good" if end["healthy"] else "bad"), middle(index, len(ends))
        known = [check["latency_ms"] for check in end["checks"] if check["status"] == "ok"]
        words = f"healthy, answers in {known[0]:.0f} ms" if end["healthy"] and known else "not healthy"
        label = [(end["name"].capitalize(), "strong"), (end["url"], "dim"), (words, mark)]
        parts += [arrow(124, center, 172, y), box(172, y - 36, 236, label, mark)]
        parts += [arrow(408, y, 482, middle(server, len(pods)), "" if end["healthy"] else "bad") for server in servers]
    for index, pod in enumerate(pods):
        mark, y = ("good" if pod["ready"] else "bad"), middle(index, len(pods))
        words = f"{'ready' if pod['ready'] else pod['state']}, {plural(pod['restarts'], 'restart')}"
        label = [(pod["component"] or "pod", "strong"), (pod["name"], "dim"), (words, mark)]
        parts.append(box(482, y - 36, 236, label, mark))
        if index in servers:
            parts.append(arrow(718, y, 768, center))
    if not servers:
        parts.append(text(600, center + 4, "no pod of the tracking server", "bad strong", "middle"))
    held = made["content"]
    stored = (
        [("Database", size_words(held["database_bytes"])), ("Artifacts", size_words(held["artifact_bytes"]))]
        if (held)
        else [("Content", "unknown")]
    )
    label = [("Volume", "strong"), (made["data_path"], "dim"), *((f"{name} {size}", "") for name, size in stored)]
    parts.append(box(768, center - 8 - 9.5 * len(label), 170, label))
    return svg(height, "Topology: clients, addresses, pods and volume", *parts)


def latencies(made: Report) -> Markup:
    """How long each check of each address took."""
    checks = [(end, check) for end in made["endpoints"] for check in end["checks"] if check["status"] != "skipped"]
    if not checks:
        return tag("p", "No address was asked.", class_="dim")
    longest = max((check["latency_ms"] or 0 for end, check in checks), default=0) or 1
    parts, y, before = [], 4.0, None
    for end, check in checks:
        if end is not before:
            y += 20
            parts.append(text(0, y, f"{end['name']}  {clip(end['url'], 90)}", "strong"))
            before, y = end, y + 10
        bad = "bad" if check["status"] == "failed" else ""
        width = max(2.0, 540 * (check["latency_ms"] or 0) / longest)
        words = f"{check['latency_ms'] or 0:.1f} ms"
        if bad:
            words = clip(f"{words}  \u2715 {check['detail']}", int((WIDTH - 96 - width) / 7.3))
        parts += [
            text(76, y + 14, check["level"], "dim", "end"),
            tag("rect", x=88, y=f"{y + 3:g}", width=f"{width:.1f}", height=14, rx=3, class_=f"bar {bad}"),
            text(96 + width, y + 14, words, bad),
        ]
        y += 24
    return svg(y + 6, "Latency of each health check", *parts)


def day(when: float) -> str:
    """The date of milliseconds since 1970."""
    return datetime.fromtimestamp(when / 1000, UTC).strftime("%Y-%m-%d")


def growth(made: Report) -> Markup:
    """How many runs there were at the end of each day."""
    days = (made["content"] or {}).get("runs_by_day") or []
    if not days:
        return tag("p", "No runs yet." if made["content"] else f"Unknown: {made['content_unknown']}", class_="dim")
    first = int(days[0][0]) - DAY
    last = max(int(days[-1][0]), int(datetime.fromisoformat(made["time"]).timestamp() * 1000) // DAY * DAY)
    total = sum(int(count) for begin, count in days)
    left, right, top, bottom = 52, WIDTH - 12, 14, 190

    def x(when: float) -> float:
        return left + (right - left) * (when - first) / (last - first)

    def y(count: float) -> float:
        return bottom - (bottom - top) * count / total

    points, count = [(x(first), y(0))], 0
    for begin, more in days:
        if x(begin - DAY) > points[-1][0]:  # no run on the days before
            points.append((x(begin - DAY), y(count)))
        count += more
        points.append((x(begin), y(count)))
    points.append((x(last), y(count)))
    path = " ".join(f"{'L' if index else 'M'}{a:.1f} {b:.1f}" for index, (a, b) in enumerate(points))
    parts = []
    for part in sorted({0, total} | ({total // 2} if total > 3 else set())):
        parts.append(tag("line", x1=left, x2=right, y1=f"{y(part):.1f}", y2=f"{y(part):.1f}", class_="grid"))
        parts.append(text(left - 8, y(part) + 4, str(part), "dim", "end"))
    ends = [(left, first, "start"), (right, last, "end")]
    parts += [text(at, bottom + 20, day(when), "dim", anchor) for at, when, anchor in ends]
    parts += [
        tag("path", d=f"{path} V{bottom} H{left} Z", class_="area"),
        tag("path", d=path, class_="curve"),
    ]
    return svg(bottom + 28, f"Growth of runs to {total}", *parts)


def tiles(made: Report) -> Markup:
    """The numbers that are looked for first."""
    held, last = made["content"], made["backup"]["last"]
    shown: list[tuple[str, str]] = []
    if held:
        counts = held["counts"]
        shown = [
            (str(counts["runs"]), "run" if counts["runs"] == 1 else "runs"),
            (str(counts["experiments"]), "experiment" if counts["experiments"] == 1 else "experiments"),
            (str(counts["registered_models"]), f"models, {plural(counts['model_versions'], 'version')}"),
            (size_words(held["database_bytes"]), "database"),
            (size_words(held["artifact_bytes"]), f"artifacts, {held['artifact_files'] or 0} files"),
            (size_words(held["free_bytes"]), f"free of {size_words(held['volume_bytes'])}"),
        ]
    if made["backup"]["place"] == "controller":
        shown.append((age_words(last["age"]), "since the last backup") if last else ("none", "last backup"))
    return tag("div", *(tag("div", tag("b", number), tag("span", what)) for number, what in shown), class_="tiles")


def grid(head: Sequence[str], rows: Iterable[Sequence[str | Markup]]) -> Markup:
    """A table; a cell that is Markup brings its own element."""
    body = [tag("tr", *(cell if isinstance(cell, Markup) else tag("td", cell) for cell in row)) for row in rows]
    heading = [tag("tr", *(tag("th", cell) for cell in head))] if head else []
    return tag("div", tag("table", *heading, *body), class_="wide")


def part(title: str, *children: Markup, class_: str = "") -> Markup:
    """A part of the page."""
    return tag("section", tag("h2", title), *children, class_=class_)


def verdict(good: bool, words: str, otherwise: str) -> Markup:
    """A cell that says yes or no, by a sign as well as by its colour."""
    mark, sign, said = ("good", "\u2713", words) if good else ("bad", "\u2715", otherwise)
    return tag("td", f"{sign} {said}", class_=mark)


def differences(made: Report) -> Markup:
    """What a deploy would change."""
    unknown = [tag("p", f"Unknown: {note}", class_="warn") for note in made["drift_unknown"]]
    if not made["drift"]:
        return join(unknown or [tag("p", "\u2713 The cluster is as the inventory says.", class_="good")])
    rows = [
        (found["object"], tag("td", *(tag("div", words) for words in drift_words(found)), class_="fixed"))
        for found in made["drift"]
    ]
    return join([*unknown, grid(("object", "what a deploy would change"), rows)])


def pod_rows(made: Report) -> Iterable[Sequence[str | Markup]]:
    """The rows of the table of pods."""
    for pod in made["pods"]:
        state = verdict(pod["ready"], "ready", pod["state"])
        since = str(pod["started"] or "").replace("T", " ").removesuffix("Z")
        yield pod["component"], pod["name"], pod["node"] or "none", state, str(pod["restarts"]), since


def facts(made: Report) -> Mapping[str, str]:
    """What else there is to say."""
    last, held = made["backup"]["last"], made["content"]
    place = "In a bucket, which is not looked into" if made["backup"]["place"] != "controller" else "None"
    known = {
        "Versions": ", ".join(version_words(made)),
        "Cluster": f"{made['context']}, {made['cluster']['state']}",
        "Nodes": ", ".join(
            f"{node['name']} ({' '.join(node['addresses'])}), {'ready' if node['ready'] else 'not ready'}"
            for node in made["cluster"]["nodes"]
        ),
        "Last backup": f"{last['name']}, {size_words(last['bytes'])}, MLflow {last['mlflow_version']}"
        if last
        else place,
    }
    if held:
        counts = held["counts"]
        known["Deleted, not yet removed"] = (
            f"{plural(counts['deleted_experiments'], 'experiment')}, {plural(counts['deleted_runs'], 'run')},"
            f" {plural(counts['deleted_logged_models'], 'logged model')}"
        )
    if made["ended_pods"]:
        known["Ended pods"] = str(made["ended_pods"])
    return known


def page(made: Report) -> str:
    """The whole page."""
    title = f"MLflow {made['instance']}"
    good = made["healthy"]
    header = tag(
        "header",
        tag("h1", title),
        tag("span", "\u2713 healthy" if good else "\u2715 not healthy", class_=f"mark {'good' if good else 'bad'}"),
        tag(
            "p",
            f"{made['namespace']} in {made['context'] or 'no cluster'}, {made['time'][:16].replace('T', ' ')} UTC",
            class_="dim",
        ),
    )
    body = [header]
    if made["problems"]:
        items = tag("ul", *(tag("li", problem) for problem in made["problems"]))
        body.append(part("What is wrong", items, class_="problems"))
    body.append(tiles(made))
    if made["cluster"]["nodes"]:
        body.append(part("Topology", topology(made)))
    body += [
        part("Latency of the health checks", latencies(made)),
        part("Runs over time", growth(made)),
        part("Differences from the inventory", differences(made)),
    ]
    if made["pods"]:
        head = ("component", "pod", "node", "state", "restarts", "since (UTC)")
        body.append(part("Pods", grid(head, pod_rows(made))))
    body.append(part("More", grid((), [(tag("th", name), value) for name, value in facts(made).items()])))
    head_part = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        ),
        tag("link", rel="icon", href="data:,"),
        tag("title", f"{title}: {'healthy' if good else 'not healthy'}"),
        tag("style", Markup(STYLE)),
    )
    return f"<!DOCTYPE html>\n{tag('html', head_part, tag('body', tag('main', *body)), lang='en')}\n"
