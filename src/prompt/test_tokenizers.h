// For tests: the six real tokenizers, each loaded once per process, and rows of the recorded
// vectors.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "codec/json.h"
#include "prompt/tokenizer.h"

namespace warmpath::prompt {

inline const std::vector<std::string> kTokenizerNames = {"qwen3",       "llama3", "llama3_1",
                                                         "deepseek_v3", "gemma3", "gptoss"};

inline std::shared_ptr<const Tokenizer> TestTokenizer(const std::string& name) {
  static std::map<std::string, std::shared_ptr<const Tokenizer>> loaded;
  auto& tokenizer = loaded[name];
  if (tokenizer == nullptr) {
    auto result = Tokenizer::Load(std::string(WARMPATH_TOKENIZERS) + "/" + name);
    if (!result) {
      ADD_FAILURE() << name << ": " << result.error().message;
      std::abort();
    }
    tokenizer = *result;
  }
  return tokenizer;
}

inline std::string TestFile(const std::string& path) {
  std::ifstream in(std::string(WARMPATH_TESTDATA) + "/" + path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// The lines of a JSONL file of tests/data.
inline std::vector<codec::Json> TestRows(const std::string& path) {
  std::vector<codec::Json> rows;
  std::istringstream lines(TestFile(path));
  for (std::string line; std::getline(lines, line);) {
    auto row = codec::ParseJson(line);
    EXPECT_TRUE(row.has_value()) << path;
    if (row) rows.push_back(std::move(*row));
  }
  return rows;
}

inline std::vector<kv::TokenId> Ids(const codec::Json& list) {
  std::vector<kv::TokenId> ids;
  for (const auto& id : list.as_array()) ids.push_back(id.to_number<kv::TokenId>());
  return ids;
}

inline std::string Text(const codec::Json& row, std::string_view key) {
  return std::string(codec::FindString(row, key).value_or(""));
}

}  // namespace warmpath::prompt
