"""The block index against smg's and Dynamo's published ones: one corpus, interleaved fresh processes, ratios.

bench/README.md says what is measured and how; index.py --help lists the options.
"""

import argparse
import collections
import hashlib
import json
import mmap
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS_SOURCE = ROOT / "bench/index/peers"
WORK = ROOT / "build/bench-index"
PEERS_TARGET = ROOT / "build/bench-index-peers"
PEERS = {"smg": "kv-index 2.0.0 ChainIndex", "dynamo": "dynamo-kv-router 1.6.1 ConcurrentRadixTreeCompressed"}

# A row: field, text, unit and factor of the printed value, how the ratio reads, (floor, aim) against each peer.
Row = collections.namedtuple("Row", "field text unit scale better targets")
ROWS = [
    Row("store_new_mps", "store new blocks", "M/s CPU", 1, "more", {"smg": (2, 3), "dynamo": (3.5, 5)}),
    Row("store_known_mps", "store known chains", "M/s CPU", 1, "more", {"smg": (6, 10), "dynamo": (8, 12)}),
    Row("remove_mps", "remove", "M/s CPU", 1, "more", {"smg": (4, 6), "dynamo": (4, 5.5)}),
    Row("q6250_p50_ns", "lookup 6,250 blocks p50", "us", 1e-3, "less", {"smg": (3, 4.5), "dynamo": (8, 13)}),
    Row("qtrace_p99_ns", "lookup trace p99", "us", 1e-3, "less", {"smg": (2, 3), "dynamo": (4, 6)}),
    Row("per_held", "bytes per held block", "B", 1, "bytes", {"smg": (0.6, 0.4), "dynamo": (0.4, 0.26)}),
    Row("rss_per_held", "the same by resident memory", "B", 1, "bytes", {}),
    Row("q6250_p99_ns", "lookup 6,250 blocks p99", "us", 1e-3, "less", {}),
    Row("qtrace_p50_ns", "lookup trace p50", "us", 1e-3, "less", {}),
    Row("q512_p50_ns", "lookup 512 blocks p50", "us", 1e-3, "less", {}),
    Row("q512_p99_ns", "lookup 512 blocks p99", "us", 1e-3, "less", {}),
    Row("q64_p50_ns", "lookup 64 blocks p50", "us", 1e-3, "less", {}),
    Row("q64_p99_ns", "lookup 64 blocks p99", "us", 1e-3, "less", {}),
    Row("clear_ms", "clear of one endpoint", "ms CPU", 1, "less", {}),
]
CONCURRENT = {"p50": (1.3, 1.05), "p99": (2.0, 1.1)}


def die(message):
    sys.exit(f"bench index: {message}")


def say(message):
    print(message, flush=True)


def run(command, cwd=ROOT):
    """The JSON object a driver prints."""
    done = subprocess.run([str(c) for c in command], cwd=cwd, stdout=subprocess.PIPE, text=True)
    try:
        return done.returncode, json.loads(done.stdout)
    except json.JSONDecodeError:
        die(f"no result from: {' '.join(str(c) for c in command)} (exit code {done.returncode})")


def build_ours():
    if not (ROOT / "build/build.ninja").exists():
        die("build/ is not configured: run this through ./dev bench index")
    jobs = os.environ.get("WARMPATH_JOBS", str(os.cpu_count()))
    if subprocess.run(["cmake", "--build", "build", "-j", jobs, "--target", "index_bench"], cwd=ROOT).returncode:
        die("index_bench does not build; the lines above say why")
    return ROOT / "build/bin/index_bench"


