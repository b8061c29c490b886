// The index against its oracle (reference_index.h) under random operations, and against concurrent
// readers. WARMPATH_INDEX_SEEDS sets how many seeds are run.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "index/kv_index.h"
#include "index/reference_index.h"

namespace warmpath::index {

void PrintTo(const HolderMatch& m, std::ostream* out) {
  *out << m.holder.endpoint << '/' << m.holder.rank << ':' << m.blocks << ',' << m.gpu_blocks << ','
       << m.expected_blocks;
}

namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

uint64_t Seeds() {
  if (const char* seeds = std::getenv("WARMPATH_INDEX_SEEDS"))
    return std::strtoull(seeds, nullptr, 10);
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  return 300;
#endif
#endif
  return 2000;
}

// What a world of engines is like, drawn from a seed.
struct World {
  explicit World(uint64_t seed) : random(seed) {
    static constexpr uint32_t kEndpoints[] = {1, 3, 3, 8, 70, 300};
    endpoints = kEndpoints[random() % 6];
    ranks = random() % 3 == 0 ? 2 : 1;
    groups = random() % 3 == 0 ? 2 : 1;
    tiers = random() % 2 == 0 ? 1 : 3;
    domains = random() % 3 == 0 ? endpoints : 1 + random() % 2;
    confusion = random() % 2 == 0 ? 0 : 1 + random() % 40;
    longest = random() % 4 == 0 ? 200 : 12;
    const size_t count = 6 + random() % 20;
    for (size_t chain = 0; chain < count; ++chain) {
      std::vector<kv::BlockKey> keys;
      if (chain >= 3) {
        const auto& trunk = chains[random() % chains.size()];
        keys.assign(trunk.begin(),
                    trunk.begin() + static_cast<std::ptrdiff_t>(1 + random() % trunk.size()));
      } else {
        keys.push_back(random());  // a root (base model or LoRA adapter)
      }
      const size_t length = keys.size() + 1 + random() % longest;
      while (keys.size() < length) keys.push_back(random());
      chains.push_back(keys);
    }
  }
  Holder DrawHolder() {
    return {static_cast<uint32_t>(1 + random() % endpoints),
            static_cast<uint16_t>(random() % ranks)};
  }
  Tier DrawTier() { return random() % 3 == 0 ? static_cast<Tier>(random() % tiers) : Tier::kGpu; }
  uint32_t DrawGroup() {
    return random() % 3 == 0 ? static_cast<uint32_t>(random() % groups) * 5 : 0;
  }
  kv::EngineHash HashFor(Holder holder, kv::BlockKey key, uint64_t salt = 0) const {
    return key * 31 + holder.endpoint % domains * 7 + salt;
  }
  // Now and then an engine has two names for one block, or gives a name to another.
  kv::EngineHash DrawHash(Holder holder, kv::BlockKey key) {
    if (confusion != 0 && random() % (confusion * 4) == 0) return 77 + random() % 3;
    return HashFor(holder, key, confusion != 0 && random() % confusion == 0 ? 1 : 0);
  }

  std::mt19937_64 random;
  uint32_t endpoints, ranks, groups, tiers, domains;
  uint64_t confusion, longest;
  std::vector<std::vector<kv::BlockKey>> chains;  // root first
};

class Race {
 public:
  Race(uint64_t seed, uint64_t budget) : world_(seed), index_(budget), exact_(budget >= kMiB) {}

  void Run(int steps) {
    for (int step = 0; step < steps; ++step) {
      SCOPED_TRACE("step " + std::to_string(step));
      Step();
      if (!exact_) ASSERT_LE(index_.stats().bytes, index_.stats().budget_bytes);
      if (step % 40 == 39 || step + 1 == steps) CompareAll();
      if (::testing::Test::HasFatalFailure()) return;
    }
    for (uint32_t endpoint = 1; endpoint <= world_.endpoints; ++endpoint) {
      index_.ClearEndpoint(endpoint);
    }
    for (const auto& [hold, reference] : holds_) index_.Release(hold);
    EXPECT_EQ(index_.stats().bytes, 0u);
    EXPECT_EQ(index_.stats().blocks, 0u);
  }

 private:
  uint64_t Draw(uint64_t below) { return world_.random() % below; }

