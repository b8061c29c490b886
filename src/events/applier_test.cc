#include "events/applier.h"

#include <gtest/gtest.h>

#include <numeric>

#include "kv/extra_keys.h"
#include "kv/keys.h"

namespace warmpath::events {
namespace {

using namespace std::chrono_literals;

constexpr uint32_t kBlock = 4;
constexpr index::Holder kHolder{7, 0};

std::vector<kv::TokenId> Tokens(size_t n) {
  std::vector<kv::TokenId> tokens(n);
  std::iota(tokens.begin(), tokens.end(), 1u);
  return tokens;
}

// Blocks [first, last) of the chain 1, 2, 3...; block i has hash 100 + i.
kv::BlockStored Stored(size_t first, size_t last) {
  kv::BlockStored e;
  const auto tokens = Tokens(last * kBlock);
  e.tokens.assign(tokens.begin() + static_cast<ptrdiff_t>(first * kBlock), tokens.end());
  for (size_t i = first; i < last; ++i) e.hashes.push_back(100 + i);
  if (first > 0) e.parent = 100 + first - 1;
  e.block_size = kBlock;
  e.medium = "GPU";
  return e;
}

kv::BlockRemoved Removed(kv::EngineHash hash, const char* medium = "GPU") {
  kv::BlockRemoved e;
  e.hashes = {hash};
  e.medium = medium;
  return e;
}

class ApplierTest : public ::testing::Test {
 protected:
  void Apply(const std::vector<kv::Event>& events) {
    std::vector<kv::EventView> views;
    for (const kv::Event& event : events) views.push_back(kv::ViewOf(event));
    applier_.Apply(views, now_);
  }
  index::HolderMatch Match(std::string_view lora = "", std::string_view salt = "",
                           size_t blocks = 8) {
    const auto keys =
        kv::PrefixKeys(kv::RootKey(kBlock, lora, salt), Tokens(blocks * kBlock), kBlock);
    for (const auto& match : index_.Match(keys)) {
      if (match.holder == kHolder) return match;
    }
    return {};
  }

