// Internal to prompt: addresses of files on the hub, and where a redirect leads.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "net/address.h"
#include "prompt/hub_cache.h"

namespace warmpath::prompt {

struct HubAddress {
  net::Url url;
  std::string target;  // relative to url.base_path: path and query

  // Without the query, which may carry a signature: for people.
  std::string ToString() const;
};

// ENDPOINT/REPO/resolve/REVISION/FILE. `endpoint`: "https://huggingface.co", or a mirror under a
// path.
Result<HubAddress> FileAddress(std::string_view endpoint, const HubName& name,
                               std::string_view revision, std::string_view file);

// Where a redirect's Location leads, seen from `from`. Absolute addresses, paths and //host/path;
// never from https to http.
Result<HubAddress> RedirectAddress(const HubAddress& from, std::string_view location);

// Scheme, host and port are the same: the one condition under which a token may be sent.
bool SameOrigin(const net::Url& a, const net::Url& b);

}  // namespace warmpath::prompt
