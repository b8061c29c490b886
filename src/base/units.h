// Human quantities in flags, configuration and bench output.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace warmpath {

// Go's duration syntax: "5ms", "1.5s", "100us", "1h2m3s", "0". A bare number other than 0 is
// refused.
Result<Duration> ParseDuration(std::string_view text);
// "64MiB", "1GiB", "500kB", "1G", "1048576". k/M/G are powers of 1000, Ki/Mi/Gi of 1024.
Result<uint64_t> ParseSize(std::string_view text);
Result<int64_t> ParseInt(std::string_view text);
Result<double> ParseDouble(std::string_view text);

std::string FormatDuration(Duration duration);  // "12.3 ms"
std::string FormatSize(uint64_t bytes);         // "1.5 GiB"

std::vector<std::string_view> Split(std::string_view text, char separator);
std::string_view Trim(std::string_view text);
std::string ToLower(std::string_view text);
bool EqualsIgnoreCase(std::string_view a, std::string_view b);

}  // namespace warmpath
