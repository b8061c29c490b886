#include "net/http1_writer.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "base/units.h"
#include "net/http1_parser.h"

namespace warmpath::net {
namespace {

constexpr size_t kUsualHead = 192;  // without the headers

void AppendNumber(std::string& out, uint64_t number) {
  const fmt::format_int text(number);
  out.append(text.data(), text.size());
}

void AppendField(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ").append(value).append("\r\n");
}

bool IsOurs(std::string_view name) {
  switch (name.size()) {
    case 10:
      return EqualsIgnoreCase(name, "Connection");
    case 14:
      return EqualsIgnoreCase(name, "Content-Length");
    case 17:
      return EqualsIgnoreCase(name, "Transfer-Encoding");
    default:
      return false;
  }
}

void AppendFields(std::string& out, const Headers& headers) {
  for (const auto& [name, value] : headers) {
    if (!IsOurs(name) && IsToken(name) && IsFieldValue(value)) AppendField(out, name, value);
  }
}

}  // namespace

void AppendResponseHead(std::string& out, int status, const Headers& headers,
                        const ResponseFraming& framing) {
  out.reserve(out.size() + kUsualHead + headers.bytes() + 4 * headers.size());
  out += "HTTP/1.1 ";
  AppendNumber(out, static_cast<uint64_t>(status));
  out.append(" ").append(ReasonPhrase(status)).append("\r\n");
  if (!framing.server_name.empty() && !headers.Get("Server")) {
    AppendField(out, "Server", framing.server_name);
  }
  AppendFields(out, headers);
  if (framing.chunked) AppendField(out, "Transfer-Encoding", "chunked");
  if (framing.content_length) {
    const fmt::format_int length(*framing.content_length);
    AppendField(out, "Content-Length", {length.data(), length.size()});
  }
  if (!framing.connection.empty()) AppendField(out, "Connection", framing.connection);
  out += "\r\n";
}

void AppendRequestHead(std::string& out, const HttpRequest& request,
                       std::optional<uint64_t> body_size, std::string_view base_path,
                       std::string_view host) {
  out.reserve(out.size() + kUsualHead + request.target.size() + base_path.size() +
              request.headers.bytes() + 4 * request.headers.size());
  out.append(request.method).append(" ").append(base_path).append(request.target);
  out += " HTTP/1.1\r\n";
  if (!request.headers.Get("Host")) AppendField(out, "Host", host);
  AppendFields(out, request.headers);
  const bool usual =
      request.method == "POST" || request.method == "PUT" || request.method == "PATCH";
  if (!body_size) {
    AppendField(out, "Transfer-Encoding", "chunked");
  } else if (usual || *body_size > 0) {
    const fmt::format_int length(*body_size);
    AppendField(out, "Content-Length", {length.data(), length.size()});
  }
  out += "\r\n";
}

void AppendChunk(std::string& out, std::string_view bytes) {
  std::array<char, 16> digits;
  const auto [end, error] =
      std::to_chars(digits.data(), digits.data() + digits.size(), bytes.size(), 16);
  const auto size = static_cast<size_t>(end - digits.data());
  out.append(digits.data(), size).append("\r\n").append(bytes).append("\r\n");
}

void AppendLastChunk(std::string& out) {
  out += "0\r\n\r\n";
}

}  // namespace warmpath::net
