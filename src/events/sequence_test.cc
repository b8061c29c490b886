#include "events/sequence.h"

#include <gtest/gtest.h>

namespace warmpath::events {
namespace {

using Verdict = SequenceTracker::Verdict;

TEST(Sequence, TakesAnyFirstNumberThenTheNext) {
  SequenceTracker t;
  EXPECT_EQ(t.Judge(7, 1), Verdict::kApply);
  t.Applied(7, 1);
  EXPECT_EQ(t.Judge(8, 2), Verdict::kApply);
  EXPECT_EQ(t.last(), 7);
}

TEST(Sequence, TellsRepeatsFromRestartsByTheBytes) {
  SequenceTracker t;
  for (uint64_t i = 0; i < 5; ++i) t.Applied(i, 100 + i);
  EXPECT_EQ(t.Judge(4, 104), Verdict::kDuplicate);
  EXPECT_EQ(t.Judge(0, 100), Verdict::kDuplicate);
  EXPECT_EQ(t.Judge(0, 555), Verdict::kRestart);
  EXPECT_EQ(t.Judge(4, 555), Verdict::kRestart);
}

TEST(Sequence, ANumberTooOldToRememberIsARestart) {
  SequenceTracker t;
  for (uint64_t i = 0; i < 1000; ++i) t.Applied(i, i);
  EXPECT_EQ(t.Judge(0, 0), Verdict::kRestart);
  EXPECT_EQ(t.Judge(999, 999), Verdict::kDuplicate);
}

TEST(Sequence, LateArrivalsOfAGapGivenUpAreDuplicates) {
  SequenceTracker t;
  t.Applied(4, 4);
  EXPECT_EQ(t.Judge(7, 7), Verdict::kGap);
  t.GaveUp(5, 6);
  t.Applied(7, 7);
  EXPECT_EQ(t.Judge(5, 5), Verdict::kDuplicate);
  EXPECT_EQ(t.Judge(3, 3), Verdict::kRestart);
  t.Reset();
  EXPECT_FALSE(t.started());
}

}  // namespace
}  // namespace warmpath::events
