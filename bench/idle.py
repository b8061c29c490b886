"""What the gateway costs while nothing happens: cores and memory with a hundred endpoints that publish events and have a full page of metrics.

Memory is counted beside the tokenizer's own: resident memory less what the tokenizer adds to the same program with one endpoint. All are measured after
requests: the first ones free a part of what loading took. Exit 1 when a floor is missed.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import time

import proxy_rig as rig

CORES_FLOOR, CORES_AIM = 0.02, 0.005
MIB_FLOOR = 40
MIB = 1 << 20


def say(text):
    print(text, flush=True)


def rest(gateway, engines, seconds):
    """Cores used and scrapes made per second while nothing is sent."""
    before, scrapes, begin = rig.cpu_ns(gateway.popen.pid), engines.ask("/bench/stats")["scrapes"], time.monotonic()
    time.sleep(seconds)
    cpu, took = rig.cpu_ns(gateway.popen.pid) - before, time.monotonic() - begin
    return cpu / 1e9 / took, (engines.ask("/bench/stats")["scrapes"] - scrapes) / took


def settled_memory(gateway):
    """Resident bytes once they have stood still for a second."""
    seen = []
    while len(seen) < 5 or max(seen[-5:]) - min(seen[-5:]) > 65536:
        time.sleep(0.25)
        seen.append(rig.resident(gateway.popen.pid))
    return seen[-1]


def tokenizers_own(directory, engines):
    """What the tokenizer adds to the program with one endpoint, once it has been used."""
    values = []
    for tokenizer in (True, False):
        gateway = rig.Gateway(directory, engines, name=f"one-{tokenizer}", endpoints=1, tokenizer=tokenizer, pin=False)
        try:
            rig.load(gateway, prompt_bytes=200, connections=16, requests=32, seed=1)
            values.append(settled_memory(gateway))
        finally:
            gateway.stop()
    say(f"  one endpoint: {values[0] / MIB:.1f} MiB with the tokenizer, {values[1] / MIB:.1f} MiB without")
    return values[0] - values[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--endpoints", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--requests", type=int, default=1000, help="before the rest")
    parser.add_argument("--flag", action="append", default=[], help="one more argument for warmpath serve, repeatable")
    parser.add_argument("--json", help="also write the figures here")
    options = parser.parse_args()
    rig.raise_priority()

    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        engines = rig.Engines(directory, options.endpoints, tokenizer=False)
        gateway = None
        try:
            page = rig.metrics_page(directory).stat().st_size
            say(f"{options.endpoints} endpoints with events and {page:,} bytes of metrics each")
            own = tokenizers_own(directory, engines)
            gateway = rig.Gateway(directory, engines, name="idle", flags=options.flag, pin=False)
            start = settled_memory(gateway)
            rig.load(gateway, prompt_bytes=200, connections=16, requests=options.requests, seed=1)
            say(f"  {options.endpoints} endpoints: {start / MIB:.1f} MiB; {options.requests} requests sent, now 10 s to come to rest")
            time.sleep(10)
            say(f"  nothing for {options.seconds:.0f} s")
            cores, scrapes = rest(gateway, engines, options.seconds)
            whole = rig.resident(gateway.popen.pid)
        finally:
            if gateway is not None:
                gateway.stop()
            engines.stop()

    memory = (whole - own) / MIB
    missed = cores > CORES_FLOOR or memory > MIB_FLOOR
    verdict = "aim met" if cores <= CORES_AIM else "floor met" if cores <= CORES_FLOOR else "FLOOR MISSED"
    say(f"\ncores    {cores:8.4f}       floor {CORES_FLOOR}   aim {CORES_AIM}   {verdict}   ({scrapes:.1f} scrapes/s)")
    say(f"memory   {memory:8.1f} MiB   floor {MIB_FLOOR}                 {'floor met' if memory <= MIB_FLOOR else 'FLOOR MISSED'}   "
        f"({whole / MIB:.1f} MiB in all, {own / MIB:.1f} of them the tokenizer's own)")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"bench": "idle", "endpoints": options.endpoints, "cores": cores, "scrapes_per_second": scrapes,
                                                          "memory_mib": memory, "resident_mib": whole / MIB, "tokenizer_mib": own / MIB, "idle_at_start_mib": start / MIB}, indent=1))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
