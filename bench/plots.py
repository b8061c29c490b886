"""The figures of docs/performance.md: takes what benches have written with --json, draws the plots, fills in the tables.

    bench/plots.py out/gateway.json out/sweep.json ...   # takes these in (recognised by their content), then writes everything
    bench/plots.py                                       # writes everything anew from docs/performance/figures.json
    bench/plots.py --check                               # exit 1 if text or plots are not what the figures say
"""

import argparse
import json
import math
import os
import pathlib
import platform
import re
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/performance.md"
FOLDER = ROOT / "docs/performance"
FIGURES = FOLDER / "figures.json"
OURS, PEER, THIRD = "#1d5fd1", "#8a8f98", "#d9822b"


# What is taken from a bench's JSON: {name in figures.json: figures}.

def take(report):
    if report.get("bench") in ("gateway", "gateway-sweep", "idle"):
        return {report["bench"]: {key: value for key, value in report.items() if key != "bench"}}
    if "workload" in report and "fill" in report or "concurrency" in report:
        kept = {key: report[key] for key in ("concurrency", "eviction", "fill") if key in report}
        kept["workload"] = [{key: entry[key] for key in ("endpoints", "real_trace", "medians")} for entry in report.get("workload", [])]
        return {"index": kept}
    if "chunk_us" in report:
        return {"extproc": report}
    if "16-text" in report:
        return {"events": report}
    raise SystemExit("plots: not a report of gateway, idle, index, extproc or events")


def machine():
    model = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "unknown")
    return {"cpu": model, "cores": os.cpu_count(), "kernel": ".".join(platform.release().split(".")[:2]), "date": time.strftime("%Y-%m-%d", time.gmtime())}


# Plots.

def short(value, unit=""):
    """12000 -> 12 k."""
    if not unit and value < 10_000:
        return f"{value:,g}"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {letter}{unit}".rstrip()
    return f"{value:g} {unit}".rstrip()


