#!/usr/bin/env python3
"""Checks what the compiler does not: which module may include what, and the size of files.

lint_layers.py [--root DIR]    checks the tree; exit 1 and one line per finding
lint_layers.py --self-test     plants each kind of mistake in a copy of nothing but itself and expects it to be found
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

# The module table: a module may include modules of lower layers; SAME_LAYER names what else is allowed.
LAYERS = {
    "base": 0,
    "codec": 1, "net": 1,
    "kv": 2, "k8s": 2,
    "index": 3, "prompt": 3, "fleet": 3,
    "events": 4, "scheduling": 4,
    "flow": 5,
    "routing": 6,
    "config": 7, "sim": 7, "admin": 7, "gateway": 7, "extproc": 7, "sidecar": 7,
    "load": 8,
    "app": 9,
}
SAME_LAYER = set()  # (from, to)

# Third-party headers by prefix (the longest wins) and the modules that own them; None: everyone.
OWNERS = {
    "boost/": None,
    "boost/asio": {"net"}, "boost/beast": {"net"}, "boost/json": {"codec"},
    "openssl/": {"net"},
    "openssl/crypto.h": {"base", "net"}, "openssl/evp.h": {"base", "net"}, "openssl/sha.h": {"base"},
    "nghttp2/": {"net"}, "hiredis/": {"net"},
    "simdjson": {"codec"}, "yaml-cpp/": {"codec"},
    "zmq": {"events", "sim"},
    "warmpath_rust.h": {"prompt"},
    "xxhash": {"base"}, "spdlog/": {"base"}, "prometheus/": {"base"},
    "google/protobuf/": {"extproc"}, "ext_proc.pb.h": {"extproc"}, "health.pb.h": {"extproc"},
    "CLI/": {"app"},
    "fmt/": None, "tl/expected.hpp": None,
}
GENERATED = {"app/version.h"}
TEST_OWNERS = {"gtest/", "gmock/"}
SYSTEM = re.compile(r"^(sys|netinet|arpa|linux)/|^(dlfcn|errno|fcntl|ifaddrs|[a-z]*mmintrin|netdb|poll|pthread|sched|signal|spawn|time|unistd|getopt|termios|execinfo)\.h$")
STANDARD = re.compile(r"^[a-z0-9_]+$")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')

SOFT_LINES, HARD_LINES = 500, 800
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")


def is_test(path):
    return path.stem.endswith("_bench") or {"test", "testing"} & set(path.stem.split("_"))


def owner_error(module, header, test):
    if STANDARD.match(header) or SYSTEM.match(header):
        return None
    if any(header.startswith(p) for p in TEST_OWNERS) or header.startswith("benchmark/"):
        return None if test else f"<{header}> belongs in tests"
    prefixes = [p for p in OWNERS if header.startswith(p)]
    if not prefixes:
        return f"<{header}> has no owner; name one in the table of scripts/lint_layers.py (a new dependency needs an ADR)"
    owners = OWNERS[max(prefixes, key=len)]
    if owners is None or module in owners:
        return None
    return f"<{header}> may be included only in {', '.join(sorted(owners))}; use that module's interface"


def layer_error(module, target, test):
    if target not in LAYERS:
        return f"'{target}' is no module of the table in scripts/lint_layers.py"
    if target == module or LAYERS[target] < LAYERS[module] or (module, target) in SAME_LAYER:
        return None
    # A test may set its subject against neighbours (a client against a server), never against the layers above the simulator.
    if test and LAYERS[target] <= max(LAYERS[module], LAYERS["sim"]):
        return None
    return f"{module} (layer {LAYERS[module]}) may not include {target} (layer {LAYERS[target]})"


def check_source(root, path):
    rel = path.relative_to(root)
    module = rel.parts[1] if len(rel.parts) > 2 else ""
    if module not in LAYERS:
        yield rel, 1, f"'{module}' is no module of the table in scripts/lint_layers.py"
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    test = is_test(path)
    if path.suffix == ".h" and not any(line.strip() == "#pragma once" for line in lines[:40]):
        yield rel, 1, "a header says #pragma once near its top"
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, header = match.groups()
        if quote == '"' and (root / "src" / header).is_file():
            error = layer_error(module, header.split("/")[0], test)
        elif header in GENERATED:
            error = layer_error(module, header.split("/")[0], test)
        elif quote == '"' and "/" in header and header.split("/")[0] in LAYERS:
            error = f'"{header}" does not exist under src/'
        elif quote == '"' and (path.parent / header).is_file():
            error = f'write "{module}/…/{header}": includes are relative to src/'
        else:
            error = owner_error(module, header, test)
        if error:
            yield rel, number, error


def listed(root):
    """Tracked and new files, without ignored ones; in a directory that is no repository, all files."""
    done = subprocess.run(["git", "-C", str(root), "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True)
    if done.returncode == 0:
        return [root / line for line in done.stdout.splitlines() if (root / line).is_file()]
    return [p for p in root.rglob("*") if p.is_file()]


def check_tree(root):
    findings, long_files = [], []
    for path in sorted(listed(root)):
        rel = path.relative_to(root)
        script = path.suffix in {".py", ".sh", ".rs"} or path.name == "dev"
        source = path.suffix in {".h", ".cc"}
        if not script and not source:
            continue
        text = path.read_text(encoding="utf-8")
        length = text.count("\n")
        if length > HARD_LINES:
            findings.append((rel, HARD_LINES, f"{length} lines; {HARD_LINES} is the limit, split the file"))
        elif length > SOFT_LINES:
            long_files.append(f"{rel} ({length})")
        if rel.name != "lint_layers.py":
            for number, line in enumerate(text.splitlines(), 1):
                if UNFINISHED.search(line):
                    findings.append((rel, number, "unfinished mark: finish it or write an issue"))
        if source and rel.parts[0] == "src":
            findings.extend(check_source(root, path))
    return findings, long_files


def self_test():
    good = '#pragma once\n#include <vector>\n#include "base/result.h"\n'
    cases = [  # file, content, what the finding must say (None: no finding)
        ("src/net/a.h", good, None),
        ("src/net/a_test.cc", '#include <gtest/gtest.h>\n#include "codec/a.h"\n', None),
        ("src/events/zmq.cc", "#include <zmq.hpp>\n#include <sys/socket.h>\n", None),
        ("src/kv/up.cc", '#include "routing/director.h"\n', "kv (layer 2) may not include routing"),
        ("src/codec/side.cc", '#include "net/a.h"\n', "codec (layer 1) may not include net"),
        ("src/base/top_test.cc", '#include "app/a.h"\n', "base (layer 0) may not include app"),
        ("src/gateway/leak.cc", "#include <boost/asio/io_context.hpp>\n", "may be included only in net"),
        ("src/routing/leak.cc", "  #  include <simdjson.h>\n", "may be included only in codec"),
        ("src/net/unknown.cc", "#include <newlib/x.h>\n", "has no owner"),
        ("src/net/gtest.cc", "#include <gtest/gtest.h>\n", "belongs in tests"),
        ("src/net/gone.cc", '#include "base/gone.h"\n', "does not exist"),
        ("src/net/short.cc", '#include "a.h"\n', "relative to src/"),
        ("src/net/noguard.h", "#include <vector>\n", "#pragma once"),
        ("src/nowhere/a.cc", "", "no module of the table"),
        ("src/net/long.cc", "int x;\n" * (HARD_LINES + 1), "is the limit"),
        ("src/net/marked.cc", "// TO" + "DO later\n", "unfinished mark"),
    ]
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        for target in ("src/base/result.h", "src/codec/a.h", "src/routing/director.h", "src/app/a.h"):
            (root / target).parent.mkdir(parents=True, exist_ok=True)
            (root / target).write_text("#pragma once\n")
        for file, content, _ in cases:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(content)
        found, _ = check_tree(root)
    wrong = []
    for file, _, expected in cases:
        messages = [message for path, _, message in found if str(path) == file]
        if (expected is None and messages) or (expected is not None and not any(expected in m for m in messages)):
            wrong.append(f"{file}: expected {expected!r}, found {messages}")
    for line in wrong:
        print(f"lint self-test: {line}", file=sys.stderr)
    if not wrong:
        print(f"lint self-test: {len(cases)} cases passed")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--self-test", action="store_true")
    args = parser.parse_args()
    if args.self_test:
        return self_test()
    findings, long_files = check_tree(args.root.resolve())
    for path, line, message in findings:
        print(f"{path}:{line}: {message}")
    if long_files:
        print(f"note: over {SOFT_LINES} lines: {', '.join(long_files)}")
    print(f"layers: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