  void Step() {
    const auto& chain = world_.chains[Draw(world_.chains.size())];
    const Holder holder = world_.DrawHolder();
    const Tier tier = world_.DrawTier();
    const uint32_t group = world_.DrawGroup();
    const std::vector<kv::BlockKey> query(chain.begin() + 1, chain.end());
    const size_t first = Draw(3) == 0 ? Draw(query.size()) : 0;
    const size_t count = 1 + Draw(query.size() - first);
    const std::span<const kv::BlockKey> keys = std::span(query).subspan(first, count);
    switch (Draw(16)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        return Store(holder, tier, group, chain[first], first == 0, keys);
      case 5:
      case 6:
      case 7: {
        std::vector<kv::EngineHash> hashes;
        for (const kv::BlockKey key : keys) hashes.push_back(world_.DrawHash(holder, key));
        if (Draw(2) == 0) std::reverse(hashes.begin(), hashes.end());
        if (Draw(3) == 0) hashes.resize(1);
        return Same(index_.Remove(holder, tier, group, hashes),
                    reference_.Remove(holder, tier, group, hashes));
      }
      case 8: {
        std::vector<kv::EngineHash> hashes;
        for (const kv::BlockKey key : keys) hashes.push_back(world_.DrawHash(holder, key));
        const Tier other = static_cast<Tier>(Draw(world_.tiers));
        return Same(index_.StoreKnown(holder, other, group, hashes),
                    reference_.StoreKnown(holder, other, group, hashes));
      }
      case 9:
        if (Draw(3) == 0) return Same(index_.Clear(holder), reference_.Clear(holder));
        if (Draw(3) == 0) {
          return Same(index_.ClearTier(holder, tier), reference_.ClearTier(holder, tier));
        }
        if (Draw(6) == 0) {
          return Same(index_.ClearEndpoint(holder.endpoint),
                      reference_.ClearEndpoint(holder.endpoint));
        }
        return;
      case 10:
        if (const HoldId id = index_.Hold(holder, keys.first(first == 0 ? count : 0)); id != 0) {
          holds_[id] = reference_.Hold(holder, keys);
        }
        return;
      case 11:
        if (!holds_.empty()) {
          const auto it = std::next(holds_.begin(), static_cast<long>(Draw(holds_.size())));
          index_.Release(it->first);
          reference_.Release(it->second);
          holds_.erase(it);
        }
        return;
      case 12: {
        const kv::EngineHash hash = world_.DrawHash(holder, keys[0]);
        const auto found = index_.Find(holder, group, hash);
        const auto expected = reference_.Find(holder, group, hash);
        if (exact_) ASSERT_EQ(found, expected);
        if (found) ASSERT_EQ(found, expected);
        return;
      }
      default: {
        std::vector<kv::BlockKey> longer = query;
        if (Draw(4) == 0) longer.resize(1 + Draw(longer.size()));
        if (Draw(8) == 0) longer.push_back(5);
        return Match(longer);
      }
    }
  }

  void Store(Holder holder, Tier tier, uint32_t group, kv::BlockKey parent, bool root,
             std::span<const kv::BlockKey> keys) {
    std::vector<BlockAlias> blocks;
    std::vector<kv::EngineHash> hashes;
    for (const kv::BlockKey key : keys) {
      hashes.push_back(world_.DrawHash(holder, key));
      blocks.push_back({key, hashes.back()});
    }
    const size_t expected = reference_.Store(holder, tier, group, parent, blocks);
    Parent at{parent, root ? Parent::kRoot : 0};
    switch (Draw(4)) {
      case 0:
        at.at = 0;
        break;
      case 1:
        if (!root && Draw(4) == 0) at.at = last_hint_;  // of another block, or outdated
        break;
      default:
        if (const auto found = index_.FindParent(holder, group, world_.HashFor(holder, parent))) {
          if (found->key == parent) at = *found;
          last_hint_ = found->at;
        }
    }
    if (Draw(4) == 0) {
      return Same(index_.Store(holder, tier, group, parent, blocks), expected);
    }
    Same(index_.Store(holder, tier, group, at, hashes, keys), expected);
  }

  void Same(size_t got, size_t expected) {
    if (exact_) ASSERT_EQ(got, expected);
  }

