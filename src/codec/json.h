// JSON: a bounded parse into a mutable, order-preserving tree, and text out of it. For the request
// hot path see json_reader.h.
//
// Thin over Boost.JSON: the aliases below are the only names other modules use. No exception leaves
// these functions.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace warmpath::codec {

using Json = boost::json::value;
using JsonObject = boost::json::object;  // keeps insertion order
using JsonArray = boost::json::array;

struct JsonLimits {
  size_t max_depth = 64;
  size_t max_bytes = size_t{64} << 20;
};

// Strict JSON (RFC 8259), valid UTF-8, one value. A key given twice keeps its first place and its
// last value. Integers beyond 64 bits become doubles. Errors give the byte offset.
Result<Json> ParseJson(std::string_view text, JsonLimits limits = {});
// Compact text: {"a":1}. Non-finite doubles become null.
std::string DumpJson(const Json& value);
std::string DumpJson(const JsonObject& value);

// Member of an object, or nullptr when `value` is no object or lacks it.
const Json* Find(const Json& value, std::string_view key);
// Typed members; nullopt when absent or of another type. Numbers convert where exact (1.0 is a
// whole number).
std::optional<std::string_view> FindString(const Json& value, std::string_view key);
std::optional<int64_t> FindInt(const Json& value, std::string_view key);
std::optional<double> FindDouble(const Json& value, std::string_view key);
std::optional<bool> FindBool(const Json& value, std::string_view key);

}  // namespace warmpath::codec
