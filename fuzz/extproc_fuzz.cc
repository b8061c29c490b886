// ext_proc streams: a byte of options, then messages, each behind its length (two bytes, little
// endian); lengths from 0xfff0 on are events of the stream instead. Whatever comes, answers are
// well formed, an ended stream is silent, and nothing stays booked or buffered; and messages are
// read as the message classes read them.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "extproc/exchange.h"
#include "extproc/request_message.h"

namespace warmpath::extproc {
namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

class World {
 public:
  World() {
    SetLogVerbosity(0);
    fleet_.SetEndpoints(*fleet::ParseEndpoints(
        {"http://127.0.0.1:8001,name=a,events=none", "http://127.0.0.1:8002,name=b,events=none"},
        false));
    const auto snapshot = fleet_.snapshot();
    for (const auto& endpoint : snapshot->endpoints) {
      fleet_.UpdateForTest(endpoint->id, [](fleet::Endpoint& e) {
        e.health = fleet::Health::kHealthy;
        e.models = {{"m", "m", ""}};
      });
    }
  }
  ExchangeShared Shared(uint8_t flags) {
    ExtProcOptions options;
    options.max_request_body = 4096;
    options.max_buffered_bytes = 6000;
    options.conformance_headers = (flags & 1) != 0;
    options.parsers.passthrough = (flags & 2) != 0;
    options.emit_endpoint_scores = (flags & 4) != 0;
    return ExchangeShared(
        options, {director_, fleet_, pool_, metrics_, clock_, [] { return HealthInputs{}; }});
  }
  int64_t InFlight() {
    int64_t sum = 0;
    const auto snapshot = fleet_.snapshot();
    for (const auto& endpoint : snapshot->endpoints) {
      sum += fleet_.inflight().Load(endpoint->id).requests;
    }
    return sum;
  }

 private:
  static routing::DirectorOptions Options() {
    routing::DirectorOptions options;
    options.offload_body_bytes = 256;
    options.beat_interval = Duration(0);
    return options;
  }
  ManualClock clock_;
  Registry metrics_;
  net::Loop loop_{"fuzz"};
  CpuPool pool_{"fuzz", 1, 1};
  index::KvIndex index_{8 << 20};
  std::unique_ptr<scheduling::Scheduler> scheduler_ =
      *scheduling::Scheduler::Create(scheduling::DefaultSchedulerSpec());
  fleet::Fleet fleet_{loop_, {}, metrics_, clock_};
  routing::Director director_{{fleet_, index_, nullptr, *scheduler_, metrics_, clock_}, Options()};
};

class CheckingSink final : public Sink {
 public:
  explicit CheckingSink(bool slow, bool full) : slow_(slow), full_(full) {}
  void Send(std::string_view message) override {
    Require(!finished_);
    pb::ProcessingResponse response;
    Require(response.ParseFromArray(message.data(), static_cast<int>(message.size())));
    Require(response.response_case() != pb::ProcessingResponse::RESPONSE_NOT_SET);
    if (slow_) queued_ += message.size() * 64;
  }
  size_t queued_bytes() const override { return queued_; }
  void SetReading(bool) override {}
  void MarkComplete() override {}
  void Finish(net::GrpcStatus, std::string_view) override {
    Require(!finished_);
    finished_ = true;
  }
  bool Offload(std::function<void()> work, std::function<void()> done) override {
    if (full_) return false;
    work_ = std::move(work);
    done_ = std::move(done);
    return true;
  }
  void StartTimer(Duration) override { timer_ = true; }
  void StopTimer() override { timer_ = false; }

  void Drained() { queued_ = 0; }
  bool timer() const { return timer_; }
  void RunOffloaded() {
    if (!work_) return;
    work_();
    work_ = nullptr;
    const auto done = std::exchange(done_, nullptr);
    done();
  }

 private:
  const bool slow_;
  const bool full_;
  size_t queued_ = 0;
  bool finished_ = false;
  bool timer_ = false;
  std::function<void()> work_;
  std::function<void()> done_;
};

void RequireHeaders(const pb::HttpHeaders& expected, const RequestMessage& message) {
  const auto& headers = expected.headers().headers();
  Require(message.headers().size() == static_cast<size_t>(headers.size()));
  for (int i = 0; i < headers.size(); ++i) {
    const auto& [name, value] = message.headers()[static_cast<size_t>(i)];
    Require(name == headers[i].key());
    Require(value ==
            (headers[i].raw_value().empty() ? headers[i].value() : headers[i].raw_value()));
  }
  Require(message.end_of_stream() == expected.end_of_stream());
}

void RequireSame(std::string_view bytes) {
  pb::ProcessingRequest expected;
  RequestMessage message;
  // What one of them alone refuses (groups; metadata that nobody asks for) says nothing.
  if (!message.Read(bytes) ||
      !expected.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return;
  }
  if (expected.has_request_headers()) RequireHeaders(expected.request_headers(), message);
  if (expected.has_response_headers()) RequireHeaders(expected.response_headers(), message);
  for (const auto* body : {expected.has_request_body() ? &expected.request_body() : nullptr,
                           expected.has_response_body() ? &expected.response_body() : nullptr}) {
    if (body == nullptr) continue;
    Require(message.body() == body->body() && message.end_of_stream() == body->end_of_stream());
  }
  Require((message.kind() == RequestMessage::Kind::kNone) ==
          (expected.request_case() == pb::ProcessingRequest::REQUEST_NOT_SET));
  Require(message.modes().has_value() == expected.has_protocol_config());
  if (message.modes()) {
    Require(message.modes()->request == expected.protocol_config().request_body_mode());
    Require(message.modes()->response == expected.protocol_config().response_body_mode());
  }
}

void Play(std::string_view input) {
  static World world;
  if (input.empty()) return;
  const auto flags = static_cast<uint8_t>(input.front());
  input.remove_prefix(1);
  ExchangeShared shared = world.Shared(flags);
  {
    CheckingSink sink((flags & 8) != 0, (flags & 16) != 0);
    Exchange exchange(shared, sink);
    while (input.size() >= 2) {
      const size_t length =
          static_cast<uint8_t>(input[0]) | static_cast<size_t>(static_cast<uint8_t>(input[1])) << 8;
      input.remove_prefix(2);
      switch (length) {
        case 0xfff0:
          exchange.OnHalfClose();
          break;
        case 0xfff1:
          sink.Drained();
          exchange.OnDrain();
          break;
        case 0xfff2:
          if (sink.timer()) exchange.OnDecisionTimeout();
          break;
        case 0xfff3:
          sink.RunOffloaded();
          break;
        case 0xfff4:
          exchange.OnGone();
          break;
        default:
          RequireSame(input.substr(0, length));
          exchange.OnMessage(input.substr(0, length));
          input.remove_prefix(std::min(length, input.size()));
      }
    }
  }
  Require(world.InFlight() == 0);
  Require(shared.buffered.used() == 0);
}

}  // namespace
}  // namespace warmpath::extproc

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  warmpath::extproc::Play({reinterpret_cast<const char*>(data), size});
  return 0;
}