  void Match(const std::vector<kv::BlockKey>& query) {
    index_.Match(query, matches_);
    const std::vector<HolderMatch> expected = reference_.Match(query);
    if (exact_) {
      ASSERT_EQ(matches_.size(), expected.size());
      for (size_t i = 0; i < expected.size(); ++i) {
        ASSERT_EQ(matches_[i].holder, expected[i].holder);
        ASSERT_EQ(::testing::PrintToString(matches_[i]), ::testing::PrintToString(expected[i]));
      }
      return;
    }
    for (const HolderMatch& match : matches_) {
      const auto it = std::find_if(expected.begin(), expected.end(),
                                   [&](const HolderMatch& m) { return m.holder == match.holder; });
      ASSERT_NE(it, expected.end());
      ASSERT_LE(match.blocks, it->blocks);
      ASSERT_LE(match.gpu_blocks, it->gpu_blocks);
      ASSERT_LE(match.expected_blocks, it->expected_blocks);
    }
  }

  void CompareAll() {
    const IndexStats stats = index_.stats();
    ASSERT_EQ(stats.admissions,
              stats.entries + stats.evicted_removed + stats.evicted_cleared + stats.evicted_budget);
    uint64_t entries = 0;
    for (uint32_t endpoint = 1; endpoint <= world_.endpoints; ++endpoint) {
      uint64_t of_endpoint = 0;
      for (uint32_t rank = 0; rank < world_.ranks; ++rank) {
        const Holder holder{endpoint, static_cast<uint16_t>(rank)};
        of_endpoint += index_.ResidentBlocks(holder);
        if (exact_) ASSERT_EQ(index_.ResidentBlocks(holder), reference_.ResidentBlocks(holder));
        if (world_.endpoints > 10 && Draw(10) != 0) continue;
        for (uint32_t group = 0; group < world_.groups; ++group) {
          const auto dump = Names(index_.Dump(holder, group * 5));
          const auto expected = Names(reference_.Dump(holder, group * 5));
          if (exact_) ASSERT_EQ(dump, expected);
          ASSERT_TRUE(std::includes(expected.begin(), expected.end(), dump.begin(), dump.end()));
        }
      }
      ASSERT_EQ(index_.EndpointBlocks(endpoint), of_endpoint);
      entries += of_endpoint;
    }
    ASSERT_EQ(stats.entries, entries);
    if (!exact_) return;
    const IndexStats expected = reference_.stats();
    ASSERT_EQ(stats.blocks, expected.blocks);
    ASSERT_EQ(stats.entries, expected.entries);
    ASSERT_EQ(stats.admissions, expected.admissions);
    ASSERT_EQ(stats.evicted_removed, expected.evicted_removed);
    ASSERT_EQ(stats.evicted_cleared, expected.evicted_cleared);
    ASSERT_EQ(stats.evicted_budget, 0u);
    ASSERT_EQ(stats.duplicate_stores, expected.duplicate_stores);
    ASSERT_EQ(stats.unknown_removals, expected.unknown_removals);
    ASSERT_EQ(stats.holds, expected.holds);
  }

  static std::vector<std::pair<kv::EngineHash, kv::BlockKey>> Names(
      const std::vector<BlockAlias>& blocks) {
    std::vector<std::pair<kv::EngineHash, kv::BlockKey>> names;
    for (const BlockAlias& block : blocks) names.emplace_back(block.hash, block.key);
    std::sort(names.begin(), names.end());
    return names;
  }

