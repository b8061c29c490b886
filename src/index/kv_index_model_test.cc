// The index against a naive model, with random operations; and against concurrent readers.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "index/kv_index.h"

namespace warmpath::index {
namespace {

using Packed = std::pair<uint32_t, uint16_t>;

// What the documentation of KvIndex says, without any cleverness.
class NaiveIndex {
 public:
  size_t Store(Holder holder, Tier tier, uint32_t group, const std::vector<BlockAlias>& blocks) {
    size_t admitted = 0;
    for (const BlockAlias& block : blocks) {
      auto& aliases = aliases_[Name(holder)];
      const auto name = std::make_pair(group, block.hash);
      if (const auto it = aliases.find(name); it != aliases.end() && it->second.key != block.key) {
        aliases.erase(it);
      }
      const bool before = Resident(holder, block.key, tier);
      auto& entry = aliases[name];
      entry.key = block.key;
      ++entry.copies[static_cast<size_t>(tier)];
      admitted += !before;
    }
    return admitted;
  }

  size_t Remove(Holder holder, Tier tier, uint32_t group,
                const std::vector<kv::EngineHash>& hashes) {
    size_t ended = 0;
    for (const kv::EngineHash hash : hashes) {
      auto& aliases = aliases_[Name(holder)];
      const auto it = aliases.find({group, hash});
      if (it == aliases.end() || it->second.copies[static_cast<size_t>(tier)] == 0) continue;
      const kv::BlockKey key = it->second.key;
      --it->second.copies[static_cast<size_t>(tier)];
      if (it->second.copies == std::array<int, kTiers>{}) aliases.erase(it);
      ended += !Resident(holder, key, tier) && true;
    }
    return ended;
  }

  void Clear(Holder holder) { aliases_.erase(Name(holder)); }

  bool Resident(Holder holder, kv::BlockKey key, Tier tier) const {
    return Any(holder, key,
               [&](const auto& copies) { return copies[static_cast<size_t>(tier)] > 0; });
  }
  bool Resident(Holder holder, kv::BlockKey key) const {
    return Any(holder, key, [](const auto&) { return true; });
  }

  std::map<Packed, std::array<uint32_t, 3>> Match(const std::vector<kv::BlockKey>& keys) const {
    std::map<Packed, std::array<uint32_t, 3>> matches;
    std::set<Packed> names;
    for (const auto& [name, aliases] : aliases_) names.insert(name);
    for (const auto& [id, hold] : holds) names.insert(Name(hold.first));
    for (const Packed& name : names) {
      const Holder holder{name.first, name.second};
      uint32_t blocks = 0, gpu = 0, expected = 0;
      while (blocks < keys.size() && Resident(holder, keys[blocks])) ++blocks;
      while (gpu < keys.size() && Resident(holder, keys[gpu], Tier::kGpu)) ++gpu;
      while (expected < keys.size() &&
             (Resident(holder, keys[expected]) || Held(holder, keys[expected]))) {
        ++expected;
      }
      if (expected > 0) matches[name] = {blocks, gpu, expected};
    }
    return matches;
  }

  std::set<std::pair<kv::EngineHash, kv::BlockKey>> Dump(Holder holder, uint32_t group) const {
    std::set<std::pair<kv::EngineHash, kv::BlockKey>> dump;
    if (const auto it = aliases_.find(Name(holder)); it != aliases_.end()) {
      for (const auto& [name, entry] : it->second) {
        if (name.first == group) dump.insert({name.second, entry.key});
      }
    }
    return dump;
  }

  uint64_t Entries(Holder holder) const {
    std::set<std::pair<kv::BlockKey, size_t>> entries;
    if (const auto it = aliases_.find(Name(holder)); it != aliases_.end()) {
      for (const auto& [name, entry] : it->second) {
        for (size_t t = 0; t < kTiers; ++t) {
          if (entry.copies[t] > 0) entries.insert({entry.key, t});
        }
      }
    }
    return entries.size();
  }

  std::map<HoldId, std::pair<Holder, std::vector<kv::BlockKey>>> holds;

 private:
  struct Entry {
    kv::BlockKey key = 0;
    std::array<int, kTiers> copies{};
  };
  static Packed Name(Holder holder) { return {holder.endpoint, holder.rank}; }

