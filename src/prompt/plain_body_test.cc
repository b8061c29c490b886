#include "prompt/plain_body.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

namespace warmpath::prompt {
namespace {

// What ReadRequest says of a plain body is what was read in place.
void ExpectTheSame(Api api, std::string_view body, const RequestView& view) {
  const auto expected = ReadRequest(api, body);
  ASSERT_TRUE(expected.has_value()) << body << ": " << expected.error().message;
  EXPECT_EQ(view.api, expected->api);
  EXPECT_EQ(view.model, expected->model) << body;
  EXPECT_EQ(view.model_offset, expected->model_offset) << body;
  EXPECT_EQ(view.model_length, expected->model_length) << body;
  EXPECT_EQ(view.stream, expected->stream) << body;
  EXPECT_EQ(view.include_usage, expected->include_usage) << body;
  EXPECT_EQ(view.cache_salt, expected->cache_salt) << body;
  EXPECT_EQ(view.max_tokens, expected->max_tokens) << body;
  EXPECT_EQ(view.n, expected->n) << body;
  EXPECT_EQ(view.has_required, expected->has_required) << body;
}

// The parts put together, texts in angle brackets; "" when the body is not plain.
std::string Parts(std::string_view body, Api api = Api::kChatCompletions) {
  PlainBody plain;
  if (!ReadPlainBody(api, body, plain)) return "";
  ExpectTheSame(api, body, plain.view);
  std::string out;
  size_t texts = 0;
  for (const PlainBody::Part& part : plain.parts) {
    if (part.is_text) {
      out += '<';
      ++texts;
    }
    out += part.text.bytes;
    if (part.is_text) out += '>';
  }
  EXPECT_EQ(texts, plain.texts);
  return out;
}

TEST(PlainBody, SetsTheTextsOfMessagesApart) {
  EXPECT_EQ(
      Parts(R"( {"model" : "m", "messages": [ {"role":"user","content":"hi\n"} ,)"
            R"({"content":[{"type":"text","text":"a"},{"text":"b","type":"image"}],"x":1}]} )"),
      R"({"messages": [ {"role":"user","content":"<hi\n>"} ,)"
      R"({"content":[{"type":"text","text":"<a>"},{"text":"b","type":"image"}],"x":1}]})");
  EXPECT_EQ(Parts(R"({"messages":[{"role":"user","content":null},{}]})"),
            R"({"messages":[{"role":"user","content":null},{}]})");
  EXPECT_EQ(Parts(R"({"prompt":"a \u00e9","n":2})", Api::kCompletions), R"(<a \u00e9>)");
}

TEST(PlainBody, LeavesOutWhatTokensNeverDependOn) {
  EXPECT_EQ(
      Parts(
          R"({"temperature":0.5,"stop":["a\n"],"tools":[{"type":"function"}],"messages":[{"content":"x"}],)"
          R"("stream":true,"stream_options":{"include_usage":true,"x":[1]},"max_tokens":5,)"
          R"("max_completion_tokens":null,"n":0,"cache_salt":"s","unknown":{"a":-1.5e+3}})"),
      R"({"tools":[{"type":"function"}],"messages":[{"content":"<x>"}],"unknown":{"a":-1.5e+3}})");
}

TEST(PlainBody, LeavesTheRestToTheOtherReaders) {
  for (const char* body :
       {"",
        "{",
        "[]",
        "{}",
        R"({"messages":[]})",
        R"({"messages":{}})",
        R"({"messages":[1]})",
        R"({"messages":[{"content":"x"}]} x)",
        R"({"messages":[{"content":"x"}],})",
        R"({"messages":[{"content":"x"}],"messages":[{"content":"x"}]})",
        R"({"messages":[{"content":"x","content":"y"}]})",
        R"({"messages":[{"content":"x","cont\u0065nt":"y"}]})",
        R"({"m\u006fdel":"a","messages":[{"content":"x"}]})",
        R"({"model":"a","model":"b","messages":[{"content":"x"}]})",
        R"({"model":"\u0061","messages":[{"content":"x"}]})",
        R"({"model":1,"messages":[{"content":"x"}]})",
        R"({"max_tokens":1.0,"messages":[{"content":"x"}]})",
        R"({"max_tokens":01,"messages":[{"content":"x"}]})",
        R"({"n":-1,"messages":[{"content":"x"}]})",
        R"({"stream":1,"messages":[{"content":"x"}]})",
        R"({"stream_options":null,"messages":[{"content":"x"}]})",
        R"({"temperature":.5,"messages":[{"content":"x"}]})",
        R"({"temperature":1e999999999999999999999999999999999,"messages":[{"content":"x"}]})",
        R"({"user":"\ud800","messages":[{"content":"x"}]})",
        R"({"continue_final_message":true,"messages":[{"content":"x"}]})",
        R"({"messages":[{"content":"\x"}]})",
        R"({"messages":[{"content":"\u12g4"}]})",
        "{\"messages\":[{\"content\":\"a\tb\"}]}",
        "{\"messages\":[{\"content\":\"\xC3\"}]}",
        "{\"messages\":[{\"content\":\"\xED\xA0\x80\"}]}",
        "\xEF\xBB\xBF{\"messages\":[{}]}"}) {
    EXPECT_EQ(Parts(body), "") << body;
  }
  EXPECT_EQ(Parts(R"({"prompt":["a"]})", Api::kCompletions), "");
  EXPECT_EQ(Parts(R"({"prompt":"a","suffix":null})", Api::kCompletions), "");
  EXPECT_EQ(Parts(R"({"input":"a"})", Api::kEmbeddings), "");
}

TEST(PlainBody, BoundsDepthAndCount) {
  const auto nested = [](size_t depth) {
    return R"({"x":)" + std::string(depth, '[') + std::string(depth, ']') +
           R"(,"messages":[{"content":"x"}]})";
  };
  EXPECT_NE(Parts(nested(30)), "");
  EXPECT_EQ(Parts(nested(40)), "");
  std::string many = R"({"messages":[{})";
  for (int i = 0; i < 600'000; ++i) many += ",{}";
  EXPECT_EQ(Parts(many + "]}"), "");
}

TEST(PlainBody, NeverContradictsReadRequestOnBrokenBodies) {
  const std::string whole =
      "{\"model\":\"mod\xC3\xA9l\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
      "\"max_tokens\":17,\"n\":2,\"cache_salt\":\"s\",\"temperature\":-1.5e3,\"stop\":[\"x\",null],"
      "\"messages\":[{\"role\":\"system\",\"content\":\"be \\\"nice\\\" \\u00e9\\n\"},"
      "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a long enough text of words, "
      "\xE6\x97\xA5\xE6\x9C\xAC and some more of it\"}]}]}";
  PlainBody plain;
  ASSERT_TRUE(ReadPlainBody(Api::kChatCompletions, whole, plain));
  std::mt19937 random(1);
  const std::string bytes = "\"\\{}[]:,0-e.tn \xC3\xA9\x01u";
  size_t plain_ones = 0;
  for (int round = 0; round < 30'000; ++round) {
    std::string body = whole;
    for (size_t edits = 1 + random() % 3; edits > 0; --edits) {
      const size_t at = random() % body.size();
      switch (random() % 3) {
        case 0:
          body[at] = bytes[random() % bytes.size()];
          break;
        case 1:
          body.erase(at, 1 + random() % 3);
          break;
        default:
          body.insert(at, 1, bytes[random() % bytes.size()]);
      }
    }
    if (!ReadPlainBody(Api::kChatCompletions, body, plain)) continue;
    ++plain_ones;
    ExpectTheSame(Api::kChatCompletions, body, plain.view);
    if (HasFailure()) return;
  }
  EXPECT_GT(plain_ones, 5000u);
}

TEST(JsonScan, FindsTheEndOfAStringWhereverItIs) {
  std::mt19937 random(5);
  for (int round = 0; round < 20'000; ++round) {
    std::string inside;
    RawText expected;
    for (size_t pieces = random() % 12; pieces > 0; --pieces) {
      switch (random() % 8) {
        case 0:
          inside += '\\';
          inside += "\"\\/bfnrt"[random() % 8];
          expected.escaped = true;
          break;
        case 1:
          inside += "\\u00e9";
          expected.escaped = expected.unicode_escaped = true;
          break;
        case 2:
          inside += '<';
          expected.angle = true;
          break;
        default:
          inside += std::string(random() % (round % 3 == 0 ? 600 : 40), 'x');
      }
    }
    const std::string before(random() % 70, ' ');
    const std::string text =
        fmt::format(R"({}"{}"{})", before, inside, std::string(random() % 70, ' '));
    JsonScan scan(text);
    scan.Space();
    RawText found;
    ASSERT_TRUE(scan.String(found)) << text;
    ASSERT_EQ(found.bytes, inside);
    ASSERT_EQ(found.escaped, expected.escaped);
    ASSERT_EQ(found.unicode_escaped, expected.unicode_escaped);
    ASSERT_TRUE(found.angle || !expected.angle);
    ASSERT_FALSE(scan.non_ascii());
    scan.Space();
    ASSERT_TRUE(scan.done());
    const auto whole = [](const std::string& json) {
      JsonScan again(json);
      RawText ignored;
      return again.String(ignored);
    };
    ASSERT_FALSE(whole('"' + inside));
    ASSERT_FALSE(whole('"' + inside + "\x1f\""));
    const std::string accented = '"' + inside + "\xC3\xA9\"";
    JsonScan beyond(accented);
    ASSERT_TRUE(beyond.String(found) && beyond.non_ascii());
  }
}

TEST(JsonScan, UnescapesAsJsonDoes) {
  const auto unescaped = [](std::string_view raw) {
    std::string out;
    return AppendUnescaped(raw, out) ? out : "broken";
  };
  EXPECT_EQ(unescaped(R"(a\"\\\/\b\f\n\r\tz)"), "a\"\\/\b\f\n\r\tz");
  EXPECT_EQ(unescaped(R"(\u0041\u00e9\u65E5\ud83d\ude42)"), "A\u00e9\u65e5\U0001F642");
  EXPECT_EQ(unescaped(R"(\u0000)"), std::string(1, '\0'));
  for (const char* raw : {R"(\)", R"(\x)", R"(\u12)", R"(\ud83d)", R"(\ud83dx)", R"(\ud83d\n)",
                          R"(\ude42)", R"(\ud83d\u0041)"}) {
    EXPECT_EQ(unescaped(raw), "broken") << raw;
  }
}

}  // namespace
}  // namespace warmpath::prompt
