// What a message's head says of its length. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>

#include "base/units.h"
#include "net/http.h"

namespace warmpath::net {

// Nullopt where Content-Length is absent or no length.
inline std::optional<uint64_t> ContentLength(const Headers& headers) {
  const auto length = ParseInt(headers.Get("Content-Length").value_or(""));
  if (!length || *length < 0) return std::nullopt;
  return static_cast<uint64_t>(*length);
}

}  // namespace warmpath::net
