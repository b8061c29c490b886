"""The linter finds what it is for."""

import subprocess
import sys

from harness import ROOT


def lint(*args):
    return subprocess.run([sys.executable, ROOT / "scripts/lint_layers.py", *args], capture_output=True, text=True)


def test_layer_linter_finds_planted_mistakes():
    done = lint("--self-test")
    assert done.returncode == 0, done.stderr


def test_tree_has_no_layer_findings():
    done = lint()
    assert done.returncode == 0, done.stdout
