// Canonical CBOR (RFC 8949 4.2) writer for the few types that engines hash: integers, bytes, text,
// arrays, null.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace warmpath::codec {

// Appends to a string; array counts are the caller's word.
class CborWriter {
 public:
  explicit CborWriter(std::string& out) : out_(out) {}
  void Uint(uint64_t value) { Head(0, value); }
  void Int(int64_t value);
  void Bytes(std::string_view value);
  void Text(std::string_view value);
  void Array(uint64_t count) { Head(4, count); }
  void Null() { out_ += '\xf6'; }

 private:
  void Head(uint8_t major, uint64_t value);
  std::string& out_;
};

}  // namespace warmpath::codec
