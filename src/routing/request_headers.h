// Request headers that routing reads, makes or keeps from clients. Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "net/http.h"

namespace warmpath::routing {

// The client's x-request-id when it is 1 to 128 printable ASCII characters without blanks, else a
// new one.
std::string RequestIdOf(const net::Headers& headers);

// True for headers by which a client would choose the endpoint or another model. Objective,
// fairness id and session token are not among them: those are a client's to give.
bool ChoosesDestination(std::string_view name);

// True for headers by which a client could choose the destination or pose as the router; never
// forwarded.
bool IsRoutingHeader(std::string_view name);

}  // namespace warmpath::routing
