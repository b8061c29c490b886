#include "prompt/hub_url.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "net/percent.h"

namespace warmpath::prompt {
namespace {

constexpr size_t kMaxLocation = 8 << 10;

}  // namespace

std::string HubAddress::ToString() const {
  return url.ToString() + target.substr(0, target.find('?'));
}

Result<HubAddress> FileAddress(std::string_view endpoint, const HubName& name,
                               std::string_view revision, std::string_view file) {
  WP_TRY(net::Url url, net::ParseUrl(endpoint));
  // The revision is one path segment: refs/pr/1 must not look like three.
  return HubAddress{std::move(url), fmt::format("/{}/resolve/{}/{}", name.repo,
                                                net::PercentEncode(revision), file)};
}

Result<HubAddress> RedirectAddress(const HubAddress& from, std::string_view location) {
  const bool printable =
      std::all_of(location.begin(), location.end(), [](char c) { return c > ' ' && c < 0x7f; });
  if (location.empty() || location.size() > kMaxLocation || !printable) {
    return Fail(Code::kUnavailable, from.ToString() + " redirects to no usable address");
  }
  location = location.substr(0, location.find('#'));
  if (location.starts_with('/') && !location.starts_with("//")) {
    HubAddress to{from.url, std::string(location)};
    to.url.base_path.clear();
    return to;
  }
  const std::string absolute = location.starts_with("//")
                                   ? (from.url.tls ? "https:" : "http:") + std::string(location)
                                   : std::string(location);
  const size_t scheme = absolute.find("://");
  const size_t path =
      scheme == std::string::npos ? scheme : absolute.find_first_of("/?", scheme + 3);
  auto url = net::ParseUrl(absolute.substr(0, path));
  if (!url) {
    return Fail(Code::kUnavailable, from.ToString() + " redirects to no http or https address");
  }
  if (from.url.tls && !url->tls) {
    return Fail(Code::kUnavailable, from.ToString() + " redirects from https to http: refused");
  }
  std::string target = path == std::string::npos ? "/" : absolute.substr(path);
  if (target.front() == '?') target.insert(0, "/");
  return HubAddress{std::move(*url), std::move(target)};
}

bool SameOrigin(const net::Url& a, const net::Url& b) {
  return a.tls == b.tls && a.address.port == b.address.port &&
         EqualsIgnoreCase(a.address.host, b.address.host);
}

}  // namespace warmpath::prompt