  bool Held(Holder holder, kv::BlockKey key) const {
    return std::any_of(holds.begin(), holds.end(), [&](const auto& hold) {
      const auto& keys = hold.second.second;
      return hold.second.first == holder && std::find(keys.begin(), keys.end(), key) != keys.end();
    });
  }
  template <typename Predicate>
  bool Any(Holder holder, kv::BlockKey key, Predicate predicate) const {
    const auto it = aliases_.find(Name(holder));
    if (it == aliases_.end()) return false;
    return std::any_of(it->second.begin(), it->second.end(), [&](const auto& named) {
      return named.second.key == key && predicate(named.second.copies);
    });
  }

  std::map<Packed, std::map<std::pair<uint32_t, kv::EngineHash>, Entry>> aliases_;
};

// A small forest of chains under a few roots, as prompts with common beginnings make one.
class Forest {
 public:
  explicit Forest(std::mt19937_64& random) {
    for (int chain = 0; chain < 24; ++chain) {
      std::vector<kv::BlockKey> keys;
      if (chain >= 4) {
        const auto& trunk = chains_[random() % chains_.size()];
        keys.assign(trunk.begin(), trunk.begin() + static_cast<long>(random() % trunk.size()) + 1);
      } else {
        keys.push_back(random());  // a root (base model or LoRA adapter)
      }
      const size_t length = keys.size() + 1 + random() % 12;
      while (keys.size() < length) keys.push_back(random());
      chains_.push_back(keys);
    }
  }
  // Root first.
  const std::vector<kv::BlockKey>& Chain(uint64_t draw) const {
    return chains_[draw % chains_.size()];
  }

 private:
  std::vector<std::vector<kv::BlockKey>> chains_;
};

Holder DrawHolder(std::mt19937_64& random) {
  return {static_cast<uint32_t>(1 + random() % 3), static_cast<uint16_t>(random() % 2)};
}

kv::EngineHash HashFor(kv::BlockKey key, uint64_t salt) {
  return key * 31 + salt;
}

void RunAgainstModel(uint64_t seed, uint64_t budget, bool exact) {
  std::mt19937_64 random(seed);
  KvIndex index(budget);
  NaiveIndex model;
  const Forest forest(random);
  for (int step = 0; step < 3000; ++step) {
    SCOPED_TRACE("seed " + std::to_string(seed) + " step " + std::to_string(step));
    const auto& chain = forest.Chain(random());
    const Holder holder = DrawHolder(random);
    const Tier tier = random() % 4 == 0 ? Tier::kCpu : Tier::kGpu;
    const uint32_t group = random() % 5 == 0 ? 5 : 0;
    const std::vector<kv::BlockKey> query(chain.begin() + 1, chain.end());
    const size_t first = random() % query.size();
    const size_t count = 1 + random() % (query.size() - first);
    switch (random() % 12) {
      case 0:
      case 1:
      case 2:
      case 3: {
        std::vector<BlockAlias> blocks;
        // Now and then an engine has two names for one block, or reuses a name.
        const uint64_t salt = random() % 16 == 0 ? 1 : 0;
        for (size_t i = 0; i < count; ++i) {
          blocks.push_back({query[first + i], HashFor(query[first + i], salt)});
        }
        if (random() % 40 == 0) blocks.front().hash = 77;
        const size_t admitted = index.Store(holder, tier, group, chain[first], blocks);
        const size_t expected = model.Store(holder, tier, group, blocks);
        if (exact) ASSERT_EQ(admitted, expected);
        break;
      }
      case 4:
      case 5:
      case 6:
      case 7: {
        std::vector<kv::EngineHash> hashes;
        for (size_t i = 0; i < count; ++i) hashes.push_back(HashFor(query[first + i], 0));
        const size_t ended = index.Remove(holder, tier, group, hashes);
        const size_t expected = model.Remove(holder, tier, group, hashes);
        if (exact) ASSERT_EQ(ended, expected);
        break;
      }
      case 8:
        if (random() % 8 == 0) {
          const uint64_t entries = model.Entries(holder);
          model.Clear(holder);
          const size_t ended = index.Clear(holder);
          if (exact) ASSERT_EQ(ended, entries);
        } else if (random() % 16 == 0) {
          index.ClearEndpoint(holder.endpoint);
          model.Clear({holder.endpoint, 0});
          model.Clear({holder.endpoint, 1});
        }
        break;
      case 9:
        if (const HoldId id = index.Hold(holder, std::span(query).first(count)); id != 0) {
          model.holds[id] = {holder, {query.begin(), query.begin() + static_cast<long>(count)}};
        }
        break;
      case 10:
        if (!model.holds.empty()) {
          const auto it =
              std::next(model.holds.begin(), static_cast<long>(random() % model.holds.size()));
          index.Release(it->first);
          model.holds.erase(it);
        }
        break;
      default: {
        std::map<Packed, std::array<uint32_t, 3>> matches;
        for (const HolderMatch& m : index.Match(query)) {
          matches[{m.holder.endpoint, m.holder.rank}] = {m.blocks, m.gpu_blocks, m.expected_blocks};
        }
        const auto expected = model.Match(query);
        if (exact) {
          ASSERT_EQ(matches, expected);
        } else {
          for (const auto& [name, match] : matches) {
            ASSERT_TRUE(expected.contains(name));
            for (size_t i = 0; i < 3; ++i) ASSERT_LE(match[i], expected.at(name)[i]);
          }
        }
      }
    }
    ASSERT_LE(index.stats().bytes, budget);
    if (step % 50 != 0) continue;
    uint64_t entries = 0;
    for (uint32_t endpoint = 1; endpoint <= 3; ++endpoint) {
      for (uint16_t rank = 0; rank < 2; ++rank) {
        const Holder each{endpoint, rank};
        entries += index.ResidentBlocks(each);
        if (exact) ASSERT_EQ(index.ResidentBlocks(each), model.Entries(each));
        for (const uint32_t g : {0u, 5u}) {
          std::set<std::pair<kv::EngineHash, kv::BlockKey>> dump;
          for (const BlockAlias& block : index.Dump(each, g)) dump.insert({block.hash, block.key});
          const auto expected = model.Dump(each, g);
          if (exact) {
            ASSERT_EQ(dump, expected);
          } else {
            ASSERT_TRUE(std::includes(expected.begin(), expected.end(), dump.begin(), dump.end()));
          }
        }
      }
    }
    const IndexStats stats = index.stats();
    ASSERT_EQ(stats.entries, entries);
    ASSERT_EQ(stats.admissions,
              stats.entries + stats.evicted_removed + stats.evicted_cleared + stats.evicted_budget);
  }
  for (uint32_t endpoint = 1; endpoint <= 3; ++endpoint) index.ClearEndpoint(endpoint);
  for (const auto& [id, hold] : model.holds) index.Release(id);
  EXPECT_EQ(index.stats().bytes, 0u);
  EXPECT_EQ(index.stats().blocks, 0u);
}

TEST(KvIndexModel, EqualsTheNaiveModelUnderRandomOperations) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    RunAgainstModel(seed, uint64_t{64} << 20, true);
    if (HasFatalFailure()) return;
  }
}

