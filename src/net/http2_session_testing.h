// For tests of an Http2Session: one with a client at its other end, without sockets.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <string_view>

#include "net/http2_session.h"
#include "net/http2_testing.h"

namespace warmpath::net::testing {

class Http2SessionTest : public ::testing::Test, public Http2Session::Host {
 protected:
  Loop& loop() override { return loop_; }
  std::string_view peer() const override { return "127.0.0.1:1"; }
  TimePoint Now() const override { return clock_.Now(); }
  void OnWork() override { ++work_; }

  Http2Session& session() {
    if (!session_) session_ = std::make_unique<Http2Session>(*this, options_, service_, held_);
    return *session_;
  }
  Status Receive(std::string_view bytes, size_t step) {
    while (!bytes.empty()) {
      WP_RETURN_IF_ERROR(session().Receive(bytes.substr(0, step)));
      bytes.remove_prefix(std::min(step, bytes.size()));
    }
    return {};
  }
  // Lets both sides talk until neither has anything to say.
  Status Exchange(size_t step = SIZE_MAX) {
    while (true) {
      const std::string to_server = client_.Output();
      Status received = Receive(to_server, step);
      std::string to_client;
      session().Produce(to_client, SIZE_MAX);
      EXPECT_TRUE(client_.Input(to_client));
      if (!received) return received;
      if (to_server.empty() && to_client.empty()) return {};
    }
  }

  ManualClock clock_;
  Loop loop_{"test"};
  GrpcServerOptions options_;
  ServiceLog log_;
  GrpcServer::Service service_ = TestService(log_);
  Http2Client client_;
  int work_ = 0;
  std::atomic<size_t> held_{0};
  std::unique_ptr<Http2Session> session_;
};

}  // namespace warmpath::net::testing
