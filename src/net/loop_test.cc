#include "net/loop.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "net/testing.h"

namespace warmpath::net {
namespace {

using std::chrono::milliseconds;
using testing::Eventually;

TEST(Loop, RunsPostedWorkInOrder) {
  Loop loop("test");
  loop.Start();
  std::vector<int> seen;
  for (int i = 0; i < 100; ++i) {
    loop.Post([&seen, i] { seen.push_back(i); });
  }
  bool inside = false;
  loop.Run([&] { inside = loop.InLoop(); });
  EXPECT_TRUE(inside);
  EXPECT_FALSE(loop.InLoop());
  ASSERT_EQ(seen.size(), 100u);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
}

TEST(Loop, WorkPostedByManyThreadsAllRuns) {
  Loop loop("test");
  loop.Start();
  int count = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) loop.Post([&] { ++count; });
    });
  }
  for (auto& thread : threads) thread.join();
  loop.Run([] {});
  EXPECT_EQ(count, 4000);
}

TEST(Loop, RunsInlineWhenItHasNoThread) {
  Loop loop("test");
  int ran = 0;
  loop.Run([&] { ++ran; });
  EXPECT_EQ(ran, 1);
  loop.Start();
  loop.Stop();
  loop.Run([&] { ++ran; });
  EXPECT_EQ(ran, 2);
}

TEST(Loop, StopDropsWhatWasPosted) {
  auto alive = std::make_shared<int>(0);
  Loop loop("test");
  loop.Post([alive] {});
  EXPECT_EQ(alive.use_count(), 2);
  loop.Stop();
  EXPECT_EQ(alive.use_count(), 1);
  loop.Post([alive] {});
  EXPECT_EQ(alive.use_count(), 1);
}

TEST(Timer, FiresOnceOrPeriodically) {
  Loop loop("test");
  loop.Start();
  std::atomic<int> once{0};
  std::atomic<int> often{0};
  Timer a;
  Timer b;
  loop.Run([&] {
    a = loop.After(milliseconds(1), [&] { ++once; });
    b = loop.Every(milliseconds(1), [&] { ++often; });
  });
  EXPECT_TRUE(Eventually([&] { return often >= 5; }));
  EXPECT_EQ(once, 1);
  loop.Run([&] { b.Cancel(); });
  const int after = often;
  std::atomic<bool> later{false};
  Timer c;
  loop.Run([&] { c = loop.After(milliseconds(10), [&] { later = true; }); });
  EXPECT_TRUE(Eventually([&] { return later.load(); }));
  EXPECT_EQ(often, after);
  loop.Stop();
}

TEST(Timer, MayCancelAndReplaceItselfWhileFiring) {
  Loop loop("test");
  loop.Start();
  std::atomic<int> fired{0};
  Timer timer;
  loop.Run([&] {
    timer = loop.Every(milliseconds(1), [&] {
      ++fired;
      timer = loop.After(milliseconds(1), [&] { fired += 10; });
    });
  });
  EXPECT_TRUE(Eventually([&] { return fired == 11; }));
  loop.Stop();
}

TEST(Timer, MayOutliveItsLoop) {
  Timer timer;
  {
    Loop loop("test");
    timer = loop.After(std::chrono::hours(1), [] {});
  }
  timer.Cancel();
}

TEST(Timer, AnEarlierTimerIsNotHeldUpByALaterOne) {
  Loop loop("test");
  loop.Start();
  std::atomic<bool> fired{false};
  Timer late;
  Timer early;
  loop.Run([&] {
    late = loop.After(std::chrono::hours(1), [] {});
    early = loop.After(milliseconds(1), [&] { fired = true; });
  });
  EXPECT_TRUE(Eventually([&] { return fired.load(); }));
  loop.Stop();
}

}  // namespace
}  // namespace warmpath::net