TEST(KvIndexModel, NeverClaimsMoreThanTheModelUnderBudgetPressure) {
  for (uint64_t seed = 100; seed < 112; ++seed) {
    RunAgainstModel(seed, 12 << 10, false);
    if (HasFatalFailure()) return;
    RunAgainstModel(seed, 40 << 10, false);
    if (HasFatalFailure()) return;
  }
}

TEST(KvIndexConcurrency, ReadersSeeOnlyBlocksThatSomeoneStored) {
  KvIndex index(256 << 10);  // small enough that writers also evict
  std::mt19937_64 random(5);
  const Forest forest(random);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> matches{0};
  std::vector<std::thread> threads;
  for (uint64_t reader = 0; reader < 2; ++reader) {
    threads.emplace_back([&, reader] {
      std::mt19937_64 draw(reader);
      while (!stop) {
        const auto& chain = forest.Chain(draw());
        const std::span<const kv::BlockKey> query = std::span(chain).subspan(1);
        for (const HolderMatch& m : index.Match(query)) {
          ASSERT_LE(m.gpu_blocks, m.blocks);
          ASSERT_LE(m.blocks, m.expected_blocks);
          ASSERT_LE(m.expected_blocks, query.size());
          ++matches;
        }
        index.Release(index.Hold({9, 0}, query));
        index.stats();
      }
    });
  }
  std::vector<std::thread> writers;
  for (uint32_t endpoint = 1; endpoint <= 2; ++endpoint) {
    writers.emplace_back([&, endpoint] {
      std::mt19937_64 draw(endpoint);
      for (int step = 0; step < 4000 || matches == 0; ++step) {
        const auto& chain = forest.Chain(draw());
        std::vector<BlockAlias> blocks;
        std::vector<kv::EngineHash> hashes;
        for (size_t i = 1; i < chain.size(); ++i) {
          blocks.push_back({chain[i], HashFor(chain[i], 0)});
          if (i * 2 > chain.size()) hashes.push_back(HashFor(chain[i], 0));
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

}  // namespace
}  // namespace warmpath::index
