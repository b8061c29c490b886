#!/bin/sh
# What the rig's engine image has for `vllm serve MODEL FLAGS`: the simulator, which takes the same flags.
[ "${1:-}" = serve ] || { echo "vllm: only 'vllm serve' is here" >&2; exit 2; }
shift
exec /usr/local/bin/warmpath sim "$@" --tokenizer /tokenizers/qwen3
