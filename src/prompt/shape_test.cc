#include "prompt/shape.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "prompt/chunker.h"
#include "prompt/tiny_tokenizer.h"
#include "prompt/words.h"

namespace warmpath::prompt {
namespace {

std::shared_ptr<const Tokenizer> Tiny(const std::string& chat_template) {
  const auto dir =
      std::filesystem::temp_directory_path() / fmt::format("warmpath-shape-{}", getpid());
  WriteTinyTokenizer(dir, chat_template);
  auto tokenizer = Tokenizer::Load(dir.string()).value();
  std::filesystem::remove_all(dir);
  return tokenizer;
}

// A chat body with stand-ins as the contents of messages of these roles.
std::string Body(const std::vector<std::string>& roles) {
  std::string messages;
  for (size_t i = 0; i < roles.size(); ++i) {
    messages += (i == 0 ? "" : ",") + fmt::format(R"({{"role":"{}","content":")", roles[i]);
    AppendStandIn(i, messages);
    messages += "\"}";
  }
  return R"({"messages":[)" + messages + "]}";
}

// Literals and in brackets the numbers of the texts between them.
std::string Print(const ShapePtr& shape) {
  if (shape == nullptr) return "none";
  std::string out;
  for (size_t i = 0; i < shape->literals.size(); ++i) {
    out += shape->literals[i].text;
    if (i < shape->gaps.size()) out += fmt::format("[{}]", shape->gaps[i]);
  }
  return out;
}

TEST(Shape, HasGapsWhereTheTextsGo) {
  const auto tokenizer = Tiny(kTinyTemplate);
  const ShapePtr shape = MakeShape(*tokenizer, Body({"system", "user"}), 2, 0);
  EXPECT_EQ(Print(shape), "<s><turn>system: [0]<end>\n<turn>user: [1]<end>\n<turn>assistant: ");
  ASSERT_EQ(shape->literals.size(), 3u);
  EXPECT_EQ(shape->literals[0].ends, (std::vector<uint64_t>{3, 9}));
  EXPECT_EQ(shape->literals[1].ends, (std::vector<uint64_t>{5, 12}));
}

TEST(Shape, TextsMayComeTwiceOrNotAtAllAndInAnyOrder) {
  const auto tokenizer = Tiny(
      "{{ messages[-1].content }}.{% for m in messages %}{% if m.role == 'user' %}{{ m.content }};"
      "{% endif %}{% endfor %}");
  EXPECT_EQ(Print(MakeShape(*tokenizer, Body({"user", "system", "user"}), 3, 0)), "[2].[0];[2];");
}

TEST(Shape, ThereIsNoneOfABodyThatCannotBeRenderedOrHoldsMoreStandIns) {
  const auto tokenizer = Tiny(kTinyTemplate);
  EXPECT_EQ(Print(MakeShape(*tokenizer, R"({"messages":7})", 0, 0)), "none");
  EXPECT_EQ(Print(MakeShape(*tokenizer, Body({"user", "user"}), 1, 0)), "none");
}

ShapePtr OfText(const std::string& text) {
  Shape shape;
  shape.literals.push_back({text, {}});
  return std::make_shared<const Shape>(std::move(shape));
}

TEST(ShapeCache, StaysWithinItsBytesAndKeepsWhatIsUsed) {
  ShapeCache cache(256 << 10);
  EXPECT_FALSE(cache.Find("hot"));
  cache.Put("none", nullptr);
  ASSERT_TRUE(cache.Find("none"));
  EXPECT_EQ(*cache.Find("none"), nullptr);
  for (int i = 0; i < 5000; ++i) {
    cache.Put("hot", OfText("hot"));
    cache.Put("shape " + std::to_string(i), OfText(std::string(200, 'x')));
    ASSERT_TRUE(cache.Find("hot")) << i;
    ASSERT_LE(cache.bytes(), size_t{256} << 10);
  }
  EXPECT_FALSE(cache.Find("shape 0"));
  EXPECT_TRUE(cache.Find("shape 4999"));
  ShapeCache none(0);
  none.Put("a", OfText("a"));
  EXPECT_FALSE(none.Find("a"));
}

TEST(ShapeCache, ThreadsShareIt) {
  ShapeCache cache(1 << 18);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&cache] {
      for (int i = 0; i < 4000; ++i) {
        const std::string key = "shape " + std::to_string(i % 700);
        if (const auto shape = cache.Find(key)) {
          EXPECT_EQ((*shape)->literals[0].text, key);
        } else {
          cache.Put(key, OfText(key));
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_LE(cache.bytes(), size_t{1} << 18);
}

// Sizes of the chunks, the rest last.
std::vector<size_t> Chunks(const std::vector<Stretch>& stretches, bool between_words) {
  Chunker chunker(stretches, between_words);
  std::vector<size_t> sizes;
  std::vector<TextSpan> chunk;
  const auto size = [&] {
    size_t sum = 0;
    for (const TextSpan& span : chunk) sum += span.bytes.size();
    return sum;
  };
  while (chunker.Next(chunk)) sizes.push_back(size());
  sizes.push_back(size());
  return sizes;
}

TEST(Chunker, CutsBehindSpecialTokensThatAreFarEnoughApart) {
  const std::string text(1000, 'x');
  const std::vector<uint64_t> ends = {10, 300, 310, 700};
  EXPECT_EQ(Chunks({{{text, false}, ends}}, false), (std::vector<size_t>{300, 400, 300}));
  const std::vector<uint64_t> early = {5};
  EXPECT_EQ(Chunks({{{text, true}, {}}, {{"<end>ab", false}, early}}, false),
            (std::vector<size_t>{1005, 2}));
  EXPECT_EQ(Chunks({}, true), (std::vector<size_t>{0}));
}

TEST(Chunker, CutsLongTextsBetweenWords) {
  const std::string start(3100, '.');
  EXPECT_EQ(Chunks({{{start + "a b" + start, false}, {}}}, true),
            (std::vector<size_t>{3101, 3102}));
  EXPECT_EQ(Chunks({{{start + "a b" + start, false}, {}}}, false), (std::vector<size_t>{6203}));
  for (const char* no_cut : {"a  b", "1 b", "a 1", "a\tb", "a ", " b"}) {
    EXPECT_EQ(Chunks({{{start + no_cut + start, false}, {}}}, true).size(), 1u) << no_cut;
  }
  // The letter may belong to an escape.
  EXPECT_EQ(Chunks({{{start + R"(\n b)" + start, true}, {}}}, true).size(), 1u);
  EXPECT_EQ(Chunks({{{start + R"(\u00ee b)" + start, true}, {}}}, true).size(), 1u);
  EXPECT_EQ(Chunks({{{start + R"(\u00ee b)" + start, false}, {}}}, true).size(), 2u);
  EXPECT_EQ(Chunks({{{start + R"(\nabcdef b)" + start, true}, {}}}, true).size(), 2u);
  // The second letter is in the next stretch.
  EXPECT_EQ(Chunks({{{start + "a ", true}, {}}, {{"b", false}, {}}}, true).size(), 1u);
}

TEST(Words, AreMeasuredAcrossPiecesOfText) {
  const std::string half(kMaxWordBytes / 2, 'a');
  WordRun run;
  EXPECT_TRUE(ContinueWords("1 " + half, run));
  EXPECT_EQ(run.size, half.size());
  EXPECT_TRUE(ContinueWords(half, run));
  EXPECT_EQ(run.size, kMaxWordBytes);
  WordRun on = run;
  EXPECT_FALSE(ContinueWords("a", on));
  EXPECT_TRUE(ContinueWords(" a", run));
  EXPECT_EQ(run.size, 1u);
  EXPECT_TRUE(ContinueWords("", run));
  EXPECT_TRUE(ContinueWords(half + " " + half + half, run));
  WordRun fresh;
  EXPECT_FALSE(ContinueWords(half + half + "b c", fresh));
}

}  // namespace
}  // namespace warmpath::prompt
