#include "index/kv_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace warmpath::index {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr kv::BlockKey kRoot = 7;
const Holder kA{1, 0};
const Holder kB{2, 0};

// Blocks first..last of the chain `base`, with engine hashes equal to key + 1,000,000.
std::vector<BlockAlias> Blocks(kv::BlockKey base, uint64_t first, uint64_t last) {
  std::vector<BlockAlias> blocks;
  for (uint64_t i = first; i <= last; ++i) blocks.push_back({base + i, base + i + 1'000'000});
  return blocks;
}
std::vector<kv::BlockKey> Keys(kv::BlockKey base, uint64_t count) {
  std::vector<kv::BlockKey> keys;
  for (uint64_t i = 0; i < count; ++i) keys.push_back(base + i);
  return keys;
}
kv::EngineHash HashOf(kv::BlockKey key) {
  return key + 1'000'000;
}

// "endpoint/rank:blocks,gpu,expected" per holder.
std::vector<std::string> Show(const std::vector<HolderMatch>& matches) {
  std::vector<std::string> out;
  for (const HolderMatch& m : matches) {
    out.push_back(std::to_string(m.holder.endpoint) + "/" + std::to_string(m.holder.rank) + ":" +
                  std::to_string(m.blocks) + "," + std::to_string(m.gpu_blocks) + "," +
                  std::to_string(m.expected_blocks));
  }
  return out;
}

class KvIndexTest : public ::testing::Test {
 protected:
  size_t StoreChain(Holder holder, kv::BlockKey base, uint64_t count, Tier tier = Tier::kGpu,
                    uint32_t group = 0) {
    return index_.Store(holder, tier, group, kRoot, Blocks(base, 0, count - 1));
  }
  size_t RemoveOne(Holder holder, kv::BlockKey key, Tier tier = Tier::kGpu, uint32_t group = 0) {
    return index_.Remove(holder, tier, group, std::vector<kv::EngineHash>{HashOf(key)});
  }
  std::vector<std::string> Match(kv::BlockKey base, uint64_t count) {
    return Show(index_.Match(Keys(base, count)));
  }

  KvIndex index_{64 * kMiB};
};

TEST_F(KvIndexTest, CountsConsecutiveBlocksPerHolder) {
  EXPECT_EQ(StoreChain(kA, 100, 5), 5u);
  EXPECT_EQ(StoreChain(kB, 100, 3), 3u);
  EXPECT_THAT(Match(100, 10), ElementsAre("1/0:5,5,5", "2/0:3,3,3"));
  EXPECT_THAT(Match(100, 4), ElementsAre("1/0:4,4,4", "2/0:3,3,3"));
  EXPECT_THAT(Match(500, 4), IsEmpty());
  EXPECT_THAT(index_.Match({}), IsEmpty());
}

TEST_F(KvIndexTest, StopsAtEachHoldersFirstHole) {
  StoreChain(kA, 100, 6);
  StoreChain(kB, 100, 6);
  RemoveOne(kA, 102);
  RemoveOne(kB, 100);
  EXPECT_THAT(Match(100, 6), ElementsAre("1/0:2,2,2"));
  // The hole filled, everything behind it counts again.
  index_.Store(kA, Tier::kGpu, 0, 101, Blocks(100, 2, 2));
  EXPECT_THAT(Match(100, 6), ElementsAre("1/0:6,6,6"));
}

TEST_F(KvIndexTest, KeepsRanksOfOneEndpointApart) {
  StoreChain({1, 0}, 100, 2);
  StoreChain({1, 1}, 100, 4);
  EXPECT_THAT(Match(100, 4), ElementsAre("1/0:2,2,2", "1/1:4,4,4"));
  EXPECT_EQ(index_.EndpointBlocks(1), 6u);
  EXPECT_EQ(index_.ResidentBlocks({1, 1}), 4u);
  EXPECT_EQ(index_.ClearEndpoint(1), 6u);
  EXPECT_THAT(Match(100, 4), IsEmpty());
  EXPECT_EQ(index_.stats().evicted_cleared, 6u);
}

