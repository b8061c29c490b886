#include "codec/json_reader.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace warmpath::codec {
namespace {

TEST(JsonReader, ReadsSelectedFieldsAndSkipsTheRest) {
  const std::string body =
      R"({"skip":{"a":[1,2,{"b":"]}"}]},"model":"m\u00e9","stream":true,"n":2.0,"stop":["x", 5],"raw": {"k" : [1, 2]} ,"t":1.5})";
  std::string model;
  bool stream = false;
  int64_t n = 0;
  double t = 0;
  std::string raw;
  std::vector<std::string> stops;
  const Status status =
      ReadJsonObject(body, [&](std::string_view key, JsonCursor& value) -> Status {
        if (key == "model") {
          WP_TRY(model, value.String());
        } else if (key == "stream") {
          stream = value.Bool().value_or(false);
        } else if (key == "n") {
          n = value.Int().value_or(0);
        } else if (key == "t") {
          t = value.Double().value_or(0);
        } else if (key == "raw") {
          WP_TRY(const std::string_view view, value.Raw());
          EXPECT_GE(view.data(), body.data());
          raw = view;
        } else if (key == "stop") {
          return value.ForEachElement([&](size_t, JsonCursor& element) -> Status {
            if (auto text = element.String()) stops.emplace_back(*text);
            return {};
          });
        }
        return {};
      });
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_EQ(model, "mé");
  EXPECT_TRUE(stream);
  EXPECT_EQ(n, 2);
  EXPECT_EQ(t, 1.5);
  EXPECT_EQ(raw, R"({"k" : [1, 2]})");
  EXPECT_EQ(stops, std::vector<std::string>{"x"});
}

TEST(JsonReader, ReportsDuplicatesInOrderSoTheLastWins) {
  int64_t a = 0;
  ASSERT_TRUE(
      ReadJsonObject(R"({"a":1,"a":2,"a":3})", [&](std::string_view, JsonCursor& value) -> Status {
        a = value.Int().value_or(-1);
        return {};
      }));
  EXPECT_EQ(a, 3);
}

TEST(JsonReader, RefusesMalformedBodies) {
  const auto ignore = [](std::string_view, JsonCursor&) -> Status { return {}; };
  for (const char* bad : {"", "[]", "1", "{", "{\"a\":1", "{\"a\"1}", "{} x", "{\"a\":\"}",
                          "{\"a\":\"\xff\"}", "{\"a\":1}}"}) {
    const Status status = ReadJsonObject(bad, ignore);
    ASSERT_FALSE(status) << bad;
    EXPECT_EQ(status.error().code, Code::kInvalidArgument) << bad;
  }
}

TEST(JsonReader, BoundsDepthInsideSkippedValues) {
  const auto ignore = [](std::string_view, JsonCursor&) -> Status { return {}; };
  const auto nested = [](size_t n) {
    return "{\"a\":" + std::string(n, '[') + std::string(n, ']') + "}";
  };
  EXPECT_TRUE(ReadJsonObject(nested(63), ignore));
  EXPECT_EQ(ReadJsonObject(nested(64), ignore).error().code, Code::kOutOfBounds);
  EXPECT_EQ(ReadJsonObject(nested(1'000'000), ignore).error().code, Code::kOutOfBounds);
}

TEST(JsonReader, BoundsValuesAndBytes) {
  const auto ignore = [](std::string_view, JsonCursor&) -> Status { return {}; };
  EXPECT_EQ(ReadJsonObject(R"({"a":[1,2,3,4]})", ignore, {.max_values = 5}).error().code,
            Code::kOutOfBounds);
  EXPECT_TRUE(ReadJsonObject(R"({"a":",,,,,,"})", ignore, {.max_values = 5}));
  EXPECT_EQ(ReadJsonObject(R"({"a":1})", ignore, {.max_bytes = 3}).error().code,
            Code::kOutOfBounds);
}

TEST(JsonReader, PassesOverEscapedQuotes) {
  EXPECT_TRUE(CheckJsonBounds(R"({"a":"\\\"[[[[\\"})", {.max_depth = 1}));
  EXPECT_FALSE(CheckJsonBounds(R"({"a":"\\\"})", {}));
}

TEST(JsonReader, MayBeUsedInsideACallback) {
  std::string inner;
  ASSERT_TRUE(ReadJsonObject(R"({"arguments":"{\"x\":\"y\"}","z":7})",
                             [&](std::string_view key, JsonCursor& value) -> Status {
                               if (key != "arguments") return {};
                               WP_TRY(const std::string_view text, value.String());
                               return ReadJsonObject(
                                   text, [&](std::string_view, JsonCursor& v) -> Status {
                                     WP_TRY(inner, v.String());
                                     return {};
                                   });
                             }));
  EXPECT_EQ(inner, "y");
}

TEST(JsonReader, PassesOnErrorsOfTheCallback) {
  const Status status = ReadJsonObject(R"({"a":1})", [](std::string_view, JsonCursor&) -> Status {
    return Fail(Code::kUnsupported, "no");
  });
  EXPECT_EQ(status.error().code, Code::kUnsupported);
}

}  // namespace
}  // namespace warmpath::codec
