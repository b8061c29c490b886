// Bodies that are shown to somebody while they arrive.
#include "net/body_reception.h"

#include <gtest/gtest.h>

#include "base/mutex.h"
#include "net/testing.h"

namespace warmpath::net {
namespace {

using testing::Eventually;
using testing::RawClient;

// What was shown of bodies, and who is watching.
struct Shown {
  Mutex mutex;
  std::vector<std::string> begun GUARDED_BY(mutex);
  std::vector<uint64_t> asked GUARDED_BY(mutex);
  std::shared_ptr<int> watcher = std::make_shared<int>();

  size_t times() {
    MutexLock lock(mutex);
    return begun.size();
  }
  // Every body, as it grows by `step`.
  HttpServerOptions Watch(size_t step) {
    HttpServerOptions options;
    options.watch_body_from = step;
    options.watch_body_after = Duration::zero();
    options.watch_body = [this, step](const HttpRequest& head, uint64_t length) -> BodyWatcher {
      EXPECT_EQ(head.method, "POST");
      MutexLock lock(mutex);
      asked.push_back(length);
      if (head.target == "/not-this-one") return nullptr;
      return [this, step, alive = watcher](std::string_view so_far) {
        MutexLock shown(mutex);
        begun.emplace_back(so_far);
        return so_far.size() + step;
      };
    };
    return options;
  }
};

class BodyReceptionTest : public ::testing::Test {
 protected:
  // Answers with the body.
  void Serve(HttpServerOptions options) {
    server_.reset();
    auto server = HttpServer::Listen(loop_, {"127.0.0.1", 0}, std::move(options),
                                     [](std::shared_ptr<HttpExchange> exchange) {
                                       exchange->Respond(200, {}, exchange->request().body);
                                     });
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  void SetUp() override { loop_.Start(); }

  Loop loop_{"test"};
  std::unique_ptr<HttpServer> server_;
};

TEST_F(BodyReceptionTest, ShowsBodiesThatAreStillArrivingToWhoWatches) {
  Shown shown;
  Serve(shown.Watch(10));
  RawClient client(server_->port());
  client.Send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n");
  client.Send("0123456789");
  ASSERT_TRUE(Eventually([&] { return shown.times() == 1; }));
  client.Send("abc");
  client.Send("defghij");
  ASSERT_TRUE(Eventually([&] { return shown.times() == 2; }));
  EXPECT_EQ(shown.watcher.use_count(), 2);
  client.Send(std::string(40'000 - 20, 'x'));
  ASSERT_TRUE(client.ReadUntil("xxxx"));
  EXPECT_EQ(shown.watcher.use_count(), 1);
  // A whole body is shown to nobody, however often it is read.
  {
    MutexLock lock(shown.mutex);
    EXPECT_EQ(shown.asked, std::vector<uint64_t>{40'000});
    EXPECT_EQ(shown.begun[0], "0123456789");
    EXPECT_EQ(shown.begun[1], "0123456789abcdefghij");
    for (const std::string& begun : shown.begun) EXPECT_LT(begun.size(), 40'000u);
  }
  client.Forget();
  client.Send("POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n0123456789abcdefghij");
  ASSERT_TRUE(client.ReadUntil("ghij"));
  MutexLock lock(shown.mutex);
  EXPECT_EQ(shown.asked.size(), 1u);
}

TEST_F(BodyReceptionTest, ShowsChunkedBodiesAndForgetsThoseGivenUp) {
  Shown shown;
  Serve(shown.Watch(4));
  RawClient client(server_->port());
  client.Send("POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n");
  ASSERT_TRUE(Eventually([&] { return shown.times() == 1; }));
  EXPECT_EQ(shown.watcher.use_count(), 2);
  client.Send("no chunk\r\n");
  ASSERT_TRUE(client.ReadUntil("HTTP/1.1 400"));
  EXPECT_EQ(shown.watcher.use_count(), 1);
  {
    RawClient gone(server_->port());
    gone.Send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabcd");
    ASSERT_TRUE(Eventually([&] { return shown.times() == 2; }));
  }
  EXPECT_TRUE(Eventually([&] { return shown.watcher.use_count() == 1; }));
  MutexLock lock(shown.mutex);
  EXPECT_EQ(shown.asked, (std::vector<uint64_t>{0, 9}));
}

TEST_F(BodyReceptionTest, ShowsNothingToWhoDoesNotWatchAndNothingOfQuickBodies) {
  Shown shown;
  HttpServerOptions options = shown.Watch(1);
  Serve(options);
  RawClient client(server_->port());
  client.Send("POST /not-this-one HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\na");
  const auto asked = [&] {
    MutexLock lock(shown.mutex);
    return shown.asked.size();
  };
  ASSERT_TRUE(Eventually([&] { return asked() == 1; }));
  client.Send("b");
  client.Send("cd");
  ASSERT_TRUE(client.ReadUntil("abcd"));
  EXPECT_EQ(asked(), 1u);
  EXPECT_EQ(shown.times(), 0u);

  options.watch_body_after = std::chrono::hours(1);
  Serve(options);
  RawClient quick(server_->port());
  quick.Send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
  ASSERT_TRUE(quick.ReadUntil("100 Continue"));
  quick.Send("ab");
  quick.Send("cd");
  ASSERT_TRUE(quick.ReadUntil("abcd"));
  EXPECT_EQ(asked(), 1u);
}

}  // namespace
}  // namespace warmpath::net
