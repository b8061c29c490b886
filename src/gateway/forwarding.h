// Which headers cross the gateway, and how. Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "net/http.h"

namespace warmpath::gateway {

// The client's headers as an engine gets them: no hop-by-hop, framing, Host or routing headers;
// with the request id, and with `engine_api_key` as a bearer token when the client sent no
// Authorization ("" = none).
net::Headers UpstreamHeaders(const net::Headers& client, const std::string& request_id,
                             const std::string& engine_api_key);
// What routing and its plugins may read of a client's headers: all but those by which a client
// would choose the destination or the model it is not entitled to.
net::Headers RoutingHeadersOf(const net::Headers& client);
// An engine's headers as the client gets them. Content-Length stays: bodies pass unchanged.
net::Headers DownstreamHeaders(net::Headers upstream, const std::string& request_id);

}  // namespace warmpath::gateway