TEST_F(KvIndexTest, TellsGpuBlocksFromOffloadedOnes) {
  StoreChain(kA, 100, 2);
  index_.Store(kA, Tier::kCpu, 0, 101, Blocks(100, 2, 3));
  EXPECT_THAT(Match(100, 5), ElementsAre("1/0:4,2,4"));
  EXPECT_EQ(index_.StoreKnown(kA, Tier::kCpu, 0, std::vector<kv::EngineHash>{HashOf(100), 5}), 1u);
  EXPECT_EQ(RemoveOne(kA, 100), 1u);
  EXPECT_THAT(Match(100, 5), ElementsAre("1/0:4,0,4"));
  EXPECT_EQ(index_.ClearTier(kA, Tier::kGpu), 1u);
  EXPECT_EQ(index_.stats().entries, 3u);
}

TEST_F(KvIndexTest, SecondCopyNeedsASecondRemoval) {
  StoreChain(kA, 100, 2);
  EXPECT_EQ(StoreChain(kA, 100, 2), 0u);
  EXPECT_EQ(RemoveOne(kA, 101), 0u);
  EXPECT_THAT(Match(100, 2), ElementsAre("1/0:2,2,2"));
  EXPECT_EQ(RemoveOne(kA, 101), 1u);
  EXPECT_THAT(Match(100, 2), ElementsAre("1/0:1,1,1"));
  EXPECT_EQ(RemoveOne(kA, 101), 0u);
  const IndexStats stats = index_.stats();
  EXPECT_EQ(stats.admissions, 2u);
  EXPECT_EQ(stats.duplicate_stores, 2u);
  EXPECT_EQ(stats.unknown_removals, 1u);
  EXPECT_EQ(stats.evicted_removed, 1u);
}

TEST_F(KvIndexTest, GroupsAreSeparateNamesOfTheSameResidency) {
  StoreChain(kA, 100, 2, Tier::kGpu, 0);
  EXPECT_EQ(StoreChain(kA, 100, 2, Tier::kGpu, 5), 0u);
  EXPECT_EQ(RemoveOne(kA, 100, Tier::kGpu, 0), 0u);
  EXPECT_EQ(index_.Find(kA, 0, HashOf(100)), std::nullopt);
  EXPECT_EQ(index_.Find(kA, 5, HashOf(100)), 100u);
  EXPECT_EQ(RemoveOne(kA, 100, Tier::kGpu, 5), 1u);
  EXPECT_EQ(index_.Dump(kA, 0).size(), 1u);
}

TEST_F(KvIndexTest, NameGivenToAnotherBlockLeavesTheOldOne) {
  index_.Store(kA, Tier::kGpu, 0, kRoot, std::vector<BlockAlias>{{100, 9}});
  index_.Store(kA, Tier::kGpu, 0, kRoot, std::vector<BlockAlias>{{200, 9}});
  EXPECT_THAT(Match(100, 1), IsEmpty());
  EXPECT_THAT(Match(200, 1), ElementsAre("1/0:1,1,1"));
  EXPECT_EQ(index_.stats().blocks, 1u);
}

TEST_F(KvIndexTest, FindKnowsOnlyWhatThisHolderAnnounced) {
  StoreChain(kA, 100, 1);
  EXPECT_EQ(index_.Find(kA, 0, HashOf(100)), 100u);
  EXPECT_EQ(index_.Find(kB, 0, HashOf(100)), std::nullopt);
  EXPECT_EQ(index_.Find(kA, 0, HashOf(101)), std::nullopt);
}

TEST_F(KvIndexTest, HoldsCountAsExpectedUntilReleased) {
  StoreChain(kA, 100, 2);
  const HoldId a = index_.Hold(kA, Keys(100, 5));
  const HoldId b = index_.Hold(kB, Keys(100, 3));
  EXPECT_THAT(Match(100, 8), ElementsAre("1/0:2,2,5", "2/0:0,0,3"));
  EXPECT_THAT(Match(100, 4), ElementsAre("1/0:2,2,4", "2/0:0,0,3"));
  EXPECT_EQ(index_.stats().holds, 2u);
  EXPECT_EQ(index_.stats().entries, 2u);
  index_.Release(a);
  index_.Release(a);
  index_.Release(b);
  index_.Release(0);
  EXPECT_THAT(Match(100, 8), ElementsAre("1/0:2,2,2"));
}

TEST_F(KvIndexTest, HoldBridgesAHoleInWhatIsResident) {
  StoreChain(kA, 100, 6);
  RemoveOne(kA, 101);
  index_.Hold(kA, Keys(100, 3));
  EXPECT_THAT(Match(100, 8), ElementsAre("1/0:1,1,6"));
}

