#include "net/deadline_wheel.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace warmpath::net {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;

class DeadlineWheelTest : public ::testing::Test {
 protected:
  DeadlineWheelTest() {
    wheel_.UseNow([this] { return clock_.Now(); });
  }
  void Pass(Duration time) {
    clock_.Advance(time);
    wheel_.Advance(clock_.Now());
  }

  ManualClock clock_;
  DeadlineWheel wheel_{clock_.Now()};
  int fired_ = 0;
};

TEST_F(DeadlineWheelTest, FiresOnceAfterItsTimeAndNotBefore) {
  Deadline deadline(wheel_, [this] { ++fired_; });
  deadline.Set(milliseconds(300));
  Pass(milliseconds(299));
  EXPECT_EQ(fired_, 0);
  Pass(2 * DeadlineWheel::kTick);
  EXPECT_EQ(fired_, 1);
  Pass(minutes(1));
  EXPECT_EQ(fired_, 1);
  EXPECT_TRUE(wheel_.empty());
}

TEST_F(DeadlineWheelTest, MovesLaterAndEarlier) {
  Deadline deadline(wheel_, [this] { ++fired_; });
  deadline.Set(milliseconds(200));
  Pass(milliseconds(150));
  deadline.Set(milliseconds(200));
  Pass(milliseconds(150));
  EXPECT_EQ(fired_, 0);
  deadline.Set(milliseconds(10'000));
  deadline.Set(milliseconds(50));
  Pass(milliseconds(150));
  EXPECT_EQ(fired_, 1);
}

TEST_F(DeadlineWheelTest, ClearedNeverFires) {
  Deadline deadline(wheel_, [this] { ++fired_; });
  deadline.Set(milliseconds(100));
  deadline.Clear();
  Pass(minutes(1));
  EXPECT_EQ(fired_, 0);
}

TEST_F(DeadlineWheelTest, KeepsDeadlinesBeyondItsHorizon) {
  Deadline deadline(wheel_, [this] { ++fired_; });
  deadline.Set(minutes(10));
  for (int i = 0; i < 599; ++i) Pass(std::chrono::seconds(1));
  EXPECT_EQ(fired_, 0);
  Pass(std::chrono::seconds(2));
  EXPECT_EQ(fired_, 1);
}

TEST_F(DeadlineWheelTest, TellsWhenItWantsToBeLookedAt) {
  EXPECT_FALSE(wheel_.next());
  const TimePoint start = clock_.Now();
  Deadline late(wheel_, [this] { ++fired_; });
  Deadline soon(wheel_, [this] { ++fired_; });
  late.Set(minutes(2));
  soon.Set(std::chrono::seconds(3));
  // Called when it says so, and only then.
  int looks = 0;
  while (const auto next = wheel_.next()) {
    ASSERT_GT(*next, clock_.Now());
    Pass(*next - clock_.Now());
    ++looks;
    if (fired_ == 1 && looks == 1) {
      EXPECT_LE(clock_.Now() - start, std::chrono::seconds(3) + 2 * DeadlineWheel::kTick);
    }
  }
  EXPECT_EQ(fired_, 2);
  EXPECT_LE(looks, 8);  // the horizon is half a minute
  EXPECT_LE(clock_.Now() - start, minutes(2) + 2 * DeadlineWheel::kTick);
}

TEST_F(DeadlineWheelTest, CallbacksMayDestroyAndSetDeadlines) {
  std::vector<std::unique_ptr<Deadline>> all;
  for (int i = 0; i < 10; ++i) {
    all.push_back(std::make_unique<Deadline>(wheel_, [this, &all] {
      ++fired_;
      all.clear();  // this one among them
    }));
    all.back()->Set(milliseconds(100));
  }
  Pass(milliseconds(300));
  EXPECT_EQ(fired_, 1);
  EXPECT_TRUE(wheel_.empty());
}

TEST_F(DeadlineWheelTest, SetFromTheCallbackIsPeriodic) {
  std::unique_ptr<Deadline> deadline;
  deadline = std::make_unique<Deadline>(wheel_, [&] {
    ++fired_;
    deadline->Set(milliseconds(100));
  });
  deadline->Set(milliseconds(100));
  for (int i = 0; i < 30; ++i) Pass(milliseconds(100));
  EXPECT_GT(fired_, 10);
}

}  // namespace
}  // namespace warmpath::net
