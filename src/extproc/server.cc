#include "extproc/server.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "extproc/exchange.h"
#include "extproc/health.h"

namespace warmpath::extproc {
namespace {

using net::GrpcStatus;

constexpr std::string_view kProcess = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

// gRPC's own names, as llm-d labels them.
const char* CodeLabel(GrpcStatus status) {
  switch (status) {
    case GrpcStatus::kOk:
      return "OK";
    case GrpcStatus::kCancelled:
      return "Canceled";
    case GrpcStatus::kInvalidArgument:
      return "InvalidArgument";
    case GrpcStatus::kDeadlineExceeded:
      return "DeadlineExceeded";
    case GrpcStatus::kNotFound:
      return "NotFound";
    case GrpcStatus::kResourceExhausted:
      return "ResourceExhausted";
    case GrpcStatus::kFailedPrecondition:
      return "FailedPrecondition";
    case GrpcStatus::kUnimplemented:
      return "Unimplemented";
    case GrpcStatus::kInternal:
      return "Internal";
    case GrpcStatus::kUnavailable:
      return "Unavailable";
  }
  return "Unknown";
}

// Outlives the streams, which may end after the server object.
struct ServerShared {
  ServerShared(ExtProcOptions options, ExtProcDeps deps)
      : exchange(std::move(options), std::move(deps)) {
    if (exchange.options.stream_metrics) streams.emplace(exchange.deps.metrics);
  }
  ExchangeShared exchange;
  std::optional<StreamMetrics> streams;
};

class ProcessHandler final : public net::GrpcHandler, private Sink {
 public:
  ProcessHandler(std::shared_ptr<ServerShared> shared, net::GrpcStream& stream)
      : shared_(std::move(shared)),
        stream_(stream),
        started_(shared_->streams ? shared_->exchange.deps.clock.Now() : TimePoint()),
        exchange_(std::in_place, shared_->exchange, static_cast<Sink&>(*this)) {
    if (shared_->streams) shared_->streams->in_flight.Add(1);
  }
  ~ProcessHandler() override {
    // While the sink is whole: ending an exchange may still stop its timer.
    exchange_.reset();
    if (!shared_->streams) return;
    shared_->streams->in_flight.Add(-1);
    const double seconds = ToSeconds(shared_->exchange.deps.clock.Now() - started_);
    shared_->streams->CountEnd(CodeLabel(status_), seconds);
  }

  void OnMessage(std::string_view message) override { exchange_->OnMessage(message); }
  void OnHalfClose() override { exchange_->OnHalfClose(); }
  void OnDrain() override { exchange_->OnDrain(); }
  void OnGone() override {
    status_ = GrpcStatus::kCancelled;
    exchange_->OnGone();
  }

 private:
  void Send(std::string_view message) override { stream_.Send(message); }
  void SendPieces(std::span<const std::string_view> pieces) override { stream_.SendPieces(pieces); }
  size_t queued_bytes() const override { return stream_.queued_bytes(); }
  void SetReading(bool reading) override { stream_.SetReading(reading); }
  void MarkComplete() override { stream_.MarkComplete(); }
  void Finish(GrpcStatus status, std::string_view message) override {
    status_ = status;
    stream_.Finish(status, message);
  }
  bool Offload(std::function<void()> work, std::function<void()> done) override {
    if (alive_ == nullptr) alive_ = std::make_shared<bool>();
    return shared_->exchange.deps.pool.TryRun([work = std::move(work), done = std::move(done),
                                               loop = &stream_.loop(),
                                               alive = std::weak_ptr(alive_)] {
      work();
      loop->Post([done, alive] {
        if (!alive.expired()) done();
      });
    });
  }
  void StartTimer(Duration delay) override {
    timer_ = stream_.loop().After(delay, [this] { exchange_->OnDecisionTimeout(); });
  }
  void StopTimer() override { timer_.Cancel(); }

  const std::shared_ptr<ServerShared> shared_;
  net::GrpcStream& stream_;
  const TimePoint started_;
  GrpcStatus status_ = GrpcStatus::kOk;
  net::Timer timer_;
  std::shared_ptr<bool> alive_;  // made when asked for; then as long as this handler
  std::optional<Exchange> exchange_;
};

class ExtProcServerImpl final : public ExtProcServer {
 public:
  explicit ExtProcServerImpl(std::unique_ptr<net::GrpcServer> server)
      : server_(std::move(server)) {}
  net::HostPort address() const override { return server_->address(); }
  size_t connections() const override { return server_->connections(); }
  void Drain() override { server_->Drain(); }
  void Stop(Duration deadline) override { server_->Stop(deadline); }

 private:
  const std::unique_ptr<net::GrpcServer> server_;
};

}  // namespace

Result<std::unique_ptr<ExtProcServer>> ExtProcServer::Create(net::LoopGroup& loops,
                                                             ExtProcOptions options,
                                                             ExtProcDeps deps) {
  const net::HostPort listen = options.listen;
  net::GrpcServerOptions grpc = options.grpc;
  // An exchange waits for OnDrain above this many queued bytes: the mark must lie below.
  grpc.low_water_bytes = std::min(grpc.low_water_bytes, kSendAhead / 2);
  // Messages under way are bodies too, but one must always fit.
  grpc.max_held_bytes =
      std::max(grpc.max_message_bytes, std::min(grpc.max_held_bytes, options.max_buffered_bytes));
  const bool serve_health = options.health_on_this_port;
  const auto health = std::make_shared<const std::function<HealthInputs()>>(deps.health);
  const auto shared = std::make_shared<ServerShared>(std::move(options), std::move(deps));
  WP_TRY(auto server, net::GrpcServer::Listen(
                          loops, listen, std::move(grpc),
                          [shared, health, serve_health](
                              std::string_view path,
                              net::GrpcStream& stream) -> std::unique_ptr<net::GrpcHandler> {
                            if (path == kProcess)
                              return std::make_unique<ProcessHandler>(shared, stream);
                            return serve_health ? MakeHealthHandler(path, stream, health) : nullptr;
                          }));
  return std::make_unique<ExtProcServerImpl>(std::move(server));
}

}  // namespace warmpath::extproc
