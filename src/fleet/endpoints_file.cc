#include "fleet/endpoints_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "base/log.h"
#include "base/units.h"
#include "codec/yaml.h"
#include "fleet/endpoint_text.h"
#include "fleet/text_table.h"

namespace warmpath::fleet {
namespace {

using codec::YamlNode;

constexpr codec::YamlLimits kLimits{kMaxEndpointsFileBytes, 8, 400'000};
constexpr size_t kMaxLabels = 256;
constexpr std::string_view kFields = "name, namespace, address, port, labels, events, replay, dp";

// One entry with what the checks over all of them need.
struct Entry {
  EndpointSpec spec;
  size_t index = 0;
  int line = 0;
  int events_line = 0;
  bool events_given = false;
};

auto Bad(std::string_view what) {
  return Fail(Code::kInvalidArgument, std::string(what));
}

// A domain name whose last label is no number, so that a mistyped IPv4 address is none.
bool IsDnsName(std::string_view text) {
  if (text.ends_with('.')) text.remove_suffix(1);
  if (text.empty() || text.size() > 253) return false;
  bool numeric = false;
  for (const std::string_view label : Split(text, '.')) {
    if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') {
      return false;
    }
    numeric = true;
    for (const char c : label) {
      const bool digit = c >= '0' && c <= '9';
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
      if (!digit && !letter && c != '-' && c != '_') return false;
      numeric = numeric && digit;
    }
  }
  return !numeric;
}

class Reader {
 public:
  Reader(std::string_view source, const EndpointsFileDefaults& defaults)
      : source_(source), defaults_(defaults) {}

  Result<std::vector<EndpointSpec>> Read(std::string_view text) {
    if (text.size() > kMaxEndpointsFileBytes) {
      return Bad(fmt::format("{}: {} bytes; at most {} (1 MiB)", source_, text.size(),
                             kMaxEndpointsFileBytes));
    }
    auto root = codec::ParseYaml(text, kLimits);
    if (!root) return Bad(YamlError(root.error().message));
    if (!root->is_map()) return At(root->line, "", "must be a map with the list endpoints");
    const YamlNode* list = nullptr;
    for (const auto& [key, value] : root->members) {
      if (key != "endpoints") {
        return At(value.key_line, key.substr(0, kMaxNameBytes),
                  "unknown field; allowed: endpoints");
      }
      list = &value;
    }
    if (list == nullptr) return At(root->line, "endpoints", "is missing");
    if (!list->is_sequence()) {
      return At(list->key_line, "endpoints", "must be a list ([] for an empty one)");
    }
    if (list->items.size() > kMaxEndpoints) {
      return At(list->key_line, "endpoints",
                fmt::format("{} entries; at most {}", list->items.size(), kMaxEndpoints));
    }
    for (const YamlNode& item : list->items) WP_RETURN_IF_ERROR(ReadEntry(item));
    WP_RETURN_IF_ERROR(CheckDuplicates());
    SetDefaults();
    WP_RETURN_IF_ERROR(CheckEvents());
    QualifyNames();
    std::vector<EndpointSpec> specs;
    specs.reserve(entries_.size());
    for (Entry& entry : entries_) specs.push_back(std::move(entry.spec));
    return specs;
  }

