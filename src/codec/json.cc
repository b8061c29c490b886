#include "codec/json.h"

#include <fmt/format.h>

#include <boost/json/basic_parser_impl.hpp>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace warmpath::codec {

namespace {

namespace json = boost::json;

// Builds the tree from parser events. Boost's own handler reads decimals a unit in the last place
// off; this one reads their text with from_chars, and makes the duplicate-key rule ours.
class TreeHandler {
 public:
  static constexpr std::size_t max_object_size = std::numeric_limits<std::size_t>::max();
  static constexpr std::size_t max_array_size = std::numeric_limits<std::size_t>::max();
  static constexpr std::size_t max_key_size = std::numeric_limits<std::size_t>::max();
  static constexpr std::size_t max_string_size = std::numeric_limits<std::size_t>::max();
  using Ec = boost::system::error_code;

  bool on_document_begin(Ec&) { return true; }
  bool on_document_end(Ec&) { return true; }
  bool on_object_begin(Ec&) { return Open(JsonObject()); }
  bool on_object_end(std::size_t, Ec&) { return Close(); }
  bool on_array_begin(Ec&) { return Open(JsonArray()); }
  bool on_array_end(std::size_t, Ec&) { return Close(); }
  bool on_key_part(json::string_view s, std::size_t, Ec&) { return Append(s); }
  bool on_key(json::string_view s, std::size_t, Ec&) {
    Append(s);
    open_.back().key.swap(text_);
    text_.clear();
    return true;
  }
  bool on_string_part(json::string_view s, std::size_t, Ec&) { return Append(s); }
  bool on_string(json::string_view s, std::size_t, Ec&) {
    Append(s);
    Add(Json(json::string_view(text_)));
    text_.clear();
    return true;
  }
  bool on_number_part(json::string_view s, Ec&) { return Append(s); }
  bool on_int64(int64_t i, json::string_view, Ec&) { return AddNumber(Json(i)); }
  bool on_uint64(uint64_t u, json::string_view, Ec&) { return AddNumber(Json(u)); }
  bool on_double(double approximate, json::string_view s, Ec&) {
    Append(s);
    double exact = approximate;
    const auto [end, ec] = std::from_chars(text_.data(), text_.data() + text_.size(), exact);
    if (ec == std::errc::result_out_of_range) exact = approximate;  // infinity or zero
    return AddNumber(Json(exact));
  }
  bool on_bool(bool b, Ec&) { return Add(Json(b)); }
  bool on_null(Ec&) { return Add(Json(nullptr)); }
  bool on_comment_part(json::string_view, Ec&) { return true; }
  bool on_comment(json::string_view, Ec&) { return true; }

  Json Take() { return std::move(root_); }

 private:
  struct Level {
    Json value;
    std::string key;  // of the member being read
  };

  bool Append(json::string_view s) {
    text_.append(s.data(), s.size());
    return true;
  }
  bool AddNumber(Json value) {
    text_.clear();
    return Add(std::move(value));
  }
  bool Add(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (Level& top = open_.back(); top.value.is_array()) {
      top.value.get_array().push_back(std::move(value));
    } else {
      top.value.get_object().insert_or_assign(top.key, std::move(value));
    }
    return true;
  }
  template <typename Container>
  bool Open(Container empty) {
    open_.push_back({Json(std::move(empty)), {}});
    return true;
  }
  bool Close() {
    Json done = std::move(open_.back().value);
    open_.pop_back();
    return Add(std::move(done));
  }

  Json root_;
  std::string text_;
  std::vector<Level> open_;
};

void AppendQuoted(std::string& out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  size_t start = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    out.append(text, start, i - start);
    start = i + 1;
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        out += "\\u00";
        out += kHex[c >> 4];
        out += kHex[c & 15];
    }
  }
  out.append(text, start);
  out += '"';
}

void AppendDouble(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  char buffer[32];
  const auto [end, ec] = std::to_chars(buffer, buffer + sizeof buffer, value);
  const std::string_view text(buffer, end);
  out += text;
  if (text.find_first_of(".e") == std::string_view::npos) out += ".0";
}

