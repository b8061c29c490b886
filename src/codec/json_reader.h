// Reading a few fields of a big JSON body without building a tree: one forward pass, values handed
// to callbacks.
//
// A body is checked first for size, depth and count of values, so nothing below it can recurse or
// allocate without bound. A key given twice is reported twice, in order: assigning in the callback
// makes the last one win (reset what a nested callback filled before). Values the callback leaves
// alone are skipped unread; they are balanced and valid UTF-8 but otherwise unchecked. Thread-safe
// (each thread keeps its own buffers); JsonCursor and the views it gives live only inside
// ReadJsonObject.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "base/result.h"

namespace warmpath::codec {

struct JsonReadLimits {
  size_t max_depth = 64;
  size_t max_bytes = size_t{64} << 20;
  size_t max_values = 8'000'000;  // members and elements, all levels together
};

enum class JsonKind { kObject, kArray, kString, kNumber, kBool, kNull };

// One value. Read it at most once, by one of the functions below.
class JsonCursor {
 public:
  using FieldFn = std::function<Status(std::string_view key, JsonCursor& value)>;
  using ElementFn = std::function<Status(size_t index, JsonCursor& value)>;

  Result<JsonKind> Kind();
  // Unescaped; fails on lone surrogates.
  Result<std::string_view> String();
  // A whole number in range (1.0 counts); nullopt for anything else.
  std::optional<int64_t> Int();
  std::optional<double> Double();
  std::optional<bool> Bool();
  // The value's text as it stands in the body (a view into the body given to ReadJsonObject).
  Result<std::string_view> Raw();
  // kInvalidArgument when the value is no object / no array. An error of the callback ends the walk
  // and is returned.
  Status ForEachField(const FieldFn& fn);
  Status ForEachElement(const ElementFn& fn);

 private:
  friend struct JsonReaderAccess;
  JsonCursor(void* value, std::string_view body, const char* copy)
      : value_(value), body_(body), copy_(copy) {}
  void* value_;
  std::string_view body_;
  const char* copy_;  // where the padded copy of the body begins
};

// Walks the members of the one object that `body` is. Errors: kInvalidArgument (not JSON, no
// object), kOutOfBounds (limits), or the callback's.
Status ReadJsonObject(std::string_view body, const JsonCursor::FieldFn& fn,
                      JsonReadLimits limits = {});

// The check that runs first: size, nesting and number of values. Strings are passed over, nothing
// is validated.
Status CheckJsonBounds(std::string_view body, const JsonReadLimits& limits);

// Whether `text` is well-formed UTF-8, as the reader demands of a body.
bool IsUtf8(std::string_view text);

}  // namespace warmpath::codec
