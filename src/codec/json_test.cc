#include "codec/json.h"

#include <gtest/gtest.h>

#include <string>

namespace warmpath::codec {
namespace {

TEST(Json, RoundTripsCompactTextInOrder) {
  const std::string text =
      R"({"z":1,"a":[true,false,null,"x\"\\\n\u0001é"],"m":{"big":18446744073709551615,"neg":-5,"f":0.1,"w":100.0}})";
  const auto value = ParseJson(text);
  ASSERT_TRUE(value) << value.error().message;
  EXPECT_EQ(DumpJson(*value), text);
  EXPECT_EQ(DumpJson(value->get_object()), text);
}

TEST(Json, ReadsDecimalsExactly) {
  const auto value = ParseJson(
      "[0.3,123456789.123456789,1e-7,5e-324,1.7976931348623157e308,123456789012345678901]");
  ASSERT_TRUE(value);
  const JsonArray& a = value->get_array();
  EXPECT_EQ(a[0].get_double(), 0.3);
  EXPECT_EQ(a[1].get_double(), 123456789.123456789);
  EXPECT_EQ(a[2].get_double(), 1e-7);
  EXPECT_EQ(a[3].get_double(), 5e-324);
  EXPECT_EQ(a[4].get_double(), 1.7976931348623157e308);
  EXPECT_EQ(a[5].get_double(), 123456789012345678901.0);
}

TEST(Json, LastDuplicateWinsInTheFirstPlace) {
  EXPECT_EQ(DumpJson(*ParseJson(R"({"a":1,"b":2,"a":{"c":3}})")), R"({"a":{"c":3},"b":2})");
}

TEST(Json, RefusesWhatIsNotStrict) {
  for (const char* bad : {"", " ", "{", "[1,]", "{\"a\":1,}", "1 2", "nul", "'a'", "[1] x",
                          "\"\\ud800\"", "\"\xff\"", "01", "// c\n1", "NaN", "\"a\nb\""}) {
    const auto value = ParseJson(bad);
    EXPECT_FALSE(value) << bad;
    if (!value) EXPECT_EQ(value.error().code, Code::kInvalidArgument) << bad;
  }
  EXPECT_NE(ParseJson("[1, x]").error().message.find("at byte 4"), std::string::npos)
      << ParseJson("[1, x]").error().message;
}

TEST(Json, BoundsDepthAndBytes) {
  EXPECT_TRUE(ParseJson(std::string(64, '[') + std::string(64, ']')));
  EXPECT_EQ(ParseJson(std::string(65, '[') + std::string(65, ']')).error().code,
            Code::kOutOfBounds);
  EXPECT_EQ(ParseJson(std::string(1'000'000, '[')).error().code, Code::kOutOfBounds);
  EXPECT_EQ(ParseJson("[1,2,3]", {.max_bytes = 6}).error().code, Code::kOutOfBounds);
}

TEST(Json, NonFiniteBecomesNull) {
  EXPECT_EQ(DumpJson(Json(1e308 * 10)), "null");
}

TEST(Json, FindsTypedMembers) {
  const Json v = *ParseJson(R"({"s":"x","i":3,"w":4.0,"d":1.5,"b":true,"u":18446744073709551615})");
  EXPECT_EQ(FindString(v, "s"), "x");
  EXPECT_EQ(FindInt(v, "i"), 3);
  EXPECT_EQ(FindInt(v, "w"), 4);
  EXPECT_EQ(FindInt(v, "d"), std::nullopt);
  // Built in memory, small numbers may be unsigned.
  EXPECT_EQ(FindInt(JsonObject{{"u", uint64_t{5}}}, "u"), 5);
  EXPECT_EQ(FindInt(v, "u"), std::nullopt);
  EXPECT_EQ(FindDouble(v, "i"), 3.0);
  EXPECT_EQ(FindDouble(v, "d"), 1.5);
  EXPECT_EQ(FindBool(v, "b"), true);
  EXPECT_EQ(FindString(v, "i"), std::nullopt);
  EXPECT_EQ(Find(v, "none"), nullptr);
  EXPECT_EQ(Find(Json(1), "none"), nullptr);
}

}  // namespace
}  // namespace warmpath::codec
