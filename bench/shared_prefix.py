"""Precise routing against round robin on shared prefixes: two equal fleets of simulated engines, one run, median of several seeds.

Each run starts two fleets, puts a gateway before one, and lets one load generator send every request to both at the same moment: to the
gateway, and to the other fleet's engines in turn. Prints a line per run, the medians, and whether they meet the targets (exit 1 if not).
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = "Qwen/Qwen3-0.6B"
BLOCK = 16
ENGINES = 4

# Row: tokens of cache per engine; targets for the medians.
ROWS = {
    "12k": {"tokens": 12_000, "hit": 0.65, "ttft": 2.0},
    "24k": {"tokens": 24_000, "hit": 0.88, "ttft": 3.0},
}
MAX_IMBALANCE = 1.5
MIN_EXACT = 0.95


class Process:
    """A warmpath command that writes a ready file; ended with SIGTERM."""

    def __init__(self, args, directory, name, log):
        self.ready = Path(directory) / f"{name}.json"
        self.process = subprocess.Popen([*args, "--ready-file", str(self.ready)], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self.ready.exists():
            if self.process.poll() is not None:
                raise SystemExit(f"{name} ended with {self.process.returncode}; see {log.name}")
            if time.monotonic() > deadline:
                self.close()
                raise SystemExit(f"{name} was not ready in 30 s; see {log.name}")
            time.sleep(0.02)
        self.listeners = json.loads(self.ready.read_text())

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_healthy(metrics_url, engines):
    import urllib.request

    deadline = time.monotonic() + 30
    state = None
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{metrics_url}/api/v1/endpoints", timeout=2) as answer:
                state = json.load(answer)["endpoints"]
            if len(state) == engines and all(e["events"]["connected"] and e["state"] == "healthy" for e in state):
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"the gateway does not see {engines} healthy engines with events: {state}")


def fleet_args(options, row):
    speed = options.speed
    events = {"enable_kv_cache_events": True, "publisher": "zmq", "endpoint": "tcp://127.0.0.1:0",
              "replay_endpoint": "tcp://127.0.0.1:0"}
    return [options.binary, "sim", MODEL, "--tokenizer", options.tokenizer, "--host", "127.0.0.1", "--port", "0", "--count", str(ENGINES),
            "--block-size", str(BLOCK), "--num-gpu-blocks-override", str(ROWS[row]["tokens"] // BLOCK + 1),
            "--enable-prompt-tokens-details", "--kv-events-config", json.dumps(events),
            "--sim-prefill-overhead", f"{20_000 / speed:.0f}us", "--sim-prefill-per-token", f"{100_000 / speed:.0f}ns",
            "--sim-inter-token-latency", f"{1000 * options.itl_ms / speed:.0f}us"]


def engines_of(fleet):
    names = ["" if i == 0 else f"_{i}" for i in range(ENGINES)]
    return [{kind: fleet.listeners[kind + n] for kind in ("engine", "events", "replay")} for n in names]


def run(options, row, seed, directory, log):
    with ExitStack() as stack:
        def start(args, name):
            process = Process(args, directory, name, log)
            stack.callback(process.close)
            return process

        tag = f"{row}-{seed}"
        sim = fleet_args(options, row)
        precise = start(sim, f"precise-{tag}")
        turns = start(sim, f"turns-{tag}")
        serve = [options.binary, "serve", "--listen", "127.0.0.1:0", "--metrics-port", "0", "--model", MODEL,
                 "--tokenizer", options.tokenizer, "--expose-decision", *options.serve_arg]
        for e in engines_of(precise):
            serve += ["--endpoint", f"{e['engine']},events={e['events']},replay={e['replay']}"]
        gateway = start(serve, f"gateway-{tag}")
        wait_healthy(gateway.listeners["metrics"], ENGINES)

        report = Path(directory) / f"report-{tag}.json"
        bench = [options.binary, "bench", "--target", gateway.listeners["gateway"], "--workload", "shared-prefix",
                 "--model", MODEL, "--seed", str(seed), "--rate", str(options.rate * options.speed),
                 "--requests", str(options.requests), "--json", str(report)]
        for e in engines_of(turns):
            bench += ["--round-robin", e["engine"]]
        begin = time.monotonic()
        subprocess.run(bench, check=True, stdout=log, stderr=log)
        wall = time.monotonic() - begin
        result = json.loads(report.read_text())
        ours, rr = result["sides"]
        return {
            "row": row, "seed": seed, "errors": ours["errors"] + rr["errors"],
            "hit": ours["hit_rate"], "hit_rr": rr["hit_rate"],
            "ttft": ours["ttft_ms"]["mean"], "ttft_rr": rr["ttft_ms"]["mean"],
            "ratio": rr["ttft_ms"]["mean"] / ours["ttft_ms"]["mean"],
            "imbalance": ours["imbalance"] if len(ours["endpoint_requests"]) == ENGINES else float("inf"),
            "exact": ours["prediction_exact"] or 0.0,
            "gateway_cpu": gateway.cpu_seconds() / wall,
            "fleet_cpu": (precise.cpu_seconds() + turns.cpu_seconds()) / wall,
        }


def show(r, label):
    print(f"{r['row']:>4} {label:>7}  hit {r['hit']:.3f} (round robin {r['hit_rr']:.3f})  TTFT mean {r['ttft']:7.1f} ms "
          f"({r['ttft_rr']:7.1f}, {r['ratio']:.2f}x lower)  imbalance {r['imbalance']:.2f}  exact {r['exact'] * 100:5.1f} %  "
          f"errors {r['errors']}  CPU gateway {r['gateway_cpu'] * 100:.0f} % engines {r['fleet_cpu'] * 100:.0f} %", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=str(ROOT / "build/bin/warmpath"))
    parser.add_argument("--tokenizer", default=str(ROOT / ".deps/tokenizers/qwen3"))
    parser.add_argument("--rows", default="12k,24k")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--requests", type=int, default=900)
    parser.add_argument("--rate", type=float, default=10.0, help="requests per second at speed 1")
    parser.add_argument("--itl-ms", type=float, default=1.0, help="engines' time per decoding step at speed 1")
    parser.add_argument("--speed", type=float, default=1.0, help="engines and arrivals this many times faster")
    parser.add_argument("--serve-arg", action="append", default=[], help="one more argument for warmpath serve; repeatable")
    parser.add_argument("--keep", help="directory for logs and reports")
    options = parser.parse_args()

    good = True
    with ExitStack() as stack:
        directory = options.keep or stack.enter_context(tempfile.TemporaryDirectory(prefix="warmpath-bench-"))
        os.makedirs(directory, exist_ok=True)
        log = stack.enter_context(open(Path(directory) / "log.txt", "a"))
        for row in options.rows.split(","):
            runs = []
            for seed in map(int, options.seeds.split(",")):
                runs.append(run(options, row, seed, directory, log))
                show(runs[-1], f"seed {seed}")
            median = {k: statistics.median(r[k] for r in runs) for k in runs[0] if k not in ("row", "seed")}
            show({"row": row, **median, "errors": sum(r["errors"] for r in runs)}, "median")
            checks = {
                f"hit rate >= {ROWS[row]['hit']}": median["hit"] >= ROWS[row]["hit"],
                f"TTFT mean >= {ROWS[row]['ttft']}x lower": median["ratio"] >= ROWS[row]["ttft"],
                f"imbalance <= {MAX_IMBALANCE}": median["imbalance"] <= MAX_IMBALANCE,
                f"prediction exact >= {MIN_EXACT:.0%}": median["exact"] >= MIN_EXACT,
                "no errors": sum(r["errors"] for r in runs) == 0,
            }
            for name, passed in checks.items():
                print(f"{row:>4}   {'met   ' if passed else 'MISSED'}  {name}")
            good = good and all(checks.values())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
