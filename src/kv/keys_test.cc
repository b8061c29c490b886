#include "kv/keys.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

namespace warmpath::kv {
namespace {

std::vector<TokenId> Tokens(size_t n) {
  std::vector<TokenId> tokens(n);
  std::iota(tokens.begin(), tokens.end(), 1u);
  return tokens;
}

TEST(Keys, RootsDifferByBlockSizeLoraAndSalt) {
  const std::set<BlockKey> roots = {
      RootKey(16, "", ""),   RootKey(32, "", ""),   RootKey(16, "a", ""), RootKey(16, "", "a"),
      RootKey(16, "a", "b"), RootKey(16, "ab", ""), RootKey(16, "", "ab")};
  EXPECT_EQ(roots.size(), 7u);
  EXPECT_EQ(RootKey(16, "a", "b"), RootKey(16, "a", "b"));
}

TEST(Keys, ChainOverFullBlocksOnly) {
  const auto tokens = Tokens(50);
  const BlockKey root = RootKey(16, "", "");
  const auto keys = PrefixKeys(root, tokens, 16);
  ASSERT_EQ(keys.size(), 3u);
  BlockKey parent = root;
  for (size_t i = 0; i < 3; ++i) {
    parent = ChildKey(parent, std::span(tokens).subspan(i * 16, 16));
    EXPECT_EQ(keys[i], parent);
  }
  EXPECT_TRUE(PrefixKeys(root, std::span(tokens).first(15), 16).empty());
  EXPECT_TRUE(PrefixKeys(root, tokens, 0).empty());
}

TEST(Keys, AChangeInOneTokenChangesEveryLaterKey) {
  auto tokens = Tokens(48);
  const auto before = PrefixKeys(1, tokens, 16);
  tokens[20] += 1;
  const auto after = PrefixKeys(1, tokens, 16);
  EXPECT_EQ(before[0], after[0]);
  EXPECT_NE(before[1], after[1]);
  EXPECT_NE(before[2], after[2]);
}

TEST(Keys, ExtraAndParentEnterTheKey) {
  const auto tokens = Tokens(16);
  EXPECT_NE(ChildKey(1, tokens), ChildKey(2, tokens));
  EXPECT_NE(ChildKey(1, tokens), ChildKey(1, tokens, "x"));
  EXPECT_NE(ChildKey(1, tokens, "y"), ChildKey(1, tokens, "x"));
  // A block that starts a chain and the same tokens one block later are different blocks.
  const auto twice = PrefixKeys(
      1,
      [] {
        auto t = Tokens(16);
        t.insert(t.end(), t.begin(), t.begin() + 16);
        return t;
      }(),
      16);
  EXPECT_NE(twice[0], twice[1]);
}

TEST(Keys, AChainIsItsBlocksOneByOne) {
  for (const size_t block_size : {1u, 4u, 16u, 64u, 128u}) {
    const auto tokens = Tokens(3 * block_size);
    for (const std::vector<std::string>& extras :
         {std::vector<std::string>(), std::vector<std::string>{"", "x", ""}}) {
      std::vector<BlockKey> keys(3);
      ChainKeys(7, tokens, extras, keys);
      BlockKey parent = 7;
      for (size_t i = 0; i < 3; ++i) {
        parent = ChildKey(parent, std::span(tokens).subspan(i * block_size, block_size),
                          extras.empty() ? "" : extras[i]);
        EXPECT_EQ(keys[i], parent) << block_size << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace warmpath::kv
