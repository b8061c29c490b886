#include "net/http.h"

#include <algorithm>

#include "base/units.h"

namespace warmpath::net {

namespace {

constexpr size_t kUsualFields = 12;
constexpr size_t kUsualBytes = 384;

}  // namespace

Headers::Headers(std::initializer_list<Field> fields) {
  for (const auto& [name, value] : fields) Add(name, value);
}

void Headers::Reserve(size_t fields, size_t bytes) {
  places_.reserve(fields);
  bytes_.reserve(bytes);
}

void Headers::Add(std::string_view name, std::string_view value) {
  const size_t size = bytes_.size() + name.size() + value.size();
  if (places_.empty()) {
    Reserve(std::max(kUsualFields, places_.capacity()), std::max(kUsualBytes, bytes_.capacity()));
  }
  places_.push_back({static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(name.size()),
                     static_cast<uint32_t>(value.size())});
  if (size <= bytes_.capacity()) {
    bytes_.append(name).append(value);
    return;
  }
  std::string grown;  // `name` and `value` may lie in the old bytes
  grown.reserve(std::max(size, 2 * bytes_.capacity()));
  grown.append(bytes_).append(name).append(value);
  bytes_ = std::move(grown);
}

void Headers::Set(std::string_view name, std::string_view value) {
  Remove(name);
  Add(name, value);
}

void Headers::Remove(std::string_view name) {
  RemoveIf([name](const Field& field) { return EqualsIgnoreCase(field.first, name); });
}

std::optional<std::string_view> Headers::Get(std::string_view name) const {
  for (const Place& place : places_) {
    if (place.name_size != name.size()) continue;
    const auto [key, value] = FieldAt(place);
    if (EqualsIgnoreCase(key, name)) return value;
  }
  return std::nullopt;
}

size_t Headers::Count(std::string_view name) const {
  return static_cast<size_t>(std::count_if(
      places_.begin(), places_.end(),
      [this, name](const Place& place) { return EqualsIgnoreCase(FieldAt(place).first, name); }));
}

std::vector<Headers::Field> Headers::fields() const {
  std::vector<Field> all;
  for (const Field& field : *this) all.push_back(field);
  return all;
}

std::string_view HttpRequest::path() const {
  return std::string_view(target).substr(0, target.find('?'));
}

std::string_view HttpRequest::query() const {
  const size_t mark = target.find('?');
  return mark == std::string::npos ? std::string_view() : std::string_view(target).substr(mark + 1);
}

std::string_view ReasonPhrase(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 411:
      return "Length Required";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 422:
      return "Unprocessable Content";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "";
  }
}

namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Percent and plus decoding; a stray '%' stays as it is.
std::string Decode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && HexDigit(text[i + 1]) >= 0 &&
        HexDigit(text[i + 2]) >= 0) {
      out += static_cast<char>(HexDigit(text[i + 1]) * 16 + HexDigit(text[i + 2]));
      i += 2;
    } else {
      out += text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

}  // namespace

std::optional<std::string> QueryParameter(std::string_view query, std::string_view key) {
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    const size_t equals = pair.find('=');
    if (Decode(pair.substr(0, equals)) != key) continue;
    return equals == std::string_view::npos ? std::string() : Decode(pair.substr(equals + 1));
  }
  return std::nullopt;
}

HopByHop::HopByHop(const Headers& headers) {
  for (const auto& [name, value] : headers) {
    if (!EqualsIgnoreCase(name, "Connection")) continue;
    for (const std::string_view token : Split(value, ',')) named_.push_back(Trim(token));
  }
}

bool HopByHop::operator()(std::string_view name) const {
  const auto is = [name](std::string_view other) { return EqualsIgnoreCase(name, other); };
  switch (name.size()) {
    case 2:
      if (is("TE")) return true;
      break;
    case 7:
      if (is("Trailer") || is("Upgrade")) return true;
      break;
    case 10:
      if (is("Connection") || is("Keep-Alive")) return true;
      break;
    case 16:
      if (is("Proxy-Connection")) return true;
      break;
    case 17:
      if (is("Transfer-Encoding")) return true;
      break;
    case 18:
      if (is("Proxy-Authenticate")) return true;
      break;
    case 19:
      if (is("Proxy-Authorization")) return true;
      break;
    default:
      break;
  }
  return std::any_of(named_.begin(), named_.end(), is);
}

void RemoveHopByHop(Headers& headers) {
  const HopByHop is_hop_by_hop(headers);
  headers.RemoveIf([&](const Headers::Field& field) { return is_hop_by_hop(field.first); });
}

}  // namespace warmpath::net