TEST_F(KvIndexTest, HoldSurvivesTheEndOfItsEndpointsBlocks) {
  StoreChain(kA, 100, 4);
  const HoldId id = index_.Hold(kA, Keys(100, 4));
  index_.ClearEndpoint(kA.endpoint);
  EXPECT_THAT(Match(100, 4), ElementsAre("1/0:0,0,4"));
  index_.Release(id);
  EXPECT_THAT(Match(100, 4), IsEmpty());
}

TEST_F(KvIndexTest, FreesEverythingItAccounts) {
  StoreChain(kA, 100, 50);
  StoreChain(kB, 100, 60);
  const HoldId id = index_.Hold(kA, Keys(100, 70));
  EXPECT_GT(index_.stats().bytes, 0u);
  index_.Release(id);
  index_.Clear(kA);
  for (uint64_t i = 60; i-- > 0;) RemoveOne(kB, 100 + i);
  const IndexStats stats = index_.stats();
  EXPECT_EQ(stats.bytes, 0u);
  EXPECT_EQ(stats.blocks, 0u);
  EXPECT_EQ(stats.entries, 0u);
}

TEST(KvIndexBudget, EvictsLeavesOfTheLeastRecentlyMatchedChainFirst) {
  KvIndex index(64 << 10);
  index.Store(kA, Tier::kGpu, 0, kRoot, Blocks(1000, 0, 49));
  index.Store(kA, Tier::kGpu, 0, kRoot, Blocks(2000, 0, 49));
  ASSERT_EQ(index.stats().evicted_budget, 0u);
  index.Match(Keys(1000, 50));  // now chain 2000 is the older one
  for (uint64_t chain = 3; index.stats().evicted_budget < 20; ++chain) {
    index.Store(kA, Tier::kGpu, 0, kRoot, Blocks(chain * 1000, 0, 4));
    ASSERT_LE(index.stats().bytes, index.stats().budget_bytes);
  }
  EXPECT_THAT(Show(index.Match(Keys(1000, 50))), ElementsAre("1/0:50,50,50"));
  const uint64_t left = 50 - index.stats().evicted_budget;
  const std::string n = std::to_string(left);
  EXPECT_THAT(Show(index.Match(Keys(2000, 50))), ElementsAre("1/0:" + n + "," + n + "," + n));
}

TEST(KvIndexBudget, ForgottenBlocksAreMissesAndTheirRemovalsUnknown) {
  KvIndex index(16 << 10);
  index.Store(kA, Tier::kGpu, 0, kRoot, Blocks(1000, 0, 999));  // one chain larger than the budget
  const IndexStats stats = index.stats();
  EXPECT_LE(stats.bytes, stats.budget_bytes);
  EXPECT_LT(stats.blocks, 1000u);
  const auto matches = index.Match(Keys(1000, 1000));
  ASSERT_EQ(matches.size(), 1u);
  EXPECT_EQ(matches[0].blocks, stats.blocks);  // what is kept is the front of the chain
  index.Remove(kA, Tier::kGpu, 0, std::vector<kv::EngineHash>{HashOf(1999)});
  EXPECT_EQ(index.stats().unknown_removals, 1u);
}

TEST(KvIndexBudget, TooSmallABudgetHoldsNothing) {
  KvIndex index(64);
  EXPECT_EQ(index.Store(kA, Tier::kGpu, 0, kRoot, Blocks(1000, 0, 9)), 0u);
  EXPECT_EQ(index.Hold(kA, Keys(1000, 9)), 0u);
  EXPECT_EQ(index.stats().bytes, 0u);
}

TEST(KvIndexBudget, HoldThatDoesNotFitCoversFewerBlocks) {
  KvIndex index(16 << 10);
  const HoldId id = index.Hold(kA, Keys(1000, 100'000));
  EXPECT_NE(id, 0u);
  EXPECT_LE(index.stats().bytes, index.stats().budget_bytes / 8);
  EXPECT_EQ(index.Hold(kB, Keys(1000, 1)), 0u);
  const auto matches = index.Match(Keys(1000, 100'000));
  ASSERT_EQ(matches.size(), 1u);
  EXPECT_GT(matches[0].expected_blocks, 100u);
  EXPECT_LT(matches[0].expected_blocks, 2048u);
  index.Release(id);
  EXPECT_EQ(index.stats().bytes, 0u);
}

}  // namespace
}  // namespace warmpath::index
