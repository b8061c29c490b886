#include "sim/block_pool.h"

#include <gtest/gtest.h>

namespace warmpath::sim {
namespace {

using Ids = std::vector<BlockPool::BlockId>;

BlockHash H(uint8_t n) {
  BlockHash hash{};
  hash[0] = hash[31] = n;
  return hash;
}

struct Chain {
  std::vector<BlockHash> hashes;
  std::vector<kv::TokenId> tokens;
};

Chain MakeChain(uint8_t first, size_t blocks, uint32_t block_size) {
  Chain chain;
  for (size_t i = 0; i < blocks; ++i) chain.hashes.push_back(H(static_cast<uint8_t>(first + i)));
  for (size_t i = 0; i < blocks * block_size; ++i)
    chain.tokens.push_back(first * 1000u + static_cast<uint32_t>(i));
  return chain;
}

Ids Put(BlockPool& pool, const Chain& chain) {
  Ids ids;
  pool.Allocate(chain.hashes.size(), ids);
  pool.Store(ids, 0, chain.hashes, chain.tokens, std::make_shared<CacheScope>());
  return ids;
}

TEST(BlockPool, KeepsOneNullBlock) {
  BlockPool pool(8, 4);
  EXPECT_EQ(pool.usable_blocks(), 7u);
  EXPECT_EQ(pool.free_blocks(), 7u);
}

TEST(BlockPool, AStoredRunIsOneEventWithItsTokensAndParent) {
  BlockPool pool(8, 4);
  Chain chain = MakeChain(1, 3, 4);
  Ids ids;
  pool.Allocate(3, ids);
  pool.Store(std::span(ids).first(1), 0, chain.hashes, chain.tokens, nullptr);
  pool.Store(std::span(ids).subspan(1), 1, chain.hashes, chain.tokens, nullptr);
  auto events = pool.TakeEvents();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_FALSE(events[0].parent);
  EXPECT_EQ(events[0].tokens.size(), 4u);
  EXPECT_EQ(events[1].parent, H(1));
  EXPECT_EQ(events[1].hashes, (std::vector{H(2), H(3)}));
  EXPECT_EQ(events[1].tokens.front(), 1004u);
}

TEST(BlockPool, FreedBlocksStayHitsUntilReusedAndTheTailGoesFirst) {
  BlockPool pool(5, 4);
  Chain chain = MakeChain(1, 4, 4);
  pool.Free(Put(pool, chain));
  pool.TakeEvents();
  EXPECT_EQ(pool.FindPrefix(chain.hashes).size(), 4u);

  Ids taken;
  pool.Allocate(2, taken);
  auto events = pool.TakeEvents();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].hashes, std::vector{H(4)});
  EXPECT_EQ(events[1].hashes, std::vector{H(3)});
  EXPECT_EQ(pool.FindPrefix(chain.hashes).size(), 2u);
}

TEST(BlockPool, ReferencedBlocksAreNotEvicted) {
  BlockPool pool(5, 4);
  Chain chain = MakeChain(1, 2, 4);
  Ids ids = Put(pool, chain);
  pool.Free(ids);
  pool.Touch(pool.FindPrefix(std::span(chain.hashes).first(1)));
  EXPECT_EQ(pool.free_blocks(), 3u);
  Ids taken;
  pool.Allocate(3, taken);
  EXPECT_EQ(pool.FindPrefix(chain.hashes).size(), 1u);
  EXPECT_FALSE(pool.Reset());
}

TEST(BlockPool, ADuplicateSurvivesTheRemovalOfTheOther) {
  BlockPool pool(4, 4);
  Chain chain = MakeChain(1, 1, 4);
  Ids first = Put(pool, chain);
  Ids second = Put(pool, chain);
  EXPECT_EQ(pool.FindPrefix(chain.hashes), first);
  pool.Free(first);
  Ids taken;
  pool.Allocate(2, taken);  // the empty block and `first`
  EXPECT_EQ(pool.FindPrefix(chain.hashes), second);
  EXPECT_EQ(pool.cached_blocks(), 1u);
}

TEST(BlockPool, EmptyFreedBlocksAreReusedFirst) {
  BlockPool pool(4, 4);
  Chain chain = MakeChain(1, 2, 4);
  Ids ids = Put(pool, chain);
  pool.Allocate(1, ids);
  pool.Free(ids);
  pool.TakeEvents();
  Ids taken;
  pool.Allocate(1, taken);
  EXPECT_TRUE(pool.TakeEvents().empty());
}

TEST(BlockPool, ResetForgetsEverythingWithOneEvent) {
  BlockPool pool(8, 4);
  Chain chain = MakeChain(1, 3, 4);
  pool.Free(Put(pool, chain));
  pool.TakeEvents();
  EXPECT_TRUE(pool.Reset());
  auto events = pool.TakeEvents();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, CacheEvent::Kind::kCleared);
  EXPECT_TRUE(pool.FindPrefix(chain.hashes).empty());
  EXPECT_TRUE(pool.Residents().empty());
}

}  // namespace
}  // namespace warmpath::sim
