// Helpers of tests that read the recordings: lines of JSON, hex. Tests only.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "codec/json.h"

namespace warmpath::kv::testing {

inline std::string FromHex(std::string_view hex) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2)
    out += static_cast<char>(digit(hex[i]) << 4 | digit(hex[i + 1]));
  return out;
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  return std::string(std::istreambuf_iterator<char>(in), {});
}

// A file of the unpacked test data, one JSON value per line.
inline std::vector<codec::Json> ReadJsonLines(const std::string& path) {
  std::vector<codec::Json> lines;
  std::ifstream in(path);
  EXPECT_TRUE(in) << path;
  for (std::string line; std::getline(in, line);) {
    auto value = codec::ParseJson(line);
    EXPECT_TRUE(value) << path << ": " << value.error().message;
    if (value) lines.push_back(std::move(*value));
  }
  return lines;
}

}  // namespace warmpath::kv::testing
