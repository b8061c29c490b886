#include "index/place_table.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace warmpath::index {
namespace {

TEST(PlaceTable, FindsWhatWasPutInAndNothingElse) {
  for (const uint32_t shards : {1u, 8u}) {
    Arena arena(64 << 20);
    PlaceTable table(arena, shards);
    std::mt19937_64 random(shards);
    std::vector<std::pair<uint64_t, Place>> in;
    std::set<uint64_t> values;
    // Grows, shrinks, grows and becomes empty.
    for (const size_t goal : {size_t{5000}, size_t{100}, size_t{20000}, size_t{0}}) {
      while (in.size() != goal) {
        if (in.size() < goal) {
          const uint64_t value = random();
          const Place place{static_cast<RunId>(1 + random() % 1000),
                            static_cast<uint32_t>(random() % kMaxRunBlocks)};
          const uint64_t mixed = table.Mix(value);
          if (!table.InsertAlone(table.Fetch(mixed), place)) {
            ASSERT_TRUE(table.Insert(mixed, place));
          }
          in.emplace_back(value, place);
          values.insert(value);
        } else {
          const size_t at = random() % in.size();
          const uint64_t mixed = table.Mix(in[at].first);
          if (random() % 2 == 0 || !table.EraseAlone(table.Fetch(mixed), in[at].second)) {
            ASSERT_TRUE(table.Erase(mixed, in[at].second));
          }
          values.erase(in[at].first);
          in[at] = in.back();
          in.pop_back();
        }
        if (random() % 500 != 0) continue;
        for (const auto& [value, place] : in) {
          const auto same = [wanted = place](Place found) { return found == wanted; };
          ASSERT_TRUE(table.Find(table.Mix(value), same));
          ASSERT_EQ(table.Lookup(table.Mix(value), same), PlaceTable::Result::kFound);
        }
      }
      int strangers = 0;
      for (int i = 0; i < 1000; ++i) {
        table.Find(table.Mix(random()), [&](Place) { return ++strangers < 0; });
      }
      EXPECT_LT(strangers, 50);  // tags tell most of them apart
      EXPECT_FALSE(table.Erase(table.Mix(random()), {1, 1}));
    }
    EXPECT_EQ(arena.used_bytes(), 0u);
  }
}

TEST(PlaceTable, HoldsManyPlacesOfOneValue) {
  Arena arena(8 << 20);
  PlaceTable table(arena, 1);
  const uint64_t mixed = table.Mix(7);
  for (RunId run = 1; run <= 300; ++run) {
    if (!table.InsertAlone(table.Fetch(mixed), {run, 0})) {
      ASSERT_TRUE(table.Insert(mixed, {run, 0}));
    }
  }
  std::set<RunId> found;
  table.Find(mixed, [&](Place place) {
    found.insert(place.run);
    return false;
  });
  EXPECT_EQ(found.size(), 300u);
  for (RunId run = 300; run >= 1; --run) ASSERT_TRUE(table.Erase(mixed, {run, 0}));
  EXPECT_FALSE(table.Find(mixed, [](Place) { return true; }));
}

}  // namespace
}  // namespace warmpath::index