  index::KvIndex index_{uint64_t{64} << 20};
  Applier applier_{index_, kHolder, {.max_orphan_blocks = 6, .max_orphan_age = 10s}};
  TimePoint now_{};
};

TEST_F(ApplierTest, IndexesRunsAndTheirRemovals) {
  Apply({Stored(0, 2), Stored(2, 3)});
  EXPECT_EQ(Match().blocks, 3u);
  EXPECT_EQ(applier_.block_size(), kBlock);
  Apply({Removed(101)});
  EXPECT_EQ(Match().blocks, 1u);
}

TEST_F(ApplierTest, ASecondStoreNeedsASecondRemoval) {
  Apply({Stored(0, 1), Stored(0, 1), Removed(100)});
  EXPECT_EQ(Match().blocks, 1u);
  Apply({Removed(100)});
  EXPECT_EQ(Match().blocks, 0u);
}

TEST_F(ApplierTest, LoraAndSaltSelectTheChain) {
  kv::BlockStored e = Stored(0, 2);
  e.lora_name = "sql";
  e.extra_keys = kv::EncodeTextExtras("sql", "tenant", 0, 2);
  Apply({e});
  EXPECT_EQ(Match().blocks, 0u);
  EXPECT_EQ(Match("sql").blocks, 0u);
  EXPECT_EQ(Match("sql", "tenant").blocks, 2u);
}

TEST_F(ApplierTest, HoldsChildrenUntilTheirParentComes) {
  Apply({Stored(2, 4)});
  Apply({Stored(1, 2)});
  EXPECT_EQ(applier_.orphan_blocks(), 3u);
  Apply({Removed(103)});  // of a child that is not indexed yet
  Apply({Stored(0, 1)});
  EXPECT_EQ(Match().blocks, 3u);
  EXPECT_EQ(applier_.orphan_blocks(), 0u);
  EXPECT_EQ(applier_.counts().orphan_blocks_dropped, 0u);
}

TEST_F(ApplierTest, DropsOrphansByAgeAndByCount) {
  Apply({Stored(2, 4)});
  now_ += 9s;
  applier_.Expire(now_);
  EXPECT_EQ(applier_.orphan_blocks(), 2u);
  now_ += 1s;
  applier_.Expire(now_);
  EXPECT_EQ(applier_.orphan_blocks(), 0u);
  EXPECT_EQ(applier_.counts().orphan_blocks_dropped, 2u);
  Apply({Stored(2, 6), Stored(6, 9), Stored(1, 8)});  // 4, then 4 + 3 > 6, then 7 > 6
  EXPECT_EQ(applier_.orphan_blocks(), 3u);
  EXPECT_EQ(applier_.counts().orphan_blocks_dropped, 2u + 4u + 7u);
}

TEST_F(ApplierTest, ClearEmptiesTheGpuOnly) {
  kv::BlockStored offloaded = Stored(0, 1);
  offloaded.medium = "CPU_PINNED";
  Apply({Stored(0, 2), offloaded, kv::AllBlocksCleared{}});
  EXPECT_EQ(Match().blocks, 1u);
  EXPECT_EQ(Match().gpu_blocks, 0u);
}

TEST_F(ApplierTest, StoresWithoutTokensAddATierToKnownBlocks) {
  kv::BlockStored known = Stored(0, 1);
  known.tokens.clear();
  known.block_size = 0;
  known.medium = "STORAGE";
  kv::BlockStored unknown = known;
  unknown.hashes = {999};
  Apply({Stored(0, 2), known, unknown, Removed(100)});
  EXPECT_EQ(Match().blocks, 2u);
  EXPECT_EQ(Match().gpu_blocks, 0u);
  Apply({Removed(100, "DISK")});
  EXPECT_EQ(Match().blocks, 0u);
}

TEST_F(ApplierTest, IndexesFullAttentionGroupsOnly) {
  kv::BlockStored sliding = Stored(0, 3);
  sliding.group_idx = 0;
  sliding.spec_kind = "sliding_window";
  sliding.hashes = {102};  // sparse
  kv::BlockStored full = Stored(0, 3);
  full.group_idx = 5;
  full.spec_kind = "full_attention";
  kv::BlockRemoved removed = Removed(102);
  removed.group_idx = 0;
  Apply({sliding, full, removed});
  EXPECT_EQ(Match().blocks, 3u);
  EXPECT_TRUE(applier_.hybrid());
  EXPECT_EQ(applier_.counts().stores_of_other_groups, 1u);
  EXPECT_EQ(applier_.counts().removals_of_other_groups, 1u);
  EXPECT_EQ(applier_.counts().bad_stores, 0u);
}

TEST_F(ApplierTest, CountsStoresThatMakeNoSense) {
  kv::BlockStored short_tokens = Stored(0, 2);
  short_tokens.tokens.pop_back();
  kv::BlockStored other_size = Stored(0, 1);
  other_size.block_size = 2;
  other_size.hashes = {1, 2};
  Apply({Stored(0, 1), short_tokens, other_size});
  EXPECT_EQ(applier_.counts().bad_stores, 1u);
  EXPECT_EQ(applier_.counts().stores_of_other_sizes, 1u);
}

TEST_F(ApplierTest, KnowsMediaInAnyCase) {
  EXPECT_EQ(TierOfMedium(""), index::Tier::kGpu);
  EXPECT_EQ(TierOfMedium("Gpu"), index::Tier::kGpu);
  EXPECT_EQ(TierOfMedium("cpu"), index::Tier::kCpu);
  EXPECT_EQ(TierOfMedium("OBJ"), index::Tier::kDisk);
  EXPECT_EQ(TierOfMedium("EXTERNAL"), index::Tier::kOther);
}

}  // namespace
}  // namespace warmpath::events
