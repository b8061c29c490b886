// Percent-encoding of parts of a request's target. Pure functions, thread-safe.
#pragma once

#include <string>
#include <string_view>

namespace warmpath::net {

// One path segment, or one key or value of a query: every byte but RFC 3986's unreserved ones is
// written %XX, '/' too.
std::string PercentEncode(std::string_view text);

}  // namespace warmpath::net
