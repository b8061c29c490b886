"""From the bytes of KV-event batches to the index: CPU per block on one core, new and known chains, beside msgspec decoding the same bytes.

The peer is what subscribers written in Python decode with (a typed msgspec decoder); it decodes only: no hashing, no index. Rounds interleave both.
Exit 1 when the floor is missed.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BLOCKS = 512  # of a message
FLOOR, AIM = 5e6, 10e6  # blocks of 16 tokens per second, new chains
ROWS = [(16, "text"), (16, "vocabulary"), (64, "text"), (64, "vocabulary")]


def peer():
    """A decoder, or None where msgspec is missing."""
    try:
        import msgspec
    except ImportError:
        return None

    class Event(msgspec.Struct, omit_defaults=True, gc=False, tag=True):
        pass

    class BlockStored(Event):
        block_hashes: list[int | bytes]
        parent_block_hash: int | bytes | None
        token_ids: list[int]
        block_size: int
        lora_id: int | None
        medium: str | None
        lora_name: str | None
        extra_keys: list[tuple | None] | None = None
        group_idx: int | None = None
        kv_cache_spec_kind: str | None = None
        kv_cache_spec_sliding_window: int | None = None

    class BlockRemoved(Event):
        block_hashes: list[int | bytes]
        medium: str | None = None
        group_idx: int | None = None

    class AllBlocksCleared(Event):
        pass

    class Batch(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
        ts: float
        events: list[BlockStored | BlockRemoved | AllBlocksCleared]
        data_parallel_rank: int | None = None

    return msgspec.msgpack.Decoder(type=Batch)


def decode_all(decoder, file):
    """ns of CPU per block."""
    data, at, payloads = file.read_bytes(), 0, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        payloads.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    begin = time.process_time_ns()
    blocks = 0
    for payload in payloads:
        blocks += len(decoder.decode(payload).events[0].block_hashes)
    took = time.process_time_ns() - begin
    assert blocks == len(payloads) * BLOCKS
    return took / blocks


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--blocks", type=int, default=512 * 1024, help="stored by each endpoint")
    parser.add_argument("--bench", type=pathlib.Path, default=ROOT / "build/bin/events_bench")
    parser.add_argument("--json", type=pathlib.Path, help="write the medians there")
    options = parser.parse_args()
    decoder = peer()
    seen = {row: {} for row in ROWS}
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory) / "payloads"
        for _ in range(options.rounds):
            for row in ROWS:
                size, ids = row
                messages = max(1, options.blocks // BLOCKS * 16 // size)
                output = subprocess.run([options.bench, str(size), str(messages), ids, file], check=True, capture_output=True, text=True).stdout
                times = json.loads(output)
                if decoder:
                    times["msgspec"] = decode_all(decoder, file)
                for name, value in times.items():
                    seen[row].setdefault(name, []).append(value)
    medians = {row: {name: statistics.median(values) for name, values in times.items()} for row, times in seen.items()}
    print("ns of CPU per block, medians of", options.rounds, "interleaved rounds")
    print(f"{'tokens':>7} {'ids':<11} {'new':>7} {'known':>7} | {'decode':>7} {'keys':>7} | {'msgspec':>8}   million blocks/s: new, known; times msgspec's")
    for (size, ids), m in medians.items():
        other = m.get("msgspec")
        tail = f"{other / m['new']:.1f}" if other else "-"
        print(
            f"{size:>7} {ids:<11} {m['new']:7.1f} {m['known']:7.1f} | {m['decode']:7.1f} {m['keys']:7.1f} | {other or 0:8.1f}   "
            f"{1e3 / m['new']:6.2f} {1e3 / m['known']:6.2f} {tail:>6}"
        )
    if options.json:
        options.json.write_text(json.dumps({f"{size}-{ids}": m for (size, ids), m in medians.items()}, indent=1) + "\n")
    worst = max(medians[16, ids]["new"] for ids in ("text", "vocabulary"))
    rate = 1e9 / worst
    print(f"new chains of 16-token blocks: {rate / 1e6:.2f} M blocks/s; floor {FLOOR / 1e6:.0f} {'met' if rate >= FLOOR else 'MISSED'}, aim {AIM / 1e6:.0f} {'met' if rate >= AIM else 'not met'}")
    return 0 if rate >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