def build_peers():
    cargo = os.environ.get("CARGO") or shutil.which("cargo") or shutil.which("cargo", path=str(pathlib.Path.home() / ".cargo/bin"))
    if not cargo or not shutil.which(cargo):
        die("no cargo for the peers: ./dev setup installs one; --only ours runs without them")
    PEERS_TARGET.mkdir(parents=True, exist_ok=True)
    log_path = PEERS_TARGET / "build.log"
    begun = tick = time.monotonic()
    with open(log_path, "w") as log:
        command = [cargo, "build", "--release", "--locked", "--target-dir", str(PEERS_TARGET)]
        build = subprocess.Popen(command, cwd=PEERS_SOURCE, stdout=log, stderr=log)
        while build.poll() is None:
            time.sleep(0.2)
            if time.monotonic() - tick > 10:
                tick = time.monotonic()
                last = (log_path.read_text().splitlines() or [""])[-1].strip()
                say(f"  building the peers, once: {tick - begun:.0f} s  {last[:80]}")
    if build.returncode:
        print("\n".join(log_path.read_text().splitlines()[-15:]), file=sys.stderr)
        die("the peers do not build. They come from crates.io: check the network and that cargo is 1.88 or newer "
            f"(whole log: {log_path.relative_to(ROOT)}); --only ours runs without them")
    return PEERS_TARGET / "release/index-peers"


def find_trace():
    folder = pathlib.Path(os.environ.get("WARMPATH_TRACES") or ROOT.parent / "shared/data/traces")
    trace = folder / "conversation_trace.jsonl"
    return trace if trace.exists() else None


def make_corpus(ours, endpoints, quick):
    trace = find_trace()
    if trace is None:
        say("corpus: no conversation_trace.jsonl (Mooncake FAST25; name its folder in WARMPATH_TRACES): a synthetic trace of its shape "
            "instead, on which the targets were not set")
    sources = [ROOT / "bench/index/corpus.cc", ROOT / "bench/index/corpus.h"] + ([trace] if trace else [])
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sources)).hexdigest()[:12]
    name = f"corpus-{endpoints}{'-quick' if quick else ''}"
    path = WORK / f"{name}-{digest}.bin"
    if not path.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        for old in WORK.glob(f"{name}-{'?' * 12}.bin"):
            old.unlink()
        command = [ours, "--make-corpus", path, "--endpoints", endpoints] + (["--quick"] if quick else [])
        if subprocess.run([str(c) for c in command + (["--trace", trace] if trace else [])]).returncode:
            die("the corpus could not be made; the line above says why")
    return path, trace is not None


def derive(result):
    result["per_held"] = result["bytes_t"] / result["held_t"]
    result["rss_per_held"] = result.get("rss_t", 0) / result["held_t"]
    return result


def disagreements(results):
    """Where the results of one round differ, as text."""
    out = []
    checks = [k for k in results["ours"] if k.startswith("check_")] + ["held_t", "held_l", "removed", "orphans"]
    for name, result in results.items():
        out += [f"{name} {check}: {result[check]}, ours {results['ours'][check]}" for check in checks if result[check] != results["ours"][check]]
    return out


def ratio(row, ours, peer):
    """Against a peer: how many times better; for bytes, ours as a fraction of theirs."""
    if row.better == "more":
        return ours[row.field] / peer[row.field]
    if row.better == "less":
        return peer[row.field] / max(ours[row.field], 1e-9)
    return ours[row.field] / peer["per_held"]


def verdict(value, target, at_most):
    floor, aim = target
    reaches = (lambda bound: value <= bound) if at_most else (lambda bound: value >= bound)
    return "aim" if reaches(aim) else "met" if reaches(floor) else "MISSED"


def warm_memory(mib=1024):
    """Touches and frees huge pages, before each program alike. A virtual machine that hands free memory back to its host pays up to twenty times
    as much for the next first touch of it; who starts after a pause, or after a program that used small pages, would pay for that and nothing else."""
    with mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, len(memory), mmap.PAGESIZE):
            memory[at] = 1