def ticks(low, high):
    """1, 2 and 5 times powers of ten, or the powers alone where that is enough."""
    powers = [10.0 ** e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    values = [p for p in powers if low <= p <= high]
    return values if len(values) > 3 else [v for p in powers for v in (p, 2 * p, 5 * p) if low <= v <= high]


class Plot:
    """A line chart, both axes logarithmic or the upright one from zero; each line carries its name at its end."""
    WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 380, 76, 130, 44, 54

    def __init__(self, title, x_name, y_name, lines, x_ticks=None, x_unit="", from_zero=False):
        self.title, self.x_name, self.y_name, self.lines, self.x_unit = title, x_name, y_name, lines, x_unit
        xs = [x for _, _, points in lines for x, _ in points]
        ys = [y for _, _, points in lines for _, y in points]
        self.x_low, self.x_high = min(xs), max(xs)
        self.from_zero = from_zero
        self.y_low, self.y_high = (0, max(ys) * 1.15) if from_zero else (min(ys) / 1.4, max(ys) * 1.4)
        step = 10.0 ** math.floor(math.log10(self.y_high))
        step = next(s for s in (step / 5, step / 2, step, step * 2) if self.y_high / s <= 6)
        self.y_ticks = [step * i for i in range(int(self.y_high / step) + 1)] if from_zero else ticks(self.y_low, self.y_high)
        self.x_ticks = x_ticks or ticks(self.x_low, self.x_high)

    def x(self, value):
        span = math.log(self.x_high / self.x_low) or 1
        return self.LEFT + (self.WIDTH - self.LEFT - self.RIGHT) * math.log(value / self.x_low) / span

    def y(self, value):
        share = value / self.y_high if self.from_zero else math.log(value / self.y_low) / math.log(self.y_high / self.y_low)
        return self.HEIGHT - self.BOTTOM - (self.HEIGHT - self.TOP - self.BOTTOM) * share

    def ends(self):
        """Where the names of the lines stand: at their ends, at least 16 apart."""
        placed = sorted((self.y(points[-1][1]), name) for name, _, points in self.lines)
        for i in range(1, len(placed)):
            placed[i] = (max(placed[i][0], placed[i - 1][0] + 16), placed[i][1])
        return {name: y for y, name in placed}

    def svg(self):
        right, bottom = self.WIDTH - self.RIGHT, self.HEIGHT - self.BOTTOM
        out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.WIDTH} {self.HEIGHT}" font-family="system-ui, sans-serif" font-size="12" fill="#444">',
               f'<rect width="{self.WIDTH}" height="{self.HEIGHT}" fill="#fff"/>',
               f'<text x="{self.LEFT}" y="24" font-size="15" fill="#111">{self.title}</text>']
        for value in self.y_ticks:
            y = self.y(value)
            out.append(f'<line x1="{self.LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#e6e8eb"/>')
            out.append(f'<text x="{self.LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,g}</text>')
        for value in self.x_ticks:
            x = self.x(value)
            out.append(f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 5}" stroke="#9aa0a6"/>')
            out.append(f'<text x="{x:.1f}" y="{bottom + 19}" text-anchor="middle">{short(value, self.x_unit)}</text>')
        out.append(f'<line x1="{self.LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="#9aa0a6"/>')
        out.append(f'<text x="{(self.LEFT + right) / 2}" y="{self.HEIGHT - 12}" text-anchor="middle">{self.x_name}</text>')
        middle = (self.TOP + bottom) / 2
        out.append(f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">{self.y_name}</text>')
        ends = self.ends()
        for name, color, points in self.lines:
            path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
            out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2.2" stroke-linejoin="round"/>')
            out += [f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3.2" fill="{color}"/>' for x, y in points]
            out.append(f'<text x="{right + 10}" y="{ends[name] + 4:.1f}" fill="{color}" font-weight="600">{name}</text>')
        return "\n".join([*out, "</svg>", ""])


def plots(figures):
    """{file name: SVG} of what there are figures for."""
    out = {}
    sweep = figures.get("gateway-sweep")
    if sweep:
        for name, key, points, title, x_name, unit in (
                ("cost-by-length.svg", "bytes", sweep["length"], "A request's CPU against the length of its prompt", "prompt, 90 % of it seen before (200 B: all new)", "B"),
                ("cost-by-endpoints.svg", "endpoints", sweep["endpoints"], "A small request's CPU against the number of endpoints", "endpoints", "")):
            lines = [("warmpath", OURS, [(p[key], p["ours_us"]) for p in points]),
                     ("nginx", PEER, [(p[key], p["nginx_us"]) for p in points])]
            out[name] = Plot(title, x_name, "CPU per request, us", lines, [p[key] for p in points], unit).svg()
    stops = figures.get("index", {}).get("fill", {}).get("stops", [])
    if len(stops) > 1:
        lines = [("p99", THIRD, [(s["stored"], s["lookup_p99_ns"] / 1e3) for s in stops]), ("p50", OURS, [(s["stored"], s["lookup_p50_ns"] / 1e3) for s in stops])]
        out["lookup-by-blocks.svg"] = Plot("A lookup of 1,056 blocks against what the index holds", "blocks held, by 4,096 endpoints", "lookup, us", lines, from_zero=True).svg()
    return out


# Tables. A row is (what, measured, floor, aim, verdict); `at_most`: smaller is better.

def row(what, value, text, floor, aim, at_most=True, form="{:g}x"):
    met = (lambda bound: value <= bound) if at_most else (lambda bound: value >= bound)
    verdict = "aim met" if aim is not None and met(aim) else "floor met" if met(floor) else "**missed**"
    sign = "≤" if at_most else "≥"
    return f"| {what} | {text} | {sign} {form.format(floor)} | {'' if aim is None else form.format(aim)} | {verdict} |"


HEAD = "| what | measured | floor | aim | |\n|---|---|---|---|---|"


def gateway_table(figures):
    import gateway
    cases = figures["cases"]
    out = [HEAD]
    for name, (what, _, floor, aim) in gateway.CASES.items():
        if name in cases:
            c = cases[name]
            out.append(row(what, c["ratio"], f"{c['ratio']:.2f}x nginx ({c['ours_us']:.1f} against {c['nginx_us']:.1f} us)", floor, aim))
    if "turns" in cases:
        c = cases["turns"]
        out.append(row("second turn of a 400 kB chat, against the first", c["ratio"], f"{c['ratio']:.3f}x ({c['second_us']:.0f} against {c['first_us']:.0f} us)", gateway.TURN_FLOOR, gateway.TURN_AIM))
    if "upload" in cases:
        c = cases["upload"]
        out.append(f"| slow upload of 400 kB, from its last piece to the answer | new text {c['new_p50_ms']:.2f} ms, known {c['known_p50_ms']:.2f} ms (nginx {c['nginx_p50_ms']:.2f}) | | | |")
    if "memory" in cases:
        c = cases["memory"]
        for what, kind, floor, aim in (("memory per open stream", "stream", gateway.STREAM_KIB_FLOOR, gateway.STREAM_KIB_AIM),
                                       ("memory per idle connection", "idle", gateway.IDLE_KIB_FLOOR, gateway.IDLE_KIB_AIM)):
            out.append(row(what, c[f"{kind}_ours_kib"], f"{c[f'{kind}_ours_kib']:.1f} KiB (nginx {c[f'{kind}_nginx_kib']:.1f})", floor, aim, form="{:g} KiB"))
    return "\n".join(out)


def sweep_table(figures):
    out = ["![CPU per request against prompt length](performance/cost-by-length.svg)", "", "| prompt | warmpath, us | nginx, us | ratio |", "|---|---:|---:|---:|"]
    out += [f"| {short(p['bytes'], 'B')} | {p['ours_us']:.0f} | {p['nginx_us']:.0f} | {p['ratio']:.2f} |" for p in figures["length"]]
    out += ["", "![CPU per small request against the number of endpoints](performance/cost-by-endpoints.svg)", "", "| endpoints | warmpath, us | nginx, us | ratio |", "|---|---:|---:|---:|"]
    out += [f"| {p['endpoints']:,} | {p['ours_us']:.0f} | {p['nginx_us']:.0f} | {p['ratio']:.2f} |" for p in figures["endpoints"]]
    return "\n".join(out)


def index_table(figures):
    import index
    out = ["| what | ours | against smg | floor, aim | against Dynamo | floor, aim |", "|---|---:|---:|---|---:|---|"]
    entry = next((e for e in figures["workload"] if e["endpoints"] == 64), None)
    for r in index.ROWS if entry else []:
        found = entry["medians"].get(r.field)
        if not r.targets or not found:
            continue
        line = f"| {r.text} | {found['ours'] * r.scale:.3g} {r.unit} |"
        for peer in ("smg", "dynamo"):
            if peer in found:
                mark = "" if found[peer].get("verdict") != "MISSED" else " **missed**"
                line += f" {found[peer]['ratio']:.2f}x{mark} | {r.targets[peer][0]:g}x, {r.targets[peer][1]:g}x |"
            else:
                line += " | |"
        out.append(line)
    beside = figures.get("concurrency")
    if beside:
        out += ["", "| lookups beside a writer, against the control | measured | floor | aim | |", "|---|---|---|---|---|"]
        for query, what in (("q6250", "6,250 blocks"), ("qtrace", "chains of the trace")):
            for p in ("p50", "p99"):
                value = beside[f"ratio_{query}_{p}"]
                out.append(row(f"{what}, {p}", value, f"{value:.2f}x", *index.CONCURRENT[p]))
    stops = figures.get("fill", {}).get("stops")
    if stops:
        out += ["", "![A lookup against the number of blocks held](performance/lookup-by-blocks.svg)", "", "| blocks held | bytes each | stored, M/s | slowest batch of 65,536, ms | lookup p50, us | p99, us |", "|---:|---:|---:|---:|---:|---:|"]
        out += [f"| {s['stored']:,} | {s['bytes_per_held']:.1f} | {s['store_mps']:.1f} | {s['slowest_batch_ms']:.1f} | {s['lookup_p50_ns'] / 1e3:.2f} | {s['lookup_p99_ns'] / 1e3:.2f} |" for s in stops]
    return "\n".join(out)


def events_table(figures):
    import events
    rate = 1e3 / max(figures["16-text"]["new"], figures["16-vocabulary"]["new"])
    out = [HEAD, row("new chains of 16-token blocks, one core", rate, f"{rate:.1f} M blocks/s", events.FLOOR / 1e6, events.AIM / 1e6, at_most=False, form="{:g} M"), "",
           "| tokens per block | token ids | new chains, ns per block | known chains | of it decoding | keys | msgspec, decoding alone |", "|---:|---|---:|---:|---:|---:|---:|"]
    for name, m in figures.items():
        size, ids = name.split("-")
        peer = f"{m['msgspec']:.0f}" if "msgspec" in m else ""
        out.append(f"| {size} | {'as in text' if ids == 'text' else 'uniform'} | {m['new']:.0f} | {m['known']:.0f} | {m['decode']:.0f} | {m['keys']:.0f} | {peer} |")
    return "\n".join(out)


def extproc_table(figures):
    import extproc
    share = figures["chunk_us"] / figures["envoy_chunk_us"]
    return "\n".join([
        HEAD, row("CPU per small request", figures["request_us"], f"{figures['request_us']:.1f} us (Envoy's own {figures['envoy_request_us']:.1f})", extproc.FLOOR_REQUEST_US, 40, form="{:g} us"),
        row("CPU per streamed chunk", figures["chunk_us"], f"{figures['chunk_us']:.2f} us", extproc.FLOOR_CHUNK_US, 5, form="{:g} us"),
        row("the same against Envoy's own", share, f"{share:.2f}x", extproc.FLOOR_CHUNK_RATIO, None),
        row("memory per open stream", figures["stream_kib"], f"{figures['stream_kib']:.1f} KiB", extproc.FLOOR_STREAM_KIB, 8, form="{:g} KiB")])


def idle_table(figures):
    import idle
    return "\n".join([HEAD, row(f"cores with {figures['endpoints']} endpoints", figures["cores"], f"{figures['cores']:.4f} ({figures['scrapes_per_second']:.0f} scrapes/s)", idle.CORES_FLOOR, idle.CORES_AIM, form="{:g}"),
                      row("memory beside the tokenizer's own", figures["memory_mib"], f"{figures['memory_mib']:.1f} MiB", idle.MIB_FLOOR, None, form="{:g} MiB")])


def machine_line(figures):
    return f"Measured on {figures['cores']} cores of {figures['cpu']}, Linux {figures['kernel']}, {figures['date']}."


TABLES = {"gateway": gateway_table, "gateway-sweep": sweep_table, "index": index_table, "events": events_table, "extproc": extproc_table, "idle": idle_table, "machine": machine_line}


def filled(page, figures):
    """The page with the text between each pair of its markers made from the figures."""
    def fill(match):
        name = match.group(2)
        text = TABLES[name](figures[name]) if name in figures else "Not measured yet."
        return f"{match.group(1)}\n{text}\n{match.group(4)}"
    return re.sub(r"(<!-- figures: ([a-z-]+) -->)\n(.*?)(<!-- end -->)", fill, page, flags=re.S)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("report", nargs="*", type=pathlib.Path, help="JSON of a bench")
    options = parser.parse_args()
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for path in options.report:
        figures |= take(json.loads(path.read_text()))
        figures["machine"] = machine()
    wanted = {FOLDER / name: svg for name, svg in plots(figures).items()}
    wanted[PAGE] = filled(PAGE.read_text(), figures)
    if options.report:
        wanted[FIGURES] = json.dumps(figures, indent=1) + "\n"
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if options.check:
        for path in stale:
            print(f"plots: {path.relative_to(ROOT)} is not what docs/performance/figures.json says; run bench/plots.py", file=sys.stderr)
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for path in stale:
        path.write_text(wanted[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
