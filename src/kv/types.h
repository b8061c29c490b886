// The vocabulary of KV blocks. Plain data, no I/O.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace warmpath::kv {

using TokenId = uint32_t;

// Our own name of a block: chained over everything before it, so equal keys mean equal prefixes
// (keys.h). Process-local.
using BlockKey = uint64_t;

// An engine's name of a block: an opaque alias, comparable only within one publisher. 32-byte
// hashes are cut to their last 8 bytes, big-endian, as vLLM itself does for integer events.
using EngineHash = uint64_t;

}  // namespace warmpath::kv
