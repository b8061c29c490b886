#include "prompt/piece_cache.h"

#include <gtest/gtest.h>

#include <thread>

namespace warmpath::prompt {
namespace {

PieceCache::Ids MakeIds(kv::TokenId first, size_t count = 1) {
  return std::make_shared<const std::vector<kv::TokenId>>(count, first);
}

TEST(PieceCache, FindsAPieceByItsText) {
  PieceCache cache(1 << 20);
  EXPECT_EQ(cache.Find("a"), nullptr);
  cache.Put("a", MakeIds(1));
  cache.Put("a", MakeIds(2));
  ASSERT_NE(cache.Find("a"), nullptr);
  EXPECT_EQ(cache.Find("a")->front(), 1u);
  EXPECT_EQ(cache.Find("b"), nullptr);
}

TEST(PieceCache, StaysWithinItsBytesAndKeepsWhatIsUsed) {
  PieceCache cache(256 << 10);
  for (int i = 0; i < 5000; ++i) {
    cache.Put("hot", MakeIds(7));
    cache.Put("piece " + std::to_string(i), MakeIds(static_cast<kv::TokenId>(i), 50));
    ASSERT_NE(cache.Find("hot"), nullptr) << i;
    ASSERT_LE(cache.bytes(), size_t{256} << 10);
  }
  EXPECT_EQ(cache.Find("piece 0"), nullptr);
  EXPECT_NE(cache.Find("piece 4999"), nullptr);
}

TEST(PieceCache, LeavesOutWhatIsTooLarge) {
  PieceCache cache(1 << 16);
  cache.Put(std::string(1 << 13, 'x'), MakeIds(1));
  EXPECT_EQ(cache.bytes(), 0u);
  PieceCache none(0);
  none.Put("a", MakeIds(1));
  EXPECT_EQ(none.Find("a"), nullptr);
}

TEST(PieceCache, ThreadsShareIt) {
  PieceCache cache(1 << 18);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&cache] {
      for (kv::TokenId i = 0; i < 4000; ++i) {
        const std::string piece = "piece " + std::to_string(i % 700);
        if (const auto ids = cache.Find(piece)) {
          EXPECT_EQ(ids->front(), i % 700);
        } else {
          cache.Put(piece, MakeIds(i % 700, 40));
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_LE(cache.bytes(), size_t{1} << 18);
}

}  // namespace
}  // namespace warmpath::prompt
