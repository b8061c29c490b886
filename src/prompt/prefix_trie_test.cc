#include "prompt/prefix_trie.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>

#include "kv/keys.h"

namespace warmpath::prompt {
namespace {

std::vector<kv::TokenId> IdsOf(std::string_view text) {
  return {text.begin(), text.end()};
}

PrefixNodePtr Put(PrefixTrie& trie, const PrefixNodePtr& parent, std::string_view text,
                  bool raw = false) {
  const TextSpan span{text, raw};
  if (auto known = trie.Find(parent, std::span(&span, 1))) return known;
  return trie.Add(parent, std::span(&span, 1), {IdsOf(text), text.size(), {}});
}

PrefixNodePtr Find(PrefixTrie& trie, const PrefixNodePtr& parent, std::string_view text,
                   bool raw = false) {
  const TextSpan span{text, raw};
  return trie.Find(parent, std::span(&span, 1));
}

TEST(PrefixTrie, FindsAChunkBelowItsOwnParentOnly) {
  PrefixTrie trie(1 << 20);
  const auto root = PrefixTrie::MakeRoot({});
  const auto other = PrefixTrie::MakeRoot({});
  const auto a = Put(trie, root, "abc");
  const auto b = Put(trie, a, "def");
  EXPECT_EQ(b->tokens(), 6u);
  EXPECT_EQ(Find(trie, root, "abc"), a);
  EXPECT_EQ(Find(trie, a, "def"), b);
  EXPECT_EQ(Find(trie, root, "def"), nullptr);
  EXPECT_EQ(Find(trie, other, "abc"), nullptr);
  EXPECT_EQ(Find(trie, root, "abc", true), nullptr);
  EXPECT_EQ(Find(trie, root, "ab"), nullptr);
}

TEST(PrefixTrie, TellsStretchesOfTheSameBytesApart) {
  PrefixTrie trie(1 << 20);
  const auto root = PrefixTrie::MakeRoot({});
  const std::vector<TextSpan> literal_first = {{"a\\n", false}, {"b\\n", true}};
  const std::vector<TextSpan> raw_first = {{"a\\n", true}, {"b\\n", false}};
  const std::vector<TextSpan> cut_elsewhere = {{"a\\nb", false}, {"\\n", true}};
  const auto node = trie.Add(root, literal_first, {IdsOf("x"), 1, {}});
  EXPECT_EQ(trie.Find(root, literal_first), node);
  EXPECT_EQ(trie.Find(root, raw_first), nullptr);
  EXPECT_EQ(trie.Find(root, cut_elsewhere), nullptr);
  std::string text;
  node->AppendText(text);
  EXPECT_EQ(text, "a\\nb\n");
}

TEST(PrefixTrie, ForgetsTheLeavesNotUsedForLongest) {
  constexpr size_t kBytes = 200'000;
  PrefixTrie trie(kBytes);
  const auto root = PrefixTrie::MakeRoot({});
  const std::string filler(400, 'x');
  const auto stem = Put(trie, root, "stem");
  Put(trie, stem, "kept");
  for (int i = 0; i < 2000; ++i) {
    Put(trie, stem, filler + std::to_string(i));
    ASSERT_NE(Find(trie, root, "stem"), nullptr);
    ASSERT_NE(Find(trie, stem, "kept"), nullptr);
    ASSERT_LE(trie.bytes(), kBytes);
  }
  EXPECT_EQ(Find(trie, stem, filler + "0"), nullptr);
  EXPECT_NE(Find(trie, stem, filler + "1999"), nullptr);
}

TEST(PrefixTrie, ALongPathGoesFromItsEndAndIsLetGoOfWithoutRecursion) {
  PrefixTrie trie(100'000'000);
  const auto root = PrefixTrie::MakeRoot({});
  PrefixNodePtr node = root;
  for (int i = 0; i < 100'000; ++i) node = Put(trie, node, "x");
  EXPECT_EQ(node->tokens(), 100'000u);
  const auto branch = Put(trie, root, "y");
  {
    PrefixTrie small(2'000'000);
    PrefixNodePtr end = root;
    for (int i = 0; i < 20'000; ++i) end = Put(small, end, "z");
    EXPECT_LE(small.bytes(), 2'000'000u);
    EXPECT_EQ(end->tokens(), 20'000u);
  }
}

TEST(PrefixTrie, AChunkTooLargeToKeepStillHasANode) {
  PrefixTrie trie(16'000);
  const auto root = PrefixTrie::MakeRoot({});
  const std::string large(10'000, 'x');
  const auto node = Put(trie, root, large);
  EXPECT_EQ(node->tokens(), 10'000u);
  EXPECT_EQ(Find(trie, root, large), nullptr);
  const auto below = Put(trie, node, "abc");
  EXPECT_EQ(below->tokens(), 10'003u);
  EXPECT_EQ(trie.bytes(), 0u);
}

TEST(PrefixTrie, KeysOfAChainAreThoseOfItsIds) {
  PrefixTrie trie(1 << 20);
  std::mt19937 random(7);
  for (const bool with_start : {false, true}) {
    const auto root =
        PrefixTrie::MakeRoot(with_start ? std::vector<kv::TokenId>{9} : std::vector<kv::TokenId>{});
    for (int round = 0; round < 200; ++round) {
      PrefixNodePtr node = root;
      std::vector<kv::TokenId> all = root->ids();
      for (size_t chunks = random() % 8; chunks > 0; --chunks) {
        const std::string text(1 + random() % 40, static_cast<char>('a' + random() % 2));
        node = Put(trie, node, text);
        const auto ids = IdsOf(text);
        all.insert(all.end(), ids.begin(), ids.end());
      }
      const std::vector<kv::TokenId> tail(random() % 30, 5);
      all.insert(all.end(), tail.begin(), tail.end());
      for (const uint32_t block_size : {1u, 3u, 16u, 64u}) {
        const kv::BlockKey key = kv::RootKey(block_size, "", std::to_string(random() % 3));
        ASSERT_EQ(KeysOfChain(*node, tail, key, block_size), kv::PrefixKeys(key, all, block_size));
      }
    }
  }
}

TEST(PrefixTrie, KeysOfLongChainsThatBranchAreThoseOfTheirIds) {
  PrefixTrie trie(16 << 20);
  const auto root = PrefixTrie::MakeRoot({9, 9, 9});
  std::mt19937 random(11);
  std::vector<PrefixNodePtr> path;
  for (int round = 0; round < 150; ++round) {
    // Goes on from anywhere in the path before.
    path.resize(random() % (path.size() + 1));
    for (size_t chunks = random() % 60; chunks > 0; --chunks) {
      const std::string text(1 + random() % 90, static_cast<char>('a' + random() % 26));
      path.push_back(Put(trie, path.empty() ? root : path.back(), text));
    }
    std::vector<kv::TokenId> all = root->ids();
    for (const auto& node : path) all.insert(all.end(), node->ids().begin(), node->ids().end());
    const std::vector<kv::TokenId> tail(random() % 30, 5);
    all.insert(all.end(), tail.begin(), tail.end());
    const uint32_t block_size = std::vector<uint32_t>{1, 8, 16, 48, 64}[random() % 5];
    const kv::BlockKey key = kv::RootKey(block_size, "", std::to_string(random() % 2));
    ASSERT_EQ(KeysOfChain(path.empty() ? *root : *path.back(), tail, key, block_size),
              kv::PrefixKeys(key, all, block_size));
  }
}

// Nothing but a child that is let go of holds it any more, and another thread finds it just then.
TEST(PrefixTrie, ANodeFoundWhileItIsLetGoOfIsWhole) {
  for (int round = 0; round < 3000; ++round) {
    auto trie = std::make_unique<PrefixTrie>(1 << 20);
    const auto root = PrefixTrie::MakeRoot({});
    const PrefixNodePtr above = Put(*trie, root, "above");
    PrefixNodePtr last = Put(*trie, Put(*trie, above, "node"), "last");
    trie.reset();
    std::atomic<bool> looking{false};
    std::thread other([&] {
      while (const PrefixNodePtr node = above->LatestChild()) {
        looking = true;
        ASSERT_EQ(node->parent(), above);
      }
    });
    while (!looking) std::this_thread::yield();
    last.reset();
    other.join();
  }
}

TEST(PrefixTrie, ThreadsShareOneTrieWhileItForgets) {
  PrefixTrie trie(60'000);
  const auto root = PrefixTrie::MakeRoot({});
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed);
      for (int round = 0; round < 2000; ++round) {
        PrefixNodePtr node = root;
        std::vector<kv::TokenId> all;
        for (int depth = 0; depth < 6; ++depth) {
          const std::string text(20 + random() % 4, static_cast<char>('a' + random() % 4));
          node = Put(trie, node, text);
          const auto ids = IdsOf(text);
          all.insert(all.end(), ids.begin(), ids.end());
        }
        ASSERT_EQ(KeysOfChain(*node, {}, 1, 16), kv::PrefixKeys(1, all, 16));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_LE(trie.bytes(), 60'000u);
}

}  // namespace
}  // namespace warmpath::prompt
