// Values that the flags and the file describing endpoints have in common. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/address.h"

namespace warmpath::fleet {

inline constexpr int64_t kMaxDataParallel = 1024;
inline constexpr size_t kMaxNameBytes = 253;

// Names and labels go into headers, metric labels and tables: printable ASCII without blanks,
// quotes and backslashes, 1 to kMaxNameBytes.
bool IsPrintableWord(std::string_view text);

// tcp://HOST:PORT with room for one port per rank.
Result<net::HostPort> ParseZmqAddress(std::string_view text, uint16_t ranks);

// The usual spelling of an IPv4 or IPv6 address (without brackets); nullopt for anything else.
std::optional<std::string> CanonicalIp(const std::string& host);

}  // namespace warmpath::fleet
