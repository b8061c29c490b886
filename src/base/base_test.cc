#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <future>
#include <thread>

#include "base/hash.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/pool.h"
#include "base/rfc3339.h"
#include "base/thread.h"
#include "base/units.h"

namespace warmpath {
namespace {

using namespace std::chrono_literals;

TEST(Units, ReadsGoDurations) {
  EXPECT_EQ(ParseDuration("0").value(), 0ns);
  EXPECT_EQ(ParseDuration("1.5s").value(), 1500ms);
  EXPECT_EQ(ParseDuration("1h2m3s").value(), 3723s);
  EXPECT_EQ(ParseDuration("100us").value(), 100us);
  EXPECT_EQ(ParseDuration("-2ms").value(), -2ms);
  for (const char* bad : {"", "5", "ms", "1x", "1..2s", "99999999999h", "-"}) {
    EXPECT_FALSE(ParseDuration(bad)) << bad;
  }
}

TEST(Units, ReadsSizes) {
  EXPECT_EQ(ParseSize("64MiB").value(), 64u << 20);
  EXPECT_EQ(ParseSize("1.5k").value(), 1500u);
  EXPECT_EQ(ParseSize("1048576").value(), 1048576u);
  for (const char* bad : {"", "MiB", "-1", "1Zi", "1e99G"}) EXPECT_FALSE(ParseSize(bad)) << bad;
}

TEST(Rfc3339, ReadsTimesOfAnyZone) {
  EXPECT_EQ(ParseRfc3339("1970-01-01T00:00:00Z"), 0);
  EXPECT_EQ(ParseRfc3339("2026-01-31T08:00:00.123456Z"), 1'769'846'400);
  EXPECT_EQ(ParseRfc3339("2026-01-31T10:00:00+02:00"), 1'769'846'400);
  for (const char* bad : {"", "2026-02-30T00:00:00Z", "2026-01-31 08:00:00Z", "2026-01-31T08:00:00",
                          "2026-01-31T08:00:00.Z", "2026-01-31T08:00:00+2:00"}) {
    EXPECT_EQ(ParseRfc3339(bad), std::nullopt) << bad;
  }
}

TEST(Hash, AgreesWithKnownDigests) {
  EXPECT_EQ(Hex(Sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Hex(Xxh3Wide("")), "99aa06d3014798d86001c324468d497f");
}

TEST(Log, ATapSeesLinesAndMayKeepThem) {
  LogCapture capture;
  std::vector<std::string> seen;
  SetLogTap([&](std::string_view line) {
    seen.emplace_back(line);
    return line.find("secret") != std::string_view::npos;
  });
  WP_LOG(kInfo, "test", "secret");
  WP_LOG(kInfo, "test", "public");
  SetLogTap(nullptr);
  WP_LOG(kInfo, "test", "later");
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_EQ(capture.text().find("secret"), std::string::npos);
  EXPECT_NE(capture.text().find("public"), std::string::npos);
  EXPECT_NE(capture.text().find("later"), std::string::npos);
}

TEST(Log, PrintsTabSeparatedConsoleLinesWithJsonLast) {
  LogCapture capture;
  SetLogVerbosity(4);
  WP_LOG(kDebug, "a/b", "Got pod scores", {"model", "m\"x"}, {"scores", RawJson{"null"}});
  WP_LOG(kTrace, "a/b", "hidden");
  SetLogVerbosity(2);
  const std::string text = capture.text();
  EXPECT_NE(
      text.find("\tLEVEL(-4)\ta/b\tGot pod scores\t{\"model\": \"m\\\"x\", \"scores\": null}\n"),
      std::string::npos)
      << text;
  EXPECT_EQ(text.find("hidden"), std::string::npos);
}

TEST(Log, QuotesInvalidUtf8AsReplacement) {
  EXPECT_EQ(JsonQuote("a\x01\xff\xc3\xa9"), "\"a\\u0001\xEF\xBF\xBD\xc3\xa9\"");
}

TEST(Metrics, RendersTextAndRefreshesBeforeRender) {
  Registry registry;
  registry.AddCounter("c_total", "a counter", {{"k", "v"}}).Add(2);
  const Gauge gauge = registry.AddGauge("g", "a gauge");
  registry.OnRender([gauge] { gauge.Set(7); });
  registry.AddHistogram("h", "a histogram", {1, 2}).Observe(1.5);
  const std::string text = registry.Render();
  EXPECT_NE(text.find("c_total{k=\"v\"} 2"), std::string::npos) << text;
  EXPECT_NE(text.find("\ng 7"), std::string::npos);
  EXPECT_NE(text.find("h_bucket{le=\"2\"} 1"), std::string::npos);
}

TEST(CpuPool, FinishesAcceptedWorkAndRefusesWhenFull) {
  std::atomic<int> done{0};
  {
    CpuPool pool("t", 2, 1000);
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(pool.TryRun([&] { ++done; }));
  }
  EXPECT_EQ(done, 100);
  CpuPool none("t", 0, 1);
  EXPECT_TRUE(none.TryRun([] {}));
  EXPECT_FALSE(none.TryRun([] {}));
}

TEST(CpuPool, RunsNowOnlyWhereAThreadIsFree) {
  CpuPool none("t", 0, 10);
  EXPECT_FALSE(none.TryRunNow([] {}));
  std::promise<void> begun, go;
  CpuPool one("t", 1, 10);
  while (!one.TryRunNow([&] {
    begun.set_value();
    go.get_future().wait();
  })) {
    std::this_thread::yield();  // it has only been started
  }
  begun.get_future().wait();
  EXPECT_FALSE(one.TryRunNow([] {}));
  EXPECT_TRUE(one.TryRun([] {}));
  go.set_value();
}

TEST(Thread, HasItsNameAndStaysBehindOthersWhereItIsToldTo) {
  const int usual = sched_getscheduler(0);
  std::thread([&] {
    NameThread("a name of more than fifteen bytes");
    char name[16] = {};
    pthread_getname_np(pthread_self(), name, sizeof name);
    EXPECT_STREQ(name, "a name of more ");
    BecomeBackground();
    EXPECT_EQ(sched_getscheduler(0), BackgroundPolicy());
  }).join();
  EXPECT_EQ(sched_getscheduler(0), usual);
}

}  // namespace
}  // namespace warmpath
