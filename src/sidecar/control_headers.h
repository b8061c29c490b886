// Which of the headers that a scheduler sends to a sidecar ask for what. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "net/address.h"
#include "net/http.h"

namespace warmpath::sidecar {

// Asks for the engine of another data-parallel rank: "<pod address>:<sidecar port of the rank>".
inline constexpr std::string_view kDataParallelHeader = "x-data-parallel-host-port";

// The first header that asks for a leg elsewhere (prefill, encode, a remote KV cache), by its
// canonical name; empty: the request is for the engine beside the sidecar alone. A header without a
// value asks for nothing.
std::string_view DisaggregationHeader(const net::Headers& headers);

// Hop-by-hop fields and Expect are for one connection only: what is left of `headers`, and of an
// HTTP/1.1 request or answer.
net::Headers EndToEnd(net::Headers headers);

// The protocol a request wants to switch to, "" when none; h2c counts as none, as RFC 9110 lets a
// server ignore it.
std::string UpgradeOf(const net::Headers& headers);

// {"error":{"message","type","param":null,"code"}}, as OpenAI's API shapes errors.
std::string ErrorBody(int status, std::string_view message, std::string_view code);

}  // namespace warmpath::sidecar
