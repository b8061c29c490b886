// The API's refusals and answers against those recorded from the engine.
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "codec/json.h"
#include "sim/api_request.h"
#include "sim/api_response.h"

namespace warmpath::sim {
namespace {

using codec::Find;
using codec::FindInt;
using codec::FindString;
using codec::Json;

// The vocabulary of the recorded model; every text has 32 tokens.
class RecordedVocabulary final : public TextModel {
 public:
  Result<std::vector<Tokens>> Encode(prompt::Api, std::string_view body) const override {
    auto json = codec::ParseJson(body);
    std::vector<Tokens> prompts;
    const Json* prompt = Find(*json, "prompt");
    if (prompt == nullptr || !prompt->is_array()) return std::vector<Tokens>{Tokens(32, 1)};
    const auto& list = prompt->get_array();
    if (!list.empty() && list[0].is_number()) return std::vector<Tokens>{Tokens(list.size(), 1)};
    for (const Json& one : list)
      prompts.emplace_back(one.is_array() ? one.get_array().size() : 32, 1);
    return prompts;
  }
  Result<Tokens> EncodeText(std::string_view, bool) const override { return Tokens(32, 1); }
  std::string Decode(std::span<const kv::TokenId> ids) const override {
    return std::string(ids.size(), 'x');
  }
  uint32_t vocab_size() const override { return 151'936; }
};

class ApiTest : public testing::Test {
 protected:
  ApiTest() {
    context_.text = &text_;
    context_.model_names = {"Qwen/Qwen3-0.6B"};
    context_.loras = {{"sql", "/models/adapters/sql"}};
  }

  static std::vector<Json> Cases(const std::string& folder) {
    std::ifstream in(std::string(WARMPATH_TESTDATA) + "/golden/vllm-0.32.0/" + folder +
                     "/http.jsonl");
    EXPECT_TRUE(in);
    std::vector<Json> cases;
    for (std::string line; std::getline(in, line);) cases.push_back(*codec::ParseJson(line));
    return cases;
  }
  static net::HttpRequest RequestOf(const Json& item) {
    const Json& recorded = *Find(item, "request");
    net::HttpRequest request;
    request.method = *FindString(recorded, "method");
    request.target = *FindString(recorded, "path");
    for (const Json& header : Find(recorded, "headers")->as_array()) {
      request.headers.Add(std::string(header.as_array()[0].as_string()),
                          std::string(header.as_array()[1].as_string()));
    }
    if (const Json* body = Find(recorded, "body"))
      request.body = FindString(*body, "text").value_or("");
    return request;
  }
  static std::string AnswerOf(const Json& item) {
    return std::string(FindString(*Find(*Find(item, "response"), "body"), "text").value_or(""));
  }

