#include "index/holds.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace warmpath::index {
namespace {

using Chain = std::vector<kv::BlockKey>;

TEST(Holds, CoverIsTheLongestCommonPrefixPerHolder) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    Holds holds(uint64_t{1} << 30);
    std::vector<Chain> chains{{random()}};
    for (int i = 0; i < 20; ++i) {
      const Chain& trunk = chains[random() % chains.size()];
      Chain chain(trunk.begin(),
                  trunk.begin() + static_cast<std::ptrdiff_t>(random() % (trunk.size() + 1)));
      for (size_t more = 1 + random() % 30; more > 0; --more) chain.push_back(random());
      chains.push_back(chain);
    }
    std::map<uint64_t, std::pair<uint64_t, Chain>> model;
    std::vector<Holds::Cover> covers;
    for (int step = 0; step < 600; ++step) {
      const Chain& chain = chains[random() % chains.size()];
      if (random() % 2 == 0) {
        Chain keys(chain.begin(),
                   chain.begin() + 1 + static_cast<std::ptrdiff_t>(random() % chain.size()));
        const uint64_t holder = random() % 5;
        const uint64_t id = holds.Add(holder, keys);
        ASSERT_NE(id, 0u);
        model[id] = {holder, keys};
      } else if (!model.empty()) {
        const auto it = std::next(model.begin(), static_cast<long>(random() % model.size()));
        holds.Release(it->first);
        model.erase(it);
      }
      std::map<uint64_t, uint32_t> expected;
      for (const auto& [id, hold] : model) {
        uint32_t same = 0;
        while (same < hold.second.size() && same < chain.size() &&
               hold.second[same] == chain[same]) {
          ++same;
        }
        if (same > 0) expected[hold.first] = std::max(expected[hold.first], same);
      }
      holds.Match(chain, covers);
      std::map<uint64_t, uint32_t> got;
      for (const Holds::Cover& cover : covers) got[cover.packed_holder] = cover.blocks;
      ASSERT_EQ(got, expected);
      ASSERT_EQ(covers.size(), got.size());
      ASSERT_EQ(holds.size(), model.size());
    }
    for (const auto& [id, hold] : model) holds.Release(id);
    EXPECT_EQ(holds.bytes(), 0u);
    EXPECT_TRUE(holds.empty());
  }
}

TEST(Holds, CommonBeginningsAreKeptOnce) {
  Holds holds(uint64_t{1} << 30);
  Chain chain(5000);
  for (size_t i = 0; i < chain.size(); ++i) chain[i] = i + 1;
  ASSERT_NE(holds.Add(1, chain), 0u);
  const uint64_t bytes = holds.bytes();
  for (uint64_t i = 0; i < 100; ++i) {
    chain.back() = 1'000'000 + i;
    ASSERT_NE(holds.Add(i % 3, chain), 0u);
  }
  EXPECT_LT(holds.bytes(), 2 * bytes);
}

TEST(Holds, StaysWithinItsBudget) {
  Holds holds(64 << 10);
  std::mt19937_64 random(1);
  std::vector<uint64_t> ids;
  Chain chain;
  for (int i = 0; i < 2000; ++i) {
    chain.resize(random() % (chain.size() + 1));
    while (chain.size() < 50) chain.push_back(random());
    if (const uint64_t id = holds.Add(random() % 20, chain); id != 0) ids.push_back(id);
    ASSERT_LE(holds.bytes(), uint64_t{64} << 10);
    if (i % 3 == 0 && !ids.empty()) {
      holds.Release(ids.front());
      ids.erase(ids.begin());
    }
  }
  for (const uint64_t id : ids) holds.Release(id);
  EXPECT_EQ(holds.bytes(), 0u);
}

}  // namespace
}  // namespace warmpath::index
