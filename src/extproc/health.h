// The answers of grpc.health.v1. Pure functions of HealthInputs, and a handler for one RPC.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "extproc/server.h"

namespace warmpath::extproc {

enum class Serving { kServing, kNotServing };

// The services that have a health of their own.
std::span<const std::string_view> HealthServices();
// nullopt: no such service.
//   "liveness"             always serving: the process answers
//   "inference-extension"  endpoints known, parsers fit the pool, not draining; no such service
//                          when leaders are elected
//   "", "readiness" and the ext_proc service: that, the plugins are ready, and this is the leader
//                          where one is elected
std::optional<Serving> HealthOf(std::string_view service, const HealthInputs& inputs);

// A Check of a service there is not is NOT_FOUND; when leaders are elected, its status is
// SERVICE_UNKNOWN instead.
// A handler for a method of grpc.health.v1.Health; null for any other path.
std::unique_ptr<net::GrpcHandler> MakeHealthHandler(
    std::string_view path, net::GrpcStream& stream,
    std::shared_ptr<const std::function<HealthInputs()>> inputs);

}  // namespace warmpath::extproc
