// Small files (certificates, tokens, lists) as text. Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <string>

#include "base/result.h"

namespace warmpath::net {

// The whole content of a regular file of at most `max_bytes`; errors name the file. Never waits,
// as opening a pipe would.
Result<std::string> ReadSmallFile(const std::string& path, size_t max_bytes);

}  // namespace warmpath::net