def compare(commands, endpoints, options):
    """The workload, all indexes in turn; returns what is to be kept, and the number of missed floors."""
    corpus, real = make_corpus(commands["ours"], endpoints, options.quick)
    rounds = []
    for number in range(options.rounds):
        results = {}
        for name, program in commands.items():
            command = [program, "--corpus", corpus] if name == "ours" else [program, name, corpus]
            warm_memory()
            code, result = run(command)
            if code:
                die(f"{name} failed: {json.dumps(result)}")
            results[name] = derive(result)
        wrong = disagreements(results)
        if wrong:
            die("the indexes disagree on who holds what:\n  " + "\n  ".join(wrong))
        rounds.append(results)
        say(f"  round {number + 1} of {options.rounds}: store new " +
            ", ".join(f"{name} {r['store_new_mps']:.1f}" for name, r in results.items()) + " M blocks/s; " +
            f"trace p99 " + ", ".join(f"{r['qtrace_p99_ns'] / 1e3:.1f}" for r in results.values()) + " us")

    peers = [name for name in commands if name != "ours"]
    judged = endpoints == 64 and real and not options.quick
    first = rounds[0]["ours"]
    say(f"\n{endpoints} endpoints: {first['held_t']:,} blocks held of the trace, {first['held_l']:,} of the long sessions, "
        f"{first['removed']:,} removed; median of {len(rounds)} rounds")
    if peers:
        say(f"the results of {len(commands)} indexes agree on {first['check_stored_pairs']:,} (query, endpoint) pairs after the stores, "
            "after the removals and after the clear")
    say(f"{'':30}{'':9}{'ours':>9}" + "".join(f"{p:>10}{'ratio':>8}{'floor':>7}{'aim':>6} {'':7}" for p in peers))
    missed, summary = 0, {}
    for row in ROWS:
        value = {n: statistics.median(r[n][row.field] for r in rounds if row.field in r[n]) for n in commands}
        entry = summary[row.field] = {"ours": value["ours"]}
        line = f"{row.text:30}{row.unit:9}{value['ours'] * row.scale:9.3g}"
        for peer in peers:
            times = statistics.median(ratio(row, r["ours"], r[peer]) for r in rounds)
            shown = statistics.median(r[peer]["per_held"] for r in rounds) if row.better == "bytes" else value[peer]
            entry[peer] = {"value": shown, "ratio": times}
            line += f"{shown * row.scale:10.3g}{times:7.2f}x"
            target = row.targets.get(peer)
            if target and judged:
                entry[peer]["verdict"] = word = verdict(times, target, row.better == "bytes")
                missed += word == "MISSED"
                line += f"{target[0]:7g}{target[1]:6g} {word:7}"
            else:
                line += " " * 21
        say(line.rstrip())
    if peers and not judged:
        say("targets are for 64 endpoints and the whole trace: not judged here")
    return {"endpoints": endpoints, "real_trace": real, "rounds": rounds, "medians": summary, "corpus": str(corpus.name)}, missed


def concurrency(ours, options):
    corpus, _ = make_corpus(ours, 64, options.quick)
    code, result = run([ours, "--mode", "concurrency", "--corpus", corpus, "--seconds", 4 if options.quick else 40])
    if code:
        die(f"lookups beside a writer failed or found what cannot be: {json.dumps(result)}")
    say(f"\nlookups while the other core writes {result['writer_mps']:.1f} M blocks/s to the index; control: it streams "
        f"{result['stream_gbps']:.1f} GB/s through memory of its own\n(also: it writes {result['twin_mps']:.1f} M blocks/s to an index of its own; "
        f"it sleeps). All {result['lookups']:,} results were possible ones.")
    say(f"{'us':18}{'writer':>9}{'control':>9}{'ratio':>8}{'floor':>7}{'aim':>6} {'':8}{'own index':>10}{'alone':>8}")
    missed = 0
    for query in ("q6250", "qtrace"):
        for p in ("p50", "p99"):
            us = {mode: result[f"{mode}_{query}_{p}_ns"] / 1e3 for mode in ("writer", "stream", "twin", "alone")}
            times = us["writer"] / us["stream"]
            word = verdict(times, CONCURRENT[p], True)
            result[f"ratio_{query}_{p}"] = times
            missed += word == "MISSED" and not options.quick
            floor, aim = CONCURRENT[p]
            say(f"{query + ' ' + p:18}{us['writer']:9.2f}{us['stream']:9.2f}{times:7.2f}x{floor:7g}{aim:6g} {word:8}{us['twin']:10.2f}{us['alone']:8.2f}")
    return result, missed


def eviction(ours, options):
    corpus, _ = make_corpus(ours, 64, options.quick)
    code, result = run([ours, "--mode", "eviction", "--corpus", corpus])
    say(f"\nthe trace in a budget of half of its size: {result['store_evicting_mps']:.2f} M blocks/s CPU, {result['evicted']:,} of "
        f"{result['stored']:,} evicted, at most {result['most_bytes'] / 2**20:.1f} of {result['budget_bytes'] / 2**20:.1f} MiB used")
    if code:
        die("the index took more than its budget")
    return result


