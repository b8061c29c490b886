#include "net/http1_writer.h"

#include <fmt/format.h>

#include <iterator>

#include "base/units.h"
#include "net/http1_parser.h"

namespace warmpath::net {
namespace {

void AppendField(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ").append(value).append("\r\n");
}

bool IsOurs(std::string_view name) {
  return EqualsIgnoreCase(name, "Connection") || EqualsIgnoreCase(name, "Transfer-Encoding") ||
         EqualsIgnoreCase(name, "Content-Length");
}

void AppendFields(std::string& out, const Headers& headers) {
  for (const auto& [name, value] : headers) {
    if (!IsOurs(name) && IsToken(name) && IsFieldValue(value)) AppendField(out, name, value);
  }
}

}  // namespace

void AppendResponseHead(std::string& out, int status, const Headers& headers,
                        const ResponseFraming& framing) {
  fmt::format_to(std::back_inserter(out), "HTTP/1.1 {} {}\r\n", status, ReasonPhrase(status));
  if (!framing.server_name.empty() && !headers.Get("Server")) {
    AppendField(out, "Server", framing.server_name);
  }
  AppendFields(out, headers);
  if (framing.chunked) AppendField(out, "Transfer-Encoding", "chunked");
  if (framing.content_length) {
    AppendField(out, "Content-Length", fmt::format_int(*framing.content_length).c_str());
  }
  if (!framing.connection.empty()) AppendField(out, "Connection", framing.connection);
  out += "\r\n";
}

void AppendRequestHead(std::string& out, const HttpRequest& request,
                       std::optional<uint64_t> body_size, std::string_view base_path,
                       std::string_view host) {
  out.append(request.method).append(" ").append(base_path).append(request.target);
  out += " HTTP/1.1\r\n";
  if (!request.headers.Get("Host")) AppendField(out, "Host", host);
  AppendFields(out, request.headers);
  const bool usual =
      request.method == "POST" || request.method == "PUT" || request.method == "PATCH";
  if (!body_size) {
    AppendField(out, "Transfer-Encoding", "chunked");
  } else if (usual || *body_size > 0) {
    AppendField(out, "Content-Length", fmt::format_int(*body_size).c_str());
  }
  out += "\r\n";
}

void AppendChunk(std::string& out, std::string_view bytes) {
  fmt::format_to(std::back_inserter(out), "{:x}\r\n", bytes.size());
  out.append(bytes).append("\r\n");
}

void AppendLastChunk(std::string& out) {
  out += "0\r\n\r\n";
}

}  // namespace warmpath::net