  RecordedVocabulary text_;
  ApiContext context_;
};

// Members in order with the kinds of their values: the shape of an answer.
std::string ShapeOf(const Json& value) {
  if (value.is_object()) {
    std::string shape = "{";
    for (const auto& [key, member] : value.get_object())
      shape += std::string(key) + ":" + ShapeOf(member) + ",";
    return shape + "}";
  }
  if (value.is_array())
    return "[" + (value.get_array().empty() ? "" : ShapeOf(value.get_array()[0])) + "]";
  return value.is_string() ? "text"
         : value.is_null() ? "null"
         : value.is_bool() ? "bool"
                           : "number";
}

TEST_F(ApiTest, RefusalsAreTheEngines) {
  // Where the text names what only the engine has: a parser's position, several complaints at once,
  // its own tokenizer or model.
  const std::set<std::string> elsewhere = {"m-err-bad-json",
                                           "m-err-bad-json-chat",
                                           "m-err-invalid-utf8",
                                           "m-err-mixed-list",
                                           "m-err-negative-token",
                                           "m-err-float-token",
                                           "m-err-huge-token",
                                           "m-err-missing-role",
                                           "m-err-null-user-content",
                                           "m-err-image-part",
                                           "m-err-unknown-part",
                                           "m-err-context-too-long-text",
                                           "m-err-context-too-long-chat",
                                           "m-err-context-too-long-stream",
                                           "m-err-tools-bad",
                                           "m-err-stop-too-many",
                                           "m-c-lora-after-unload"};
  size_t compared = 0;
  for (const Json& item : Cases("bs16")) {
    const Json* recorded = Find(item, "request");
    if (recorded == nullptr || *FindString(*recorded, "method") != "POST") continue;
    const std::string_view path = *FindString(*recorded, "path");
    const std::string id(*FindString(item, "id"));
    const int64_t status = *FindInt(*Find(item, "response"), "status");
    if ((path != "/v1/completions" && path != "/v1/chat/completions") || elsewhere.contains(id))
      continue;
    auto parsed =
        ParseGeneration(path.find("chat") != std::string_view::npos, RequestOf(item), context_);
    if (status == 200) {
      if (id.find("lora-chat") == std::string::npos)
        EXPECT_TRUE(parsed) << id << ": " << parsed.error().body;
      continue;
    }
    ASSERT_FALSE(parsed) << id;
    EXPECT_EQ(parsed.error().status, status) << id;
    EXPECT_EQ(parsed.error().body, AnswerOf(item)) << id;
    ++compared;
  }
  EXPECT_GE(compared, 40u);
  RecordProperty("compared", static_cast<int>(compared));
}

TEST_F(ApiTest, WhatIsWordedOtherwiseIsStillRefused) {
  for (const Json& item : Cases("bs16")) {
    const std::string id(*FindString(item, "id"));
    if (id != "m-err-mixed-list" && id != "m-err-negative-token" && id != "m-err-float-token" &&
        id != "m-err-huge-token" && id != "m-err-bad-json") {
      continue;
    }
    auto parsed = ParseGeneration(false, RequestOf(item), context_);
    ASSERT_FALSE(parsed) << id;
    EXPECT_EQ(parsed.error().status, 400) << id;
  }
}

TEST_F(ApiTest, AnswersHaveTheEnginesMembersInItsOrder) {
  size_t compared = 0;
  // The 64 recording has no reasoning parser, as the simulator.
  for (const Json& item : Cases("bs64")) {
    const std::string id(*FindString(item, "id"));
    static const std::set<std::string> wanted = {
        "m-c-text",       "m-c-n2",   "m-c-list-of-prompts", "m-c-return-token-ids", "m-c-tokens",
        "m-c-request-id", "m-h-user", "m-h-turn-1",          "m-h-return-token-ids"};
    if (!wanted.contains(id)) continue;
    auto parsed = ParseGeneration(id.starts_with("m-h"), RequestOf(item), context_);
    ASSERT_TRUE(parsed) << id;
    std::vector<Answer> answers(parsed->prompts.size() * parsed->n,
                                Answer{"text", {1, 2}, "length", 0});
    const std::string body = WholeAnswer(*parsed, answers, {1, "fingerprint", true, 64});
    auto ours = codec::ParseJson(body);
    auto theirs = codec::ParseJson(AnswerOf(item));
    ASSERT_TRUE(ours && theirs) << id << body;
    EXPECT_EQ(ShapeOf(*ours), ShapeOf(*theirs)) << id;
    ++compared;
  }
  EXPECT_EQ(compared, 9u);
}

TEST_F(ApiTest, StreamsHaveTheEnginesEventsMembersAndOrder) {
  auto shapes = [](std::string_view stream) {
    std::vector<std::string> list;
    while (!stream.empty()) {
      const size_t end = stream.find("\n\n");
      std::string_view data = stream.substr(6, end - 6);
      list.push_back(data == "[DONE]" ? "[DONE]" : ShapeOf(*codec::ParseJson(data)));
      stream.remove_prefix(end + 2);
      while (stream.starts_with("\n")) stream.remove_prefix(1);
    }
    return list;
  };
  size_t compared = 0;
  for (const Json& item : Cases("bs64")) {
    const std::string id(*FindString(item, "id"));
    static const std::set<std::string> wanted = {"m-c-stream",
                                                 "m-c-stream-usage",
                                                 "m-c-stream-usage-continuous",
                                                 "m-c-return-token-ids-stream",
                                                 "m-h-stream",
                                                 "m-h-stream-usage",
                                                 "m-h-return-token-ids-stream"};
    if (!wanted.contains(id)) continue;
    auto parsed = ParseGeneration(id.starts_with("m-h"), RequestOf(item), context_);
    ASSERT_TRUE(parsed) << id;
    const ResponseContext context{1, "fingerprint", true, 64};
    std::vector<Answer> answers(1);
    std::string stream = StreamOpening(*parsed, context);
    for (uint32_t i = 0; i < *parsed->max_tokens; ++i) {
      const bool last = i + 1 == *parsed->max_tokens;
      answers[0].tokens.push_back(7);
      if (last) answers[0].finish_reason = "length";
      stream += StreamToken(*parsed, answers[0], 0, " word", last, context);
    }
    stream += StreamEnd(*parsed, answers, context);
    EXPECT_EQ(shapes(stream), shapes(AnswerOf(item))) << id;
    ++compared;
  }
  EXPECT_EQ(compared, 7u);
}

}  // namespace
}  // namespace warmpath::sim
