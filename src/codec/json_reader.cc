#include "codec/json_reader.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>

namespace warmpath::codec {

namespace od = simdjson::ondemand;

struct JsonReaderAccess {
  static JsonCursor Make(od::value& value, std::string_view body, const char* copy) {
    return JsonCursor(&value, body, copy);
  }
};

namespace {

tl::unexpected<Error> Malformed(simdjson::error_code error) {
  return Fail(Code::kInvalidArgument,
              fmt::format("not valid JSON: {}", simdjson::error_message(error)));
}

od::value& ValueAt(void* value) {
  return *static_cast<od::value*>(value);
}

// Parser and padded copy of the body, kept per thread because their pages are the cost of a small
// read.
struct Scratch {
  od::parser parser;
  std::unique_ptr<char[]> copy;
  size_t capacity = 0;
  bool in_use = false;

  static constexpr size_t kKeptBytes = size_t{4}
                                       << 20;  // larger buffers are given back after the read

  const char* Copy(std::string_view body) {
    const size_t needed = body.size() + simdjson::SIMDJSON_PADDING;
    if (capacity < needed) {
      capacity = needed + needed / 2;
      copy = std::make_unique_for_overwrite<char[]>(capacity);
    }
    std::memcpy(copy.get(), body.data(), body.size());
    std::memset(copy.get() + body.size(), 0, simdjson::SIMDJSON_PADDING);
    return copy.get();
  }
  void Shrink() {
    if (capacity <= kKeptBytes) return;
    copy.reset();
    capacity = 0;
    parser = od::parser();
  }
};

Status WalkFields(od::object object, const JsonCursor::FieldFn& fn, std::string_view body,
                  const char* copy) {
  for (auto item : object) {
    od::field field;
    if (const auto error = std::move(item).get(field)) return Malformed(error);
    std::string_view key;
    if (const auto error = field.unescaped_key().get(key)) return Malformed(error);
    od::value value = field.value();
    JsonCursor cursor = JsonReaderAccess::Make(value, body, copy);
    WP_RETURN_IF_ERROR(fn(key, cursor));
  }
  return {};
}

Status Read(Scratch& scratch, std::string_view body, const JsonCursor::FieldFn& fn) {
  const char* copy = scratch.Copy(body);
  od::document document;
  if (const auto error =
          scratch.parser.iterate(copy, body.size(), body.size() + simdjson::SIMDJSON_PADDING)
              .get(document)) {
    return Malformed(error);
  }
  od::object object;
  if (const auto error = document.get_object().get(object)) {
    if (error == simdjson::INCORRECT_TYPE)
      return Fail(Code::kInvalidArgument, "JSON is not an object");
    return Malformed(error);
  }
  WP_RETURN_IF_ERROR(WalkFields(object, fn, body, copy));
  if (document.current_location().error() != simdjson::OUT_OF_BOUNDS)
    return Fail(Code::kInvalidArgument, "not valid JSON: text after the object");
  return {};
}

}  // namespace

Status CheckJsonBounds(std::string_view body, const JsonReadLimits& limits) {
  if (body.size() > limits.max_bytes) {
    return Fail(Code::kOutOfBounds, fmt::format("JSON of {} bytes is over the limit of {}",
                                                body.size(), limits.max_bytes));
  }
  size_t depth = 0;
  size_t values = 1;
  const char* p = body.data();
  const char* const end = p + body.size();
  while (p < end) {
    switch (*p++) {
      case '[':
      case '{':
        if (++depth > limits.max_depth) {
          return Fail(Code::kOutOfBounds,
                      fmt::format("JSON nested deeper than {}", limits.max_depth));
        }
        ++values;
        break;
      case ']':
      case '}':
        if (depth > 0) --depth;
        break;
      case ',':
        ++values;
        break;
      case '"':
        // To the closing quote: one that an even number of backslashes precedes.
        for (const char* start = p;;) {
          const char* quote =
              static_cast<const char*>(std::memchr(p, '"', static_cast<size_t>(end - p)));
          if (quote == nullptr)
            return Fail(Code::kInvalidArgument, "not valid JSON: string without end");
          p = quote + 1;
          size_t backslashes = 0;
          while (quote - backslashes > start &&
                 quote[-1 - static_cast<ptrdiff_t>(backslashes)] == '\\')
            ++backslashes;
          if (backslashes % 2 == 0) break;
          start = p;  // what lies before an escaped quote is settled
        }
        break;
      default:
        break;
    }
  }
  if (depth != 0) return Fail(Code::kInvalidArgument, "not valid JSON: brackets are not balanced");
  if (values > limits.max_values) {
    return Fail(Code::kOutOfBounds, fmt::format("JSON of more than {} values", limits.max_values));
  }
  return {};
}

bool IsUtf8(std::string_view text) {
  return simdjson::validate_utf8(text.data(), text.size());
}

Status ReadJsonObject(std::string_view body, const JsonCursor::FieldFn& fn, JsonReadLimits limits) {
  WP_RETURN_IF_ERROR(CheckJsonBounds(body, limits));
  thread_local Scratch scratch;
  if (scratch.in_use) {  // called from a callback of an outer read
    Scratch inner;
    return Read(inner, body, fn);
  }
  scratch.in_use = true;
  Status status = Read(scratch, body, fn);
  scratch.Shrink();
  scratch.in_use = false;
  return status;
}

Result<JsonKind> JsonCursor::Kind() {
  od::json_type type;
  if (const auto error = ValueAt(value_).type().get(type)) return Malformed(error);
  switch (type) {
    case od::json_type::object:
      return JsonKind::kObject;
    case od::json_type::array:
      return JsonKind::kArray;
    case od::json_type::string:
      return JsonKind::kString;
    case od::json_type::number:
      return JsonKind::kNumber;
    case od::json_type::boolean:
      return JsonKind::kBool;
    case od::json_type::null:
      return JsonKind::kNull;
  }
  return Fail(Code::kInvalidArgument, "not valid JSON");
}

Result<std::string_view> JsonCursor::String() {
  std::string_view text;
  if (const auto error = ValueAt(value_).get_string().get(text)) {
    if (error == simdjson::INCORRECT_TYPE)
      return Fail(Code::kInvalidArgument, "JSON value is not a string");
    return Malformed(error);
  }
  return text;
}

std::optional<int64_t> JsonCursor::Int() {
  od::number number;
  if (ValueAt(value_).get_number().get(number)) return std::nullopt;
  if (number.is_int64()) return number.get_int64();
  if (!number.is_double()) return std::nullopt;
  const double d = number.get_double();
  if (d >= -0x1p63 && d < 0x1p63 && d == std::trunc(d)) return static_cast<int64_t>(d);
  return std::nullopt;
}

std::optional<double> JsonCursor::Double() {
  od::number number;
  if (ValueAt(value_).get_number().get(number)) return std::nullopt;
  return number.as_double();
}

std::optional<bool> JsonCursor::Bool() {
  bool flag = false;
  if (ValueAt(value_).get_bool().get(flag)) return std::nullopt;
  return flag;
}

Result<std::string_view> JsonCursor::Raw() {
  WP_TRY(const JsonKind kind, Kind());
  std::string_view raw;
  if (kind == JsonKind::kObject) {
    od::object object;
    if (const auto error = ValueAt(value_).get_object().get(object)) return Malformed(error);
    if (const auto error = object.raw_json().get(raw)) return Malformed(error);
  } else if (kind == JsonKind::kArray) {
    od::array array;
    if (const auto error = ValueAt(value_).get_array().get(array)) return Malformed(error);
    if (const auto error = array.raw_json().get(raw)) return Malformed(error);
  } else {
    raw = ValueAt(value_).raw_json_token();
  }
  std::string_view text = body_.substr(static_cast<size_t>(raw.data() - copy_), raw.size());
  while (!text.empty() && (text.back() == ' ' || text.back() == '\n' || text.back() == '\r' ||
                           text.back() == '\t')) {
    text.remove_suffix(1);
  }
  return text;
}

Status JsonCursor::ForEachField(const FieldFn& fn) {
  od::object object;
  if (const auto error = ValueAt(value_).get_object().get(object)) {
    if (error == simdjson::INCORRECT_TYPE)
      return Fail(Code::kInvalidArgument, "JSON value is not an object");
    return Malformed(error);
  }
  return WalkFields(object, fn, body_, copy_);
}

Status JsonCursor::ForEachElement(const ElementFn& fn) {
  od::array array;
  if (const auto error = ValueAt(value_).get_array().get(array)) {
    if (error == simdjson::INCORRECT_TYPE)
      return Fail(Code::kInvalidArgument, "JSON value is not an array");
    return Malformed(error);
  }
  size_t index = 0;
  for (auto element : array) {
    od::value value;
    if (const auto error = std::move(element).get(value)) return Malformed(error);
    JsonCursor cursor = JsonReaderAccess::Make(value, body_, copy_);
    WP_RETURN_IF_ERROR(fn(index++, cursor));
  }
  return {};
}

}  // namespace warmpath::codec
