"""What our gateway costs beside nginx: CPU per request, per turn and per event, memory per connection and stream.

Same client, same engines, one core for the server under test; nginx and ours take turns within one run, and each figure is the median of the rounds.
CPU is the servers' own, on-CPU time of all threads, so that a busy machine stretches the run and not the figures. Exit 1 when a floor is missed.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time

import proxy_rig as rig

MID, LONG = 32 * 1024, 400_000
LONG_CHATS, LONG_CONNECTIONS = 16, 4
UPLOADS = 15
RECORDS = 10_000  # requests the router remembers: below it grows with each


def shared(size, share, prefixes, form, connections, requests):
    return {"prompt_bytes": size, "common_bytes": int(size * share), "prefixes": prefixes, "form": form, "connections": connections, "requests": requests}


# name: (what it is, load, floor, aim); floors and aims are ratios to nginx.
CASES = {
    "small": ("200-byte chat prompts, all different", {"prompt_bytes": 200, "connections": 16, "requests": 6000}, 2.0, 1.3),
    "mid-user": ("32 KiB, 90 % common, in one user message", shared(MID, 0.9, 8, "user", 16, 1500), 2.5, 1.5),
    "mid-system": ("32 KiB, 90 % common, as system message", shared(MID, 0.9, 8, "system", 16, 1500), 2.5, 1.5),
    "long-user": ("400 kB, 99 % common, in one user message", shared(LONG, 0.99, 4, "user", LONG_CONNECTIONS, 400), 3.0, 2.0),
    "long-system": ("400 kB, 99 % common, as system message", shared(LONG, 0.99, 4, "system", LONG_CONNECTIONS, 400), 3.0, 2.0),
    "sse": ("32 streams of 200 events, 5 ms apart; per event", {"prompt_bytes": 200, "connections": 32, "requests": 32, "events": 200}, 1.15, 1.0),
}
LENGTHS = [200, 1000, 4000, 16_000, 64_000, 160_000, 400_000]
ENDPOINTS = [8, 64, 256, 1000]
TURN_FLOOR, TURN_AIM = 0.15, 0.05
STREAM_KIB_FLOOR, STREAM_KIB_AIM, IDLE_KIB_FLOOR, IDLE_KIB_AIM = 32, 8, 8, 2


def say(text):
    print(text, flush=True)


def verdict(value, floor, aim):
    return "aim met" if value <= aim else "floor met" if value <= floor else "FLOOR MISSED"


def warm(servers, case):
    """The common parts become resident, each on the engine that was chosen for it; connections and caches are as in the middle of the day."""
    gateway = servers[0]
    if case.get("common_bytes"):
        rig.load(gateway, **{**case, "requests": case["prefixes"], "connections": 1, "seed": 900_001}, store=True)
        gateway.engines.ask("/bench/flush")
        gateway.settle()
    few = {**case, "requests": max(case["connections"], min(400, case["requests"] // 4)), "seed": 900_002}
    for server in servers:
        rig.load(server, **few)


def expected_hit(gateway, count):
    """Of the newest requests' prompt tokens, the share that was foretold to be cached."""
    rows = gateway.get("/api/v1/requests").json()["requests"][:count]
    return sum(row["predicted_cached_tokens"] for row in rows) / max(1, sum(row["prompt_tokens"] for row in rows))


def messages(gateway):
    """Event messages received so far."""
    return sum(endpoint["events"]["received"] for endpoint in gateway.endpoints())


def per_unit(result):
    """CPU in microseconds per event of a stream, else per request."""
    return result["cpu_us"] * result["requests"] / result["events"] if result["events"] else result["cpu_us"]