  World world_;
  KvIndex index_;
  ReferenceIndex reference_{uint64_t{4} << 30};
  const bool exact_;
  std::map<HoldId, HoldId> holds_;
  std::vector<HolderMatch> matches_;
  uint64_t last_hint_ = 0;
};

TEST(KvIndexModel, EqualsTheOracleUnderRandomOperations) {
  for (uint64_t seed = 1; seed <= Seeds(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Race(seed, 64 * kMiB).Run(200);
    if (HasFailure()) return;
  }
}

TEST(KvIndexModel, NeverClaimsMoreThanTheOracleUnderBudgetPressure) {
  for (uint64_t seed = 1; seed <= Seeds() / 4; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Race(seed, 6 << 10).Run(200);
    Race(seed, 40 << 10).Run(200);
    if (HasFailure()) return;
  }
}

TEST(KvIndexConcurrency, ReadersSeeOnlyBlocksThatSomeoneStored) {
  KvIndex index(256 << 10);  // small enough that writers also evict
  World world(5);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> matches{0};
  std::vector<std::thread> threads;
  for (uint64_t reader = 0; reader < 2; ++reader) {
    threads.emplace_back([&, reader] {
      std::mt19937_64 draw(reader);
      std::vector<HolderMatch> found;
      while (!stop) {
        const auto& chain = world.chains[draw() % world.chains.size()];
        const std::span<const kv::BlockKey> query = std::span(chain).subspan(1);
        index.Match(query, found);
        for (const HolderMatch& m : found) {
          ASSERT_LE(m.gpu_blocks, m.blocks);
          ASSERT_LE(m.blocks, m.expected_blocks);
          ASSERT_LE(m.expected_blocks, query.size());
          ++matches;
        }
        index.Release(index.Hold({9, 0}, query));
        index.ResidentBlocks({1, 0});
        index.stats();
      }
    });
  }
  std::vector<std::thread> writers;
  for (uint32_t endpoint = 1; endpoint <= 2; ++endpoint) {
    writers.emplace_back([&, endpoint] {
      std::mt19937_64 draw(endpoint);
      for (int step = 0; step < 4000 || matches == 0; ++step) {
        const auto& chain = world.chains[draw() % world.chains.size()];
        std::vector<BlockAlias> blocks;
        std::vector<kv::EngineHash> hashes;
        for (size_t i = 1; i < chain.size(); ++i) {
          blocks.push_back({chain[i], chain[i] * 31});
          hashes.push_back(chain[i] * 31);
        }
        index.Store({endpoint, 0}, Tier::kGpu, 0, chain[0], blocks);
        if (step % 3 == 0) index.Remove({endpoint, 0}, Tier::kGpu, 0, hashes);
        if (step % 500 == 499) index.Clear({endpoint, 0});
      }
    });
  }
  for (auto& writer : writers) writer.join();
  stop = true;
  for (auto& thread : threads) thread.join();
  index.ClearEndpoint(1);
  index.ClearEndpoint(2);
  EXPECT_EQ(index.stats().bytes, 0u);
}

// Chains of which one holder always has all: a reader must never see less of them, nor attribute
// another's blocks to it, whatever is stored, removed and cleared around them.
TEST(KvIndexConcurrency, WhatIsNotTouchedIsSeenExactly) {
  KvIndex index(64 * kMiB);
  std::mt19937_64 random(7);
  constexpr size_t kShared = 40, kOwn = 100;
  std::vector<std::vector<kv::BlockKey>> chains(8);
  for (size_t i = 0; i < kShared; ++i) chains[0].push_back(random());
  for (auto& chain : chains) {
    chain.assign(chains[0].begin(), chains[0].begin() + kShared);
    while (chain.size() < kShared + kOwn) chain.push_back(random());
    std::vector<BlockAlias> blocks;
    for (const kv::BlockKey key : chain) blocks.push_back({key, key + 1});
    index.Store({1, 0}, Tier::kGpu, 0, 3, blocks);
  }
  std::atomic<bool> stop{false};
  std::vector<std::thread> readers;
  for (uint64_t reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&, reader] {
      std::mt19937_64 draw(reader);
      std::vector<HolderMatch> found;
      while (!stop) {
        const auto& chain = chains[draw() % chains.size()];
        index.Match(chain, found);
        ASSERT_FALSE(found.empty());
        ASSERT_EQ(found[0].holder, (Holder{1, 0}));
        ASSERT_EQ(found[0].blocks, chain.size());
        for (const HolderMatch& m : found) {
          // Others never have more than the shared beginning and half of the rest.
          if (m.holder.endpoint != 1) ASSERT_LE(m.blocks, kShared + kOwn / 2);
        }
      }
    });
  }
  for (int step = 0; step < 6000; ++step) {
    const auto& chain = chains[random() % chains.size()];
    const Holder holder{static_cast<uint32_t>(2 + random() % 3), 0};
    std::vector<BlockAlias> blocks;
    std::vector<kv::EngineHash> hashes;
    for (size_t i = 0; i < kShared + kOwn / 2; ++i) {
      blocks.push_back({chain[i], chain[i] + 1});
      hashes.push_back(chain[i] + 1);
    }
    index.Store(holder, Tier::kGpu, 0, 3, blocks);
    if (step % 2 == 0) index.Remove(holder, Tier::kGpu, 0, hashes);
    if (step % 7 == 0) index.Clear(holder);
    // A life of its own, that comes and goes.
    std::vector<BlockAlias> own;
    for (int i = 0; i < 30; ++i) own.push_back({random(), random()});
    index.Store(holder, Tier::kGpu, 0, step % 2 == 0 ? 3 : chain[kShared + 10], own);
  }
  stop = true;
  for (auto& reader : readers) reader.join();
}

}  // namespace
}  // namespace warmpath::index
