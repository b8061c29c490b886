// HTTP messages as plain data.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace warmpath::net {

// In order of arrival; names keep their case and compare without it.
class Headers {
 public:
  using Field = std::pair<std::string, std::string>;
  Headers() = default;
  Headers(std::initializer_list<Field> fields) : fields_(fields) {}

  void Add(std::string name, std::string value);
  void Set(std::string_view name, std::string value);  // replaces all of that name
  void Remove(std::string_view name);
  // First value of that name.
  std::optional<std::string_view> Get(std::string_view name) const;
  size_t Count(std::string_view name) const;
  const std::vector<Field>& fields() const { return fields_; }
  std::vector<Field>::const_iterator begin() const { return fields_.begin(); }
  std::vector<Field>::const_iterator end() const { return fields_.end(); }

 private:
  std::vector<Field> fields_;
};

struct HttpRequest {
  std::string method;  // "GET"
  std::string target;  // origin form: "/v1/models?x=1"
  Headers headers;
  std::string
      body;  // whole; framing removed. Its capacity may exceed its size (parsers want padding).
  std::string peer;                // "127.0.0.1:54321", empty on requests we send
  std::string_view path() const;   // target without the query
  std::string_view query() const;  // "" when absent
};

struct HttpResponseHead {
  int status = 0;
  Headers headers;
};

struct HttpResponse {
  int status = 0;
  Headers headers;
  std::string body;
};

std::string_view ReasonPhrase(int status);
// Value of `key` in a query string, percent-decoded.
std::optional<std::string> QueryParameter(std::string_view query, std::string_view key);
// Connection, Keep-Alive, Proxy-*, TE, Trailer, Transfer-Encoding, Upgrade and whatever Connection
// names: never forwarded.
void RemoveHopByHop(Headers& headers);

}  // namespace warmpath::net
