#include "prompt/open_text.h"

#include <gtest/gtest.h>

namespace warmpath::prompt {
namespace {

std::optional<std::string> OpenPart(std::string_view raw) {
  static const OpenText open({.opaque = true, .marks = {"</think>", "<|x"}, .reason = {}});
  const std::string quoted = '"' + std::string(raw) + '"';
  RawText text;
  EXPECT_TRUE(JsonScan(quoted).String(text)) << raw;
  EXPECT_EQ(text.escaped, raw.find('\\') != raw.npos);
  const auto part = open.OpenPart(text);
  if (!part) return std::nullopt;
  // A view into the text.
  EXPECT_GE(part->bytes.data(), text.bytes.data());
  EXPECT_LE(part->bytes.data() + part->bytes.size(), text.bytes.data() + text.bytes.size());
  return std::string(part->bytes);
}

bool IsOpen(std::string_view raw) {
  return OpenPart(raw).has_value();
}

TEST(OpenText, BeginsAndEndsWithoutWhiteSpace) {
  for (const char* raw :
       {"a", "a b", R"(\"a\")", R"(a\\n)", R"(\\n)", R"(\u0041)", R"(\b\/)", "\xE6\x97\xA5",
        "\xF0\x9F\x99\x82", R"(\ud83d\ude42)", R"(a\u00e9)", R"(\\u00a0)"}) {
    EXPECT_EQ(OpenPart(raw), raw);
  }
  for (const char* raw : {"", " ", R"(\n \t)", R"(\u0020a)", R"(a\u00A0)", R"(\u001ca)",
                          "\xC2\xA0\x61", "a\xE3\x80\x80", "a\xE2\x80\xA8", "\xC2\x85"}) {
    EXPECT_FALSE(IsOpen(raw)) << raw;
  }
}

TEST(OpenText, LeavesBlanksAndLineEndsAroundItOut) {
  EXPECT_EQ(OpenPart("  a b "), "a b");
  EXPECT_EQ(OpenPart(R"( \n\ta\r\n )"), "a");
  EXPECT_EQ(OpenPart(R"(a\\n)"), R"(a\\n)");
  EXPECT_EQ(OpenPart(R"(a\\\n)"), R"(a\\)");
  EXPECT_EQ(OpenPart(R"(\"\n)"), R"(\")");
  EXPECT_EQ(OpenPart(R"( \u0020a)"), std::nullopt);
}

TEST(OpenText, HoldsNoMarkHoweverItIsWritten) {
  for (const char* raw : {"<think>", "</think", "a < b", "< /think>", "<|", R"(\u003d)", "x<",
                          R"(a <\n)", R"(\u00e9)", R"(\u65e5)"}) {
    // A backslash within what may be a mark is not looked behind.
    EXPECT_EQ(IsOpen(raw), std::string_view(raw) != R"(a <\n)") << raw;
  }
  for (const char* raw : {"a</think>b", "</think>", R"(<\/think>)", R"(\u003c/think>)",
                          R"(\u003C|x)", "<|x", R"(<|\u0078)"}) {
    EXPECT_FALSE(IsOpen(raw)) << raw;
  }
}

TEST(OpenText, NoTextIsOpenToATemplateThatIsNot) {
  const OpenText closed({.opaque = false, .marks = {}, .reason = "x"});
  EXPECT_FALSE(closed.OpenPart({.bytes = "a"}).has_value());
}

}  // namespace
}  // namespace warmpath::prompt