 private:
  tl::unexpected<Error> At(int line, std::string_view field, std::string_view what) const {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}:{}: {}{}{}", source_, std::max(line, 1), PrintableText(field),
                            field.empty() ? "" : ": ", PrintableText(what)));
  }
  static std::string Path(const Entry& entry, std::string_view field) {
    return fmt::format("endpoints[{}].{}", entry.index, field);
  }
  // "line N: what" as "source:N: what".
  std::string YamlError(std::string_view message) const {
    if (message.starts_with("line ")) {
      message.remove_prefix(5);
      return fmt::format("{}:{}", source_, PrintableText(message));
    }
    return fmt::format("{}:1: {}", source_, PrintableText(message));
  }

  Status ReadEntry(const YamlNode& node) {
    Entry entry;
    entry.index = entries_.size();
    entry.line = node.line;
    if (!node.is_map()) {
      return At(node.line, fmt::format("endpoints[{}]", entry.index), "must be a map");
    }
    for (const char* required : {"name", "address", "port"}) {
      if (node.Find(required) == nullptr) {
        return At(node.line, Path(entry, required), "is missing");
      }
    }
    // Others depend on it.
    if (const YamlNode* ranks = node.Find("dp")) WP_RETURN_IF_ERROR(ReadRanks(entry, *ranks));
    for (const auto& [key, value] : node.members) WP_RETURN_IF_ERROR(ReadField(entry, key, value));
    entries_.push_back(std::move(entry));
    return {};
  }

  Status ReadRanks(Entry& entry, const YamlNode& value) const {
    const auto count = ParseInt(value.scalar);
    if (!value.is_scalar() || !count || *count < 1 || *count > kMaxDataParallel) {
      return At(value.key_line, Path(entry, "dp"),
                fmt::format("must be a whole number 1..{}", kMaxDataParallel));
    }
    entry.spec.data_parallel = static_cast<uint16_t>(*count);
    return {};
  }

  Status ReadField(Entry& entry, const std::string& key, const YamlNode& value) const {
    EndpointSpec& spec = entry.spec;
    const int line = value.key_line;
    if (key == "dp") return {};
    if (key == "labels") return ReadLabels(entry, value);
    if (key != "name" && key != "namespace" && key != "address" && key != "port" &&
        key != "events" && key != "replay") {
      return At(line, Path(entry, key.substr(0, kMaxNameBytes)),
                fmt::format("unknown field; allowed: {}", kFields));
    }
    if (!value.is_scalar()) return At(line, Path(entry, key), "must be a string");
    const std::string& text = value.scalar;
    if (key == "address") return ReadAddress(entry, text, line);
    if (key == "port") {
      const auto port = ParseInt(text);
      if (!port || *port < 1 || *port > 65535) {
        return At(line, Path(entry, key),
                  fmt::format("{} is no port; 1..65535", JsonQuote(text.substr(0, 64))));
      }
      spec.url.address.port = static_cast<uint16_t>(*port);
      return {};
    }
    if (key == "name" || key == "namespace") {
      if (!IsPrintableWord(text) || text.find('/') != std::string::npos) {
        return At(line, Path(entry, key),
                  fmt::format("must be 1..{} printable ASCII characters without spaces, quotes "
                              "and slashes",
                              kMaxNameBytes));
      }
      (key == "name" ? spec.name : spec.ns) = text;
      return {};
    }
    const bool is_events = key == "events";
    if (is_events) {
      entry.events_given = true;
      entry.events_line = line;
    }
    if (is_events && text == "none") return {};
    if (auto address = ParseZmqAddress(text, spec.data_parallel); !address) {
      return At(line, Path(entry, key),
                fmt::format("{}: {}", JsonQuote(text.substr(0, 300)), address.error().message));
    }
    (is_events ? spec.events : spec.replay) = text;
    return {};
  }

  Status ReadAddress(Entry& entry, std::string text, int line) const {
    if (text.size() > 2 && text.front() == '[' && text.back() == ']' &&
        text.find(':') != std::string::npos) {
      text = text.substr(1, text.size() - 2);
    }
    if (auto ip = CanonicalIp(text)) {
      entry.spec.url.address.host = std::move(*ip);
    } else if (IsDnsName(text)) {
      entry.spec.url.address.host = text;
    } else {
      return At(line, Path(entry, "address"),
                fmt::format("{} is no IPv4 or IPv6 address and no DNS name",
                            JsonQuote(text.substr(0, 300))));
    }
    return {};
  }

  Status ReadLabels(Entry& entry, const YamlNode& value) const {
    if (value.is_null()) return {};
    if (!value.is_map()) {
      return At(value.key_line, Path(entry, "labels"), "must be a map of strings");
    }
    if (value.members.size() > kMaxLabels) {
      return At(value.key_line, Path(entry, "labels"),
                fmt::format("more than {} labels", kMaxLabels));
    }
    for (const auto& [key, label] : value.members) {
      const std::string& text = label.scalar;
      if (label.is_map() || label.is_sequence() || !IsPrintableWord(key) ||
          (!text.empty() && !IsPrintableWord(text))) {
        return At(label.key_line, Path(entry, "labels." + key.substr(0, kMaxNameBytes)),
                  "must be printable ASCII without spaces and quotes");
      }
      entry.spec.labels.emplace(key, text);
    }
    return {};
  }

  Status CheckDuplicates() const {
    std::map<std::pair<std::string, std::string>, const Entry*> names;
    std::map<std::string, const Entry*> addresses;
    for (const Entry& entry : entries_) {
      const EndpointSpec& spec = entry.spec;
      const auto name = names.emplace(std::pair(spec.ns, spec.name), &entry);
      if (!name.second) {
        return At(entry.line, Path(entry, "name"),
                  fmt::format("{}/{} is already endpoints[{}]", spec.ns, spec.name,
                              name.first->second->index));
      }
      const std::string address = spec.url.address.ToString();
      const auto known = addresses.emplace(address, &entry);
      if (!known.second) {
        return At(entry.line, Path(entry, "address"),
                  fmt::format("{} is already endpoints[{}]", address, known.first->second->index));
      }
    }
    return {};
  }

  void SetDefaults() {
    std::map<std::string, size_t> sharing;
    for (const Entry& entry : entries_) ++sharing[entry.spec.url.address.host];
    for (Entry& entry : entries_) {
      const std::string& host = entry.spec.url.address.host;
      if (entry.events_given || sharing[host] > 1) continue;
      const auto at = [&](uint16_t port) {
        return port == 0 ? "" : "tcp://" + net::HostPort{host, port}.ToString();
      };
      entry.spec.events = at(defaults_.events_port);
      if (entry.spec.replay.empty()) entry.spec.replay = at(defaults_.replay_port);
    }
  }

  // Two subscriptions to one publisher would attribute its blocks to two engines.
  Status CheckEvents() const {
    std::map<std::string, std::vector<std::tuple<int, int, const Entry*>>> hosts;
    for (const Entry& entry : entries_) {
      if (entry.spec.events.empty()) continue;
      const auto address = ParseZmqAddress(entry.spec.events, entry.spec.data_parallel);
      if (!address) continue;
      hosts[address->host].emplace_back(address->port, address->port + entry.spec.data_parallel,
                                        &entry);
    }
    for (auto& [host, ranges] : hosts) {
      std::sort(ranges.begin(), ranges.end());
      for (size_t i = 1; i < ranges.size(); ++i) {
        if (std::get<0>(ranges[i]) >= std::get<1>(ranges[i - 1])) continue;
        const Entry* first = std::get<2>(ranges[i - 1]);
        const Entry* second = std::get<2>(ranges[i]);
        if (first->index > second->index) std::swap(first, second);
        return At(second->events_given ? second->events_line : second->line,
                  Path(*second, "events"),
                  fmt::format("{} overlaps with {} of endpoints[{}] (rank r uses port + r)",
                              second->spec.events, first->spec.events, first->index));
      }
    }
    return {};
  }

  void QualifyNames() {
    std::map<std::string, size_t> uses;
    for (const Entry& entry : entries_) ++uses[entry.spec.name];
    for (Entry& entry : entries_) {
      EndpointSpec& spec = entry.spec;
      if (uses[spec.name] > 1 && spec.ns != "default") spec.name = spec.ns + "/" + spec.name;
    }
  }

  const std::string_view source_;
  const EndpointsFileDefaults& defaults_;
  std::vector<Entry> entries_;
};

}  // namespace

Result<std::vector<EndpointSpec>> ParseEndpointsFile(std::string_view text,
                                                     std::string_view source_name,
                                                     const EndpointsFileDefaults& defaults) {
  return Reader(source_name, defaults).Read(text);
}

Result<std::vector<EndpointSpec>> LoadEndpointsFile(const std::string& path,
                                                    const EndpointsFileDefaults& defaults) {
  std::ifstream file(path, std::ios::binary);
  // One byte more than allowed tells a file that is too long.
  std::string text(kMaxEndpointsFileBytes + 1, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad()) {
    return Fail(Code::kNotFound, fmt::format("{}: {}", path, std::strerror(errno)));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return ParseEndpointsFile(text, path, defaults);
}

}  // namespace warmpath::fleet
