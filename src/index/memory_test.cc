#include "index/memory.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace warmpath::index {
namespace {

// Ranges by their beginning; none may overlap.
class Ranges {
 public:
  bool Add(Arena::Ref ref, uint32_t units) {
    const auto next = ranges_.lower_bound(ref);
    if (next != ranges_.end() && next->first < ref + units) return false;
    if (next != ranges_.begin() && std::prev(next)->first + std::prev(next)->second > ref) {
      return false;
    }
    ranges_[ref] = units;
    return true;
  }
  std::map<Arena::Ref, uint32_t> ranges_;
};

TEST(Arena, RangesNeverOverlapWhateverIsTakenAndGivenBack) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random(seed);
    Arena arena(32 << 20);
    Ranges taken;
    uint64_t units = 0;
    for (int step = 0; step < 4000; ++step) {
      const auto size = static_cast<uint32_t>(1 + random() % (random() % 20 == 0 ? 3000 : 40));
      if (random() % 5 < 3) {
        const Arena::Ref ref = arena.Allocate(size);
        if (ref == 0) continue;
        ASSERT_TRUE(taken.Add(ref, size));
        Save(arena.Words(ref) + uint64_t{size} * Arena::kUnitWords - 1, step);
        units += size;
      } else if (!taken.ranges_.empty()) {
        auto it = taken.ranges_.lower_bound(static_cast<Arena::Ref>(random() % 500'000));
        if (it == taken.ranges_.end()) it = taken.ranges_.begin();
        const auto [ref, had] = *it;
        taken.ranges_.erase(it);
        uint32_t left = had;
        if (random() % 3 == 0 && arena.Extend(ref, had, had + size)) {
          ASSERT_TRUE(taken.Add(ref, had + size));
          units += size;
          continue;
        }
        if (random() % 3 == 0) left = static_cast<uint32_t>(random() % had);  // only its end
        if (left == had) left = 0;
        arena.Free(ref + left, had - left);
        if (left > 0) taken.ranges_[ref] = left;
        units -= had - left;
      }
      ASSERT_EQ(arena.used_bytes(), units * Arena::kUnitBytes);
    }
    for (const auto& [ref, had] : taken.ranges_) arena.Free(ref, had);
    EXPECT_EQ(arena.used_bytes(), 0u);
    EXPECT_NE(arena.Allocate(1 << 17), 0u);  // all of it has come together again
  }
}

TEST(Arena, SaysWhenNothingIsLeft) {
  Arena arena(2 << 20);
  uint32_t ranges = 0;
  while (arena.Allocate(1000) != 0) ++ranges;
  EXPECT_GE(ranges, 30u);
  EXPECT_LE(ranges, 32u);
  EXPECT_EQ(arena.Allocate(uint32_t{1} << 20), 0u);
}

}  // namespace
}  // namespace warmpath::index
