// HTTP messages as plain data.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace warmpath::net {

// In order of arrival; names keep their case and compare without it. All bytes lie in one buffer:
// what Get and the iterators show lasts until the next change.
class Headers {
 public:
  using Field = std::pair<std::string_view, std::string_view>;

  class Iterator {
   public:
    Iterator(const Headers& headers, size_t at) : headers_(&headers), at_(at) {}
    Field operator*() const { return headers_->field(at_); }
    Iterator& operator++() {
      ++at_;
      return *this;
    }
    bool operator==(const Iterator& other) const { return at_ == other.at_; }

   private:
    const Headers* headers_;
    size_t at_;
  };

  Headers() = default;
  Headers(std::initializer_list<Field> fields);

  void Add(std::string_view name, std::string_view value);
  void Set(std::string_view name, std::string_view value);  // replaces all of that name
  void Remove(std::string_view name);
  template <typename Predicate>  // bool(const Field&)
  void RemoveIf(Predicate predicate) {
    std::erase_if(places_, [&](const Place& place) { return predicate(FieldAt(place)); });
  }
  // First value of that name.
  std::optional<std::string_view> Get(std::string_view name) const;
  size_t Count(std::string_view name) const;
  // Room for so many fields and bytes in all.
  void Reserve(size_t fields, size_t bytes);

  size_t size() const { return places_.size(); }
  bool empty() const { return places_.empty(); }
  size_t bytes() const { return bytes_.size(); }
  Field field(size_t i) const { return FieldAt(places_[i]); }
  Iterator begin() const { return {*this, 0}; }
  Iterator end() const { return {*this, places_.size()}; }
  std::vector<Field> fields() const;

 private:
  struct Place {
    uint32_t at;
    uint32_t name_size;
    uint32_t value_size;
  };
  Field FieldAt(const Place& place) const {
    const char* const name = bytes_.data() + place.at;
    return {{name, place.name_size}, {name + place.name_size, place.value_size}};
  }

  std::string bytes_;  // name, value, name, value ...; those removed stay
  std::vector<Place> places_;
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
// The same for one field of `headers`, asked of each in turn.
class HopByHop {
 public:
  explicit HopByHop(const Headers& headers);
  bool operator()(std::string_view name) const;

 private:
  std::vector<std::string_view> named_;  // of the headers
};

}  // namespace warmpath::net
