// What routing takes from the headers and the metadata of a request, and which body it expects.
// Pure functions on untrusted input.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "extproc/request_message.h"
#include "extproc/server.h"
#include "prompt/request.h"
#include "routing/director.h"

namespace warmpath::extproc {

// A request with more is refused.
inline constexpr size_t kMaxHeaders = 512;
inline constexpr size_t kMaxHeaderBytes = size_t{256} << 10;
inline constexpr size_t kMaxSubset = 10'000;

struct RequestHead {
  std::string request_id;
  bool own_request_id = false;  // the client sent none that can be used
  std::string_view path;        // of the message
  std::optional<size_t> content_length;
  bool test_selection = false;        // the subset is the test's, whatever the metadata say
  std::vector<std::string> unwanted;  // headers present that clients may not send on
  routing::RequestAttributes attributes;
};

// kOutOfBounds: more headers than anybody sends.
Result<RequestHead> ReadRequestHead(const RequestMessage& message, bool conformance_headers);

// The subset hint of the metadata, where it has one: a list of strings or one comma-separated
// string. A hint of another type names nobody.
std::optional<std::vector<std::string>> ReadSubset(const RequestMessage& message);

struct BodyKind {
  prompt::Api api = prompt::Api::kOther;
  bool passthrough = false;  // nothing is read, neither of the body nor of the answer
};
// nullopt: no configured parser takes this path.
std::optional<BodyKind> KindOfBody(std::string_view path, const ParserSet& parsers);

// Headers that steer routing, or pose as the router towards what stands behind it: removed from
// every request, whether seen or not (the proxy may be configured to hide some from us).
const std::vector<std::string_view>& ControlHeaders();

}  // namespace warmpath::extproc
