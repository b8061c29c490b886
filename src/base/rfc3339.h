// Times as text, "2026-01-31T08:00:00Z" and the like (RFC 3339). Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace warmpath {

// Seconds since 1970; fractions of a second are left out. nullopt for anything else.
std::optional<int64_t> ParseRfc3339(std::string_view text);

}  // namespace warmpath