void Append(std::string& out, const Json& value);

void Append(std::string& out, const JsonObject& object) {
  out += '{';
  bool first = true;
  for (const auto& [key, member] : object) {
    if (!first) out += ',';
    first = false;
    AppendQuoted(out, {key.data(), key.size()});
    out += ':';
    Append(out, member);
  }
  out += '}';
}

void Append(std::string& out, const Json& value) {
  switch (value.kind()) {
    case json::kind::null:
      out += "null";
      break;
    case json::kind::bool_:
      out += value.get_bool() ? "true" : "false";
      break;
    case json::kind::int64:
      fmt::format_to(std::back_inserter(out), "{}", value.get_int64());
      break;
    case json::kind::uint64:
      fmt::format_to(std::back_inserter(out), "{}", value.get_uint64());
      break;
    case json::kind::double_:
      AppendDouble(out, value.get_double());
      break;
    case json::kind::string:
      AppendQuoted(out, {value.get_string().data(), value.get_string().size()});
      break;
    case json::kind::array: {
      out += '[';
      bool first = true;
      for (const Json& element : value.get_array()) {
        if (!first) out += ',';
        first = false;
        Append(out, element);
      }
      out += ']';
      break;
    }
    case json::kind::object:
      Append(out, value.get_object());
      break;
  }
}

}  // namespace

Result<Json> ParseJson(std::string_view text, JsonLimits limits) {
  if (text.size() > limits.max_bytes) {
    return Fail(Code::kOutOfBounds, fmt::format("JSON of {} bytes is over the limit of {}",
                                                text.size(), limits.max_bytes));
  }
  json::parse_options options;
  options.max_depth = limits.max_depth;
  json::basic_parser<TreeHandler> parser(options);
  boost::system::error_code ec;
  size_t used = parser.write_some(false, text.data(), text.size(), ec);
  if (!ec && used < text.size()) ec = json::make_error_code(json::error::extra_data);
  if (ec) {
    const Code code = ec == json::error::too_deep ? Code::kOutOfBounds : Code::kInvalidArgument;
    return Fail(code, fmt::format("not valid JSON at byte {}: {}", used, ec.message()));
  }
  return parser.handler().Take();
}

std::string DumpJson(const Json& value) {
  std::string out;
  Append(out, value);
  return out;
}

std::string DumpJson(const JsonObject& value) {
  std::string out;
  Append(out, value);
  return out;
}

const Json* Find(const Json& value, std::string_view key) {
  const JsonObject* object = value.if_object();
  return object == nullptr ? nullptr
                           : object->if_contains(json::string_view(key.data(), key.size()));
}

std::optional<std::string_view> FindString(const Json& value, std::string_view key) {
  const Json* member = Find(value, key);
  if (member == nullptr || !member->is_string()) return std::nullopt;
  return std::string_view(member->get_string().data(), member->get_string().size());
}

std::optional<int64_t> FindInt(const Json& value, std::string_view key) {
  const Json* member = Find(value, key);
  if (member == nullptr) return std::nullopt;
  if (member->is_int64()) return member->get_int64();
  if (member->is_uint64() && std::in_range<int64_t>(member->get_uint64())) {
    return static_cast<int64_t>(member->get_uint64());
  }
  if (member->is_double()) {
    const double d = member->get_double();
    if (d >= -0x1p63 && d < 0x1p63 && d == std::trunc(d)) return static_cast<int64_t>(d);
  }
  return std::nullopt;
}

std::optional<double> FindDouble(const Json& value, std::string_view key) {
  const Json* member = Find(value, key);
  if (member == nullptr) return std::nullopt;
  if (member->is_double()) return member->get_double();
  if (member->is_int64()) return static_cast<double>(member->get_int64());
  if (member->is_uint64()) return static_cast<double>(member->get_uint64());
  return std::nullopt;
}

std::optional<bool> FindBool(const Json& value, std::string_view key) {
  const Json* member = Find(value, key);
  if (member == nullptr || !member->is_bool()) return std::nullopt;
  return member->get_bool();
}

}  // namespace warmpath::codec