def compare(servers, case, rounds, seed):
    """Medians of alternating rounds: {ours_us, nginx_us, ratio, ...}. `servers`: ours, nginx, and Envoy where it is asked for."""
    rows = []
    for number in range(rounds):
        # Who comes first changes from round to round.
        at = number % len(servers)
        both = {server.name: rig.load(server, **case, warm_up=max(case["connections"], case["requests"] // 10), seed=seed + number) for server in servers[at:] + servers[:at]}
        row = {}
        for name, result in both.items():
            who = "ours" if name == "gateway" else name
            row |= {f"{who}_us": per_unit(result), f"{who}_p50_ms": result["p50_ms"], f"{who}_p99_ms": result["p99_ms"]}
        row["ratio"] = row["ours_us"] / row["nginx_us"]
        rows.append(row)
        say(f"    round {number + 1}: " + "   ".join(f"{key.removesuffix('_us')} {value:8.1f} us (p50 {row[key.replace('_us', '_p50_ms')]:.2f} ms)"
                                                     for key, value in sorted(row.items(), key=lambda item: item[0] != "ours_us") if key.endswith("_us")))
    return {key: statistics.median(row[key] for row in rows) for key in sorted(rows[0])} | {"ratios": [round(row["ratio"], 3) for row in rows]}


def turns(gateway, rounds):
    """CPU of the second request of a chat of 100k tokens against its first, all of whose text is new."""
    rows = []
    for number in range(rounds):
        case = {"prompt_bytes": LONG, "connections": LONG_CONNECTIONS, "requests": LONG_CHATS, "seed": 700 + number}
        first = rig.load(gateway, phase="turn1", **case, store=True)
        gateway.engines.ask("/bench/flush")
        gateway.settle()
        second = rig.load(gateway, phase="turn2", **case)
        rows.append((first["cpu_us"], second["cpu_us"], expected_hit(gateway, LONG_CHATS)))
        say(f"    round {number + 1}: first turn {rows[-1][0]:8.1f} us   second {rows[-1][1]:8.1f} us   of its prompt foretold as cached {rows[-1][2]:.3f}")
    first, second, hit = (statistics.median(row[i] for row in rows) for i in range(3))
    return {"first_us": first, "second_us": second, "ratio": statistics.median(row[1] / row[0] for row in rows), "hit": hit}


def uploads(servers, rounds):
    """Prompts of 400 kB that arrive in pieces of 64 KiB, 20 ms apart: milliseconds from the last piece to the answer, and CPU. Of new text, of the same
    text once more, and nginx, which has nothing to do but to pass it on."""
    gateway, nginx = servers[:2]
    rows = []
    for number in range(rounds):
        case = {"phase": "upload", "prompt_bytes": LONG, "connections": 1, "requests": UPLOADS, "seed": 500 + number}
        rows.append([rig.load(server, **case) for server in (gateway, gateway, nginx)])
        say(f"    round {number + 1}: " + "   ".join(f"{what} {result['p50_ms']:.2f} ms ({result['cpu_us']:.0f} us CPU)"
                                                     for what, result in zip(("new text", "known text", "nginx"), rows[-1])))
    out = {}
    for at, what in enumerate(("new", "known", "nginx")):
        for figure in ("p50_ms", "cpu_us"):
            out[f"{what}_{figure}"] = statistics.median(row[at][figure] for row in rows)
    return out | {"ratio": statistics.median(row[0]["p50_ms"] / row[2]["p50_ms"] for row in rows)}


def grow(server, requests):
    """Until the server has what it keeps of its newest requests."""
    rig.load(server, prompt_bytes=200, connections=16, requests=requests, seed=800_001)


def come_to_rest(server):
    """Until the allocator has given back what growing took for a while, which it does as it is used."""
    sizes = []
    while len(sizes) < 20 and (len(sizes) < 4 or max(sizes[-4:]) - min(sizes[-4:]) > 1 << 20):
        rig.load(server, prompt_bytes=200, connections=16, requests=500, seed=800_002)
        time.sleep(2)
        sizes.append(sum(rig.resident(pid) for pid in server.pids))


def memory(directory, engines, options):
    """Growth of resident memory per idle connection that made one request, and per stream under way; each on a fresh server after as many requests as
    it remembers."""
    out = {}
    for kind, held in (("idle", options.idle_connections), ("stream", options.open_streams)):
        for make in (rig.Gateway, rig.Nginx):
            server = make(directory, engines, name=f"{kind}-{make.__name__.lower()}")
            try:
                grow(server, RECORDS + 500 if make is rig.Gateway else 500)
                come_to_rest(server)
                stream = {"events": 1_000_000, "interval_us": 500_000} if kind == "stream" else {}
                result = rig.load(server, phase="hold", connections=held, prompt_bytes=200, seed=3, **stream)
            finally:
                server.stop()
            out[f"{kind}_{'ours' if make is rig.Gateway else 'nginx'}_kib"] = result["kib_each"]
            say(f"    {kind:6} {make.__name__:8} {held} held: {result['before_mib']:.1f} -> {result['after_mib']:.1f} MiB, {result['kib_each']:.2f} KiB each")
    return out


def length_case(size):
    """A point of the sweep over prompt lengths: 90 % common, but for the smallest."""
    if size < 1000:
        return {"prompt_bytes": size, "connections": 16, "requests": 4000}
    return shared(size, 0.9, 4 if size > 100_000 else 8, "user", 4 if size > 100_000 else 16, max(150, min(4000, 40_000_000 // size)))


def sweep(directory, options):
    """Cost against prompt length and against the number of endpoints."""
    out = {"length": [], "endpoints": []}

    def fleet(count, body):
        running = []
        try:
            running.append(engines := rig.Engines(directory, count, name=f"engines-{count}", block_size=options.block_size))
            running.append(gateway := rig.Gateway(directory, engines, name=f"gateway-{count}", flags=options.flag))
            running.append(nginx := rig.Nginx(directory, engines, name=f"nginx-{count}"))
            gateway.name, nginx.name = "gateway", "nginx"
            grow(gateway, RECORDS + 500)
            body(gateway, nginx)
        finally:
            for process in reversed(running):
                process.stop()

    def point(gateway, nginx, case, seed):
        warm([gateway, nginx], case)
        result = compare([gateway, nginx], case, options.rounds, seed)
        return {key: result[key] for key in ("ours_us", "nginx_us", "ratio")}

    def lengths(gateway, nginx):
        for number, size in enumerate(LENGTHS):
            say(f"  {size:,} bytes")
            out["length"].append({"bytes": size, **point(gateway, nginx, length_case(size), 20_000 + 100 * number)})

    def small(gateway, nginx):
        count = len(gateway.engines.engines())
        out["endpoints"].append({"endpoints": count, **point(gateway, nginx, CASES["small"][1], 30_000 + count)})

    fleet(options.endpoints, lengths)
    for count in ENDPOINTS:
        say(f"  {count} endpoints, small requests")
        fleet(count, small)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [*CASES, "turns", "upload", "memory"]
    parser.add_argument("--case", action="append", choices=names, help="only this one, repeatable")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--endpoints", type=int, default=8)
    parser.add_argument("--block-size", type=int, default=64)
    parser.add_argument("--no-events", action="store_true", help="engines do not announce the new blocks of each request")
    parser.add_argument("--idle-connections", type=int, default=2000)
    parser.add_argument("--open-streams", type=int, default=800)
    parser.add_argument("--sweep", action="store_true", help="instead: cost against prompt length and against the number of endpoints")
    parser.add_argument("--envoy", action="store_true", help="the tests' Envoy as a plain proxy beside them")
    parser.add_argument("--flag", action="append", default=[], help="one more argument for warmpath serve, repeatable")
    parser.add_argument("--json", help="also write the figures here")
    options = parser.parse_args()
    chosen = options.case or names
    rig.raise_priority()
    started = time.monotonic()
    results, lines, missed = {}, [], False

    def row(name, text, ratio_text, value, floor, aim):
        nonlocal missed
        missed |= value > floor
        lines.append(f"{name:14} {text:46} {ratio_text:>8}   floor {floor:<5} aim {aim:<5} {verdict(value, floor, aim)}")

    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        running = []
        if options.sweep:
            swept = sweep(directory, options)
            for point in [*swept["length"], *swept["endpoints"]]:
                say("  " + "   ".join(f"{key} {value:,.2f}" if isinstance(value, float) else f"{key} {value:,}" for key, value in point.items()))
            if options.json:
                pathlib.Path(options.json).write_text(json.dumps({"bench": "gateway-sweep", "rounds": options.rounds, **swept}, indent=1))
            return 0
        try:
            running.append(engines := rig.Engines(directory, options.endpoints, block_size=options.block_size))
            running.append(gateway := rig.Gateway(directory, engines, flags=options.flag))
            running.append(nginx := rig.Nginx(directory, engines))
            if options.envoy:
                running.append(rig.Envoy(directory, engines))
            servers = running[1:]
            say(f"{nginx.version()}, {options.endpoints} endpoints, blocks of {options.block_size} tokens, server on core {rig.SERVER_CORE}, the rest on core {rig.OTHER_CORE}")
            grow(gateway, RECORDS + 500)
            for number, case_name in enumerate(CASES):
                if case_name not in chosen:
                    continue
                what, case, floor, aim = CASES[case_name]
                if not options.no_events:
                    case = {**case, "new_blocks": (case["prompt_bytes"] - case.get("common_bytes", 0)) // 4 // options.block_size}
                say(f"  {case_name}: {what}")
                warm(servers, case)
                before = messages(gateway)
                result = results[case_name] = compare(servers, case, options.rounds, 1000 * (number + 1))
                if case.get("common_bytes"):
                    result["hit"] = expected_hit(gateway, min(100, case["requests"]))
                    result["event_messages"] = messages(gateway) - before
                    say(f"    of the prompts' tokens foretold as cached: {result['hit']:.3f}; {result['event_messages']:,} messages of events meanwhile")
                    if result["hit"] < 0.8 * case["common_bytes"] / case["prompt_bytes"]:
                        raise SystemExit("the common parts were not found in the index: this was not precise scoring of warm prompts")
                envoy = f", Envoy {result['envoy_us']:.1f}" if options.envoy else ""
                row(case_name, f"ours {result['ours_us']:.1f} us, nginx {result['nginx_us']:.1f} us{envoy}", f"{result['ratio']:.2f}x", result["ratio"], floor, aim)
            if "turns" in chosen:
                say(f"  turns: {LONG_CHATS} chats of 400 kB, second request against first")
                result = results["turns"] = turns(gateway, options.rounds)
                row("second turn", f"first {result['first_us']:.0f} us, second {result['second_us']:.0f} us", f"{result['ratio']:.3f}x", result["ratio"], TURN_FLOOR, TURN_AIM)
            if "upload" in chosen:
                say("  upload: 400 kB that arrive in 64 KiB pieces, 20 ms apart; from the last piece to the answer")
                result = results["upload"] = uploads(servers, options.rounds)
                lines.append(f"{'slow upload':14} new text {result['new_p50_ms']:.2f} ms, known {result['known_p50_ms']:.2f} ms, nginx {result['nginx_p50_ms']:.2f} ms"
                             f" after the last byte   {result['ratio']:.2f}x")
            if "memory" in chosen:
                say("  memory: connections and streams that stay open")
                result = results["memory"] = memory(directory, engines, options)
                for kind, floor, aim in (("stream", STREAM_KIB_FLOOR, STREAM_KIB_AIM), ("idle", IDLE_KIB_FLOOR, IDLE_KIB_AIM)):
                    ours, theirs = result[f"{kind}_ours_kib"], result[f"{kind}_nginx_kib"]
                    what = "per open stream" if kind == "stream" else "per idle connection"
                    row("memory", f"{what}: ours {ours:.1f} KiB, nginx {theirs:.1f} KiB", "", ours, floor, aim)
        finally:
            for process in reversed(running):
                process.stop()

    say(f"\nmedians of {options.rounds} rounds, {time.monotonic() - started:.0f} s")
    for line in lines:
        say(line)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"bench": "gateway", "endpoints": options.endpoints, "rounds": options.rounds, "cases": results}, indent=1))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
