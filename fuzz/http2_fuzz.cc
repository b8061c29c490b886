// Bytes of a client into a gRPC server session whose service echoes: whole and in pieces the
// session ends in the same state, every handler is destroyed, none hears anything after its end,
// and what is produced is whole frames.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/check.h"
#include "net/http2_session.h"

namespace {

using warmpath::ManualClock;
using warmpath::TimePoint;
using warmpath::net::GrpcHandler;
using warmpath::net::GrpcServer;
using warmpath::net::GrpcServerOptions;
using warmpath::net::GrpcStatus;
using warmpath::net::GrpcStream;
using warmpath::net::Http2Session;
using warmpath::net::Loop;

struct Counts {
  int begun = 0;
  int destroyed = 0;
  int messages = 0;
  int half_closes = 0;
  int gone = 0;
  size_t bytes = 0;
  friend bool operator==(const Counts&, const Counts&) = default;
};

// Echoes; "done" completes, "fail" ends the stream, "pause" stops reading until the next turn.
class Handler final : public GrpcHandler {
 public:
  Handler(Counts& counts, GrpcStream& stream) : counts_(counts), stream_(stream) {
    ++counts_.begun;
  }
  ~Handler() override { ++counts_.destroyed; }
  void OnMessage(std::string_view message) override {
    WP_CHECK(!over_);
    ++counts_.messages;
    counts_.bytes += message.size();
    stream_.Send(message);
    if (message == "done") stream_.MarkComplete();
    if (message == "pause") stream_.SetReading(false);
    if (message == "fail") Finish(GrpcStatus::kNotFound);
  }
  void OnHalfClose() override {
    WP_CHECK(!over_);
    ++counts_.half_closes;
    Finish(GrpcStatus::kOk);
  }
  void OnDrain() override { WP_CHECK(!over_); }
  void OnGone() override {
    WP_CHECK(!over_);
    over_ = true;
    ++counts_.gone;
    stream_.Send("no effect");
  }

 private:
  void Finish(GrpcStatus status) {
    over_ = true;
    stream_.Finish(status, "the end");
  }

  Counts& counts_;
  GrpcStream& stream_;
  bool over_ = false;
};

class Host final : public Http2Session::Host {
 public:
  Loop& loop() override { return loop_; }
  std::string_view peer() const override { return "127.0.0.1:1"; }
  TimePoint Now() const override { return clock_.Now(); }
  void OnWork() override {}
  void OnStreamBegin() override { ++streams; }
  void OnStreamEnd() override { --streams; }
  int streams = 0;

 private:
  static inline Loop loop_{"fuzz"};
  ManualClock clock_;
};

void CheckFrames(std::string_view out) {
  while (!out.empty()) {
    WP_CHECK(out.size() >= 9);
    const size_t length = static_cast<size_t>(static_cast<uint8_t>(out[0])) << 16 |
                          static_cast<size_t>(static_cast<uint8_t>(out[1])) << 8 |
                          static_cast<size_t>(static_cast<uint8_t>(out[2]));
    WP_CHECK(out.size() >= 9 + length);
    out.remove_prefix(9 + length);
  }
}

// Output is only taken at the end, so that where the input is cut changes nothing.
Counts Play(std::string_view input, size_t step) {
  Counts counts;
  Host host;
  std::atomic<size_t> held_bytes{0};
  GrpcServerOptions options;
  options.max_message_bytes = 10'000;
  options.max_header_bytes = 4'000;
  options.max_concurrent_streams = 20;
  const GrpcServer::Service service =
      [&counts](std::string_view path, GrpcStream& stream) -> std::unique_ptr<GrpcHandler> {
    if (path == "/t.T/None") return nullptr;
    return std::make_unique<Handler>(counts, stream);
  };
  {
    Http2Session session(host, options, service, held_bytes);
    while (!input.empty()) {
      if (!session.Receive(input.substr(0, step))) break;
      input.remove_prefix(std::min(step, input.size()));
    }
    std::string out;
    session.Produce(out, SIZE_MAX);
    CheckFrames(out);
    session.Drain();
    out.clear();
    session.Produce(out, 100);
    session.Close();
    session.Produce(out, SIZE_MAX);
    CheckFrames(out);
    WP_CHECK(session.finished());
  }
  WP_CHECK(host.streams == 0);
  WP_CHECK(held_bytes == 0);
  WP_CHECK(counts.begun == counts.destroyed);
  return counts;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const Counts whole = Play(input, SIZE_MAX);
  WP_CHECK(Play(input, 7) == whole);
  if (size < 2'000) WP_CHECK(Play(input, 1) == whole);
  return 0;
}
