#include "extproc/health.h"

#include <array>
#include <string>
#include <utility>

#include "health.pb.h"

namespace warmpath::extproc {
namespace {

namespace hpb = grpc::health::v1;
using net::GrpcStatus;
using Inputs = std::shared_ptr<const std::function<HealthInputs()>>;

constexpr std::string_view kLiveness = "liveness";
constexpr std::string_view kLegacy = "inference-extension";
constexpr std::array<std::string_view, 5> kServices = {
    "", "readiness", kLiveness, kLegacy, "envoy.service.ext_proc.v3.ExternalProcessor"};

hpb::HealthCheckResponse::ServingStatus WireStatus(Serving serving) {
  return serving == Serving::kServing ? hpb::HealthCheckResponse::SERVING
                                      : hpb::HealthCheckResponse::NOT_SERVING;
}

// One request message, one answer.
class UnaryHandler : public net::GrpcHandler {
 public:
  UnaryHandler(net::GrpcStream& stream, Inputs inputs)
      : stream_(stream), inputs_(std::move(inputs)) {}
  void OnMessage(std::string_view message) final {
    if (std::exchange(answered_, true)) return;
    Answer(message);
  }
  void OnHalfClose() final {
    if (!std::exchange(answered_, true)) {
      stream_.Finish(GrpcStatus::kInvalidArgument, "no request message");
    }
  }
  void OnGone() final { answered_ = true; }

 protected:
  virtual void Answer(std::string_view message) = 0;
  HealthInputs Now() const { return (*inputs_)(); }
  net::GrpcStream& stream() { return stream_; }

 private:
  net::GrpcStream& stream_;
  const Inputs inputs_;
  bool answered_ = false;
};

class CheckHandler final : public UnaryHandler {
 public:
  using UnaryHandler::UnaryHandler;

 private:
  void Answer(std::string_view message) override {
    hpb::HealthCheckRequest request;
    if (!request.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
      return stream().Finish(GrpcStatus::kInvalidArgument, "not a HealthCheckRequest");
    }
    const HealthInputs inputs = Now();
    const auto serving = HealthOf(request.service(), inputs);
    hpb::HealthCheckResponse response;
    if (serving) {
      response.set_status(WireStatus(*serving));
    } else if (inputs.elects) {
      response.set_status(hpb::HealthCheckResponse::SERVICE_UNKNOWN);
    } else {
      return stream().Finish(GrpcStatus::kNotFound, "unknown service");
    }
    stream().Send(response.SerializeAsString());
    stream().Finish(GrpcStatus::kOk);
  }
};

class ListHandler final : public UnaryHandler {
 public:
  using UnaryHandler::UnaryHandler;

 private:
  void Answer(std::string_view) override {
    const HealthInputs inputs = Now();
    hpb::HealthListResponse response;
    for (const std::string_view service : kServices) {
      if (const auto serving = HealthOf(service, inputs)) {
        (*response.mutable_statuses())[std::string(service)].set_status(WireStatus(*serving));
      }
    }
    stream().Send(response.SerializeAsString());
    stream().Finish(GrpcStatus::kOk);
  }
};

class HealthServerImpl final : public HealthServer {
 public:
  explicit HealthServerImpl(std::unique_ptr<net::GrpcServer> server) : server_(std::move(server)) {}
  net::HostPort address() const override { return server_->address(); }
  void Stop() override { server_->Stop(Duration(0)); }

 private:
  const std::unique_ptr<net::GrpcServer> server_;
};

}  // namespace

std::span<const std::string_view> HealthServices() {
  return kServices;
}

std::optional<Serving> HealthOf(std::string_view service, const HealthInputs& inputs) {
  bool known = false;
  for (const std::string_view name : kServices) known = known || name == service;
  if (!known || (inputs.elects && service == kLegacy)) return std::nullopt;
  if (service == kLiveness) return Serving::kServing;
  const bool serving = inputs.pool_synced && inputs.protocol_compatible && !inputs.draining &&
                       (inputs.plugins_ready || service == kLegacy) &&
                       (inputs.leading || !inputs.elects);
  return serving ? Serving::kServing : Serving::kNotServing;
}

std::unique_ptr<net::GrpcHandler> MakeHealthHandler(std::string_view path, net::GrpcStream& stream,
                                                    Inputs inputs) {
  if (path == "/grpc.health.v1.Health/Check") {
    return std::make_unique<CheckHandler>(stream, std::move(inputs));
  }
  if (path == "/grpc.health.v1.Health/List") {
    return std::make_unique<ListHandler>(stream, std::move(inputs));
  }
  return nullptr;
}

Result<std::unique_ptr<HealthServer>> HealthServer::Create(net::Loop& loop,
                                                           const net::HostPort& listen,
                                                           std::function<HealthInputs()> health) {
  const auto inputs = std::make_shared<const std::function<HealthInputs()>>(std::move(health));
  WP_TRY(auto server,
         net::GrpcServer::Listen(loop, listen, {},
                                 [inputs](std::string_view path, net::GrpcStream& stream) {
                                   return MakeHealthHandler(path, stream, inputs);
                                 }));
  return std::make_unique<HealthServerImpl>(std::move(server));
}

}  // namespace warmpath::extproc
