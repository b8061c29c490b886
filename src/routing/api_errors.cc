#include "routing/api_errors.h"

#include <fmt/format.h>

#include "base/log.h"

namespace warmpath::routing {
namespace {

constexpr int kRetryAfterSeconds = 1;

std::string_view TypeOf(int status) {
  if (status == 429) return "rate_limit_error";
  if (status == 503) return "service_unavailable_error";
  return status < 500 ? "invalid_request_error" : "api_error";
}

}  // namespace

std::string ErrorBody(const ApiError& error) {
  return fmt::format(R"({{"error":{{"message":{},"type":"{}","param":null,"code":{}}}}})",
                     JsonQuote(error.message), TypeOf(error.status),
                     error.code.empty() ? "null" : JsonQuote(error.code));
}

net::Headers ErrorHeaders(const ApiError& error) {
  net::Headers headers{{"Content-Type", "application/json"}};
  if (error.retry_after_s > 0) headers.Add("Retry-After", std::to_string(error.retry_after_s));
  return headers;
}

ApiError FromRouting(const Error& error) {
  switch (error.code) {
    case Code::kInvalidArgument:
      return {400, error.message, "invalid_request", 0};
    case Code::kNotFound:
      return {404, error.message, "model_not_found", 0};
    case Code::kOutOfBounds:
      return {429, error.message, "overloaded", kRetryAfterSeconds};
    case Code::kUnavailable:
    case Code::kTimeout:
    case Code::kCancelled:
      return {503, error.message, "no_endpoint_available", kRetryAfterSeconds};
    case Code::kUnsupported:
      return {501, error.message, "unsupported", 0};
    case Code::kInternal:
      break;
  }
  return {500, error.message, "internal_error", 0};
}

std::string ServerErrorBody(int status, std::string_view reason) {
  const char* code = status == 413 || status == 431 ? "request_too_large"
                     : status == 408                ? "request_timeout"
                                                    : "malformed_request";
  return ErrorBody({status, std::string(reason), code, 0});
}

}  // namespace warmpath::routing
