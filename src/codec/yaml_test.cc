#include "codec/yaml.h"

#include <gtest/gtest.h>

#include <string>

namespace warmpath::codec {
namespace {

TEST(Yaml, KeepsOrderLinesAndQuoting) {
  const auto root = ParseYaml("b: 1\na:\n  - x: \"2\"\n    y: [1, two]\n  - |\n    text\nn:\n");
  ASSERT_TRUE(root) << root.error().message;
  ASSERT_EQ(root->members.size(), 3u);
  EXPECT_EQ(root->members[0].key, "b");
  const YamlNode& a = *root->Find("a");
  EXPECT_EQ(a.items[0].Find("x")->line, 3);
  EXPECT_TRUE(a.items[0].Find("x")->quoted);
  EXPECT_EQ(a.items[0].Find("y")->line, 4);
  EXPECT_TRUE(root->Find("n")->is_null());
  EXPECT_EQ(DumpJson(YamlToJson(*root)),
            R"({"b":1,"a":[{"x":"2","y":[1,"two"]},"text\n"],"n":null})");
}

TEST(Yaml, ReadsJsonText) {
  EXPECT_EQ(DumpJson(YamlToJson(*ParseYaml(R"({"a": [1, 2.5, true, null, "x"], "b": {"c": -3}})"))),
            R"({"a":[1,2.5,true,null,"x"],"b":{"c":-3}})");
}

TEST(Yaml, ResolvesScalarsByTheCoreSchema) {
  const auto scalar = [](const char* text) { return *ParseYaml(text); };
  EXPECT_EQ(scalar("0x10").AsInt(), 16);
  EXPECT_EQ(scalar("-9223372036854775808").AsInt(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(scalar("9223372036854775808").AsInt(), std::nullopt);
  EXPECT_EQ(scalar("1e3").AsDouble(), 1000.0);
  EXPECT_EQ(scalar("-.5").AsDouble(), -0.5);
  EXPECT_EQ(scalar("\"5\"").AsInt(), std::nullopt);
  EXPECT_EQ(scalar("yes").AsBool(), true);
  EXPECT_EQ(scalar("inf").AsDouble(), std::nullopt);
  EXPECT_EQ(scalar("1.2.3").AsDouble(), std::nullopt);
  EXPECT_EQ(scalar("5m").AsInt(), std::nullopt);
}

TEST(Yaml, NamesTheLineOfErrors) {
  EXPECT_EQ(ParseYaml("a: 1\nb: 2\na: 3\n").error().message, "line 3: key \"a\" is given twice");
  EXPECT_EQ(ParseYaml("a: [1\nb: 2\n").error().message.substr(0, 5), "line ");
  EXPECT_FALSE(ParseYaml("? [a]\n: b\n"));
  EXPECT_EQ(ParseYaml("a: 1\n---\nb: 2\n").error().message.substr(0, 7), "line 3:");
}

TEST(Yaml, ReadsStreams) {
  const auto documents = ParseYamlStream("a: 1\n---\nb: 2\n---\n- 3\n");
  ASSERT_TRUE(documents);
  EXPECT_EQ(documents->size(), 3u);
  EXPECT_TRUE(ParseYaml("")->is_null());
  EXPECT_TRUE(ParseYaml("# only a comment\n")->is_null());
}

TEST(Yaml, ExpandsAliasesWithinBounds) {
  EXPECT_EQ(DumpJson(YamlToJson(*ParseYaml("a: &x {k: 1}\nb: *x\n"))),
            R"({"a":{"k":1},"b":{"k":1}})");
  EXPECT_FALSE(ParseYaml("a: &x [*x]\n"));
  EXPECT_FALSE(ParseYaml("a: *nobody\n"));
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 12; ++i) {
    std::string refs;
    for (int k = 0; k < 10; ++k) refs += (k ? ",*a" : "*a") + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + refs + "]\n";
  }
  EXPECT_EQ(ParseYaml(bomb).error().code, Code::kOutOfBounds);
}

TEST(Yaml, BoundsDepthAndBytes) {
  EXPECT_TRUE(ParseYaml(std::string(64, '[') + std::string(64, ']')));
  EXPECT_FALSE(ParseYaml(std::string(65, '[') + std::string(65, ']')));
  EXPECT_FALSE(ParseYaml(std::string(100'000, '[')));
  EXPECT_FALSE(ParseYaml("a: b", {.max_bytes = 3}));
}

}  // namespace
}  // namespace warmpath::codec