def fill(ours, options):
    say(f"\nfill: {options.fill:,} blocks of {options.fill_endpoints:,} endpoints, in 60 % of the memory available")
    command = [ours, "--mode", "fill", "--fill-blocks", options.fill, "--fill-endpoints", options.fill_endpoints]
    code, result = run(command)
    say(f"{'held blocks':>14}{'distinct':>14}{'B/held':>8}{'RSS/held':>9}{'M blocks/s':>11}{'slowest batch':>14}{'lookup p50':>11}{'p99 us':>8}{'holders':>8}")
    for s in result["stops"]:
        say(f"{s['stored']:14,}{s['blocks']:14,}{s['bytes_per_held']:8.1f}{s['rss_per_held']:9.1f}{s['store_mps']:11.1f}{s['slowest_batch_ms']:11.2f} ms"
            f"{s['lookup_p50_ns'] / 1e3:11.2f}{s['lookup_p99_ns'] / 1e3:8.2f}{s['holders_per_lookup']:8.0f}")
    last = result["stops"][-1]
    if last["stored"] < options.fill:
        say(f"stopped by {result['stopped_by']} ({result['memory_bytes'] / 2**30:.1f} GiB were allowed); extrapolated, {options.fill:,} blocks take "
            f"{last['bytes_per_held'] * options.fill / 2**30:.1f} GiB")
    if code:
        die(f"{result['wrong']} lookups did not find the chain that was stored")
    return result


def main():
    parser = argparse.ArgumentParser(prog="./dev bench index", description="the block index against those of smg and Dynamo")
    parser.add_argument("--quick", action="store_true", help="one round of a tenth of the corpus, no fill, nothing judged")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 5)")
    parser.add_argument("--endpoints", default="64", help="one number or several with commas (default 64, where the targets are)")
    parser.add_argument("--only", default="ours,smg,dynamo", help="of ours, smg, dynamo; without peers no cargo is needed")
    parser.add_argument("--parts", default="workload,concurrency,eviction,fill", help="of workload, concurrency, eviction, fill")
    parser.add_argument("--fill", type=int, metavar="BLOCKS", help="blocks of the synthetic fill (default 100000000)")
    parser.add_argument("--fill-endpoints", type=int, default=4096)
    parser.add_argument("--ours", type=pathlib.Path, metavar="PROGRAM", help="an index_bench built elsewhere")
    parser.add_argument("--peers", type=pathlib.Path, metavar="PROGRAM", help="an index-peers built elsewhere")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="everything measured, also as JSON")
    options = parser.parse_args()
    parts, only = options.parts.split(","), options.only.split(",")
    if set(parts) - {"workload", "concurrency", "eviction", "fill"} or set(only) - {"ours", *PEERS} or "ours" not in only:
        parser.error("--parts: of workload, concurrency, eviction, fill; --only: ours, and of smg, dynamo")
    if options.quick and options.fill is None:
        parts = [p for p in parts if p != "fill"]
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.fill = options.fill or 100_000_000
    counts = [int(n) for n in options.endpoints.split(",") if n.isdigit() and 0 < int(n) <= 1024]
    if not counts:
        parser.error("--endpoints: 1 to 1024 (the most that smg's index takes)")

    commands = {"ours": options.ours or build_ours()}
    peers = [name for name in PEERS if name in only]
    if peers and "workload" in parts:
        program = options.peers or build_peers()
        commands.update({name: program for name in peers})
        say("peers: " + ", ".join(f"{name} = {PEERS[name]}" for name in peers))
    report, missed = {"workload": []}, 0
    for endpoints in counts if "workload" in parts else []:
        kept, failed = compare(commands, endpoints, options)
        report["workload"].append(kept)
        missed += failed
    if "concurrency" in parts:
        report["concurrency"], failed = concurrency(commands["ours"], options)
        missed += failed
    if "eviction" in parts:
        report["eviction"] = eviction(commands["ours"], options)
    if "fill" in parts:
        report["fill"] = fill(commands["ours"], options)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if missed:
        die(f"{missed} floors missed")


if __name__ == "__main__":
    main()
