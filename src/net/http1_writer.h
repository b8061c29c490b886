// HTTP/1.1 heads and chunks as bytes. Pure functions. Fields that would break the framing (no token
// as name, control characters in the value) are left out, and Connection, Transfer-Encoding and
// Content-Length are the writer's own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "net/http.h"

namespace warmpath::net {

struct ResponseFraming {
  std::optional<uint64_t> content_length;
  bool chunked = false;
  std::string_view connection;   // value of the Connection field; "" = none
  std::string_view server_name;  // "" = none
};

void AppendResponseHead(std::string& out, int status, const Headers& headers,
                        const ResponseFraming& framing);
// `host` is used when the headers have no Host; the length is written when `body_size` > 0 or the
// method usually has content. No size: chunks follow.
void AppendRequestHead(std::string& out, const HttpRequest& request,
                       std::optional<uint64_t> body_size, std::string_view base_path,
                       std::string_view host);
void AppendChunk(std::string& out,
                 std::string_view bytes);  // not for empty bytes: that would be the end
void AppendLastChunk(std::string& out);

}  // namespace warmpath::net
