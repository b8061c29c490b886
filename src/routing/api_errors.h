// Errors the router answers itself, in OpenAI's shape. Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "net/http.h"

namespace warmpath::routing {

struct ApiError {
  int status = 500;
  std::string message;
  std::string code;       // stable word for programs; "" = null
  int retry_after_s = 0;  // 0 = no Retry-After
};

// {"error":{"message","type","param":null,"code"}}; the type follows from the status.
std::string ErrorBody(const ApiError& error);
net::Headers ErrorHeaders(const ApiError& error);

// What a request meets when the Director cannot prepare or place it.
ApiError FromRouting(const Error& error);
// Bad framing and limits, found by the server before a request exists.
std::string ServerErrorBody(int status, std::string_view reason);

}  // namespace warmpath::routing
