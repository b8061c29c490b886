#include "fleet/endpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/units.h"
#include "fleet/endpoint_text.h"
#include "fleet/text_table.h"

namespace warmpath::fleet {
namespace {

constexpr uint16_t kDefaultEventsPort = 5557;  // vLLM's
constexpr std::string_view kAllowedKeys = "events, replay, dp, name, label.KEY";

struct Parsed {
  EndpointSpec spec;
  const std::string* flag = nullptr;
  bool events_given = false;
};

auto Bad(const std::string& flag, std::string_view what) {
  return Fail(Code::kInvalidArgument, fmt::format("--endpoint {}: {}", JsonQuote(flag), what));
}

Status SetKey(Parsed& parsed, std::string_view key, std::string_view value) {
  EndpointSpec& spec = parsed.spec;
  if (key == "events") {
    parsed.events_given = true;
    spec.events = value == "none" ? "" : std::string(value);
  } else if (key == "replay") {
    spec.replay = value;
  } else if (key == "dp") {
    const auto count = ParseInt(value);
    if (!count || *count < 1 || *count > kMaxDataParallel) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("dp={} must be a whole number 1..{}", value, kMaxDataParallel));
    }
    spec.data_parallel = static_cast<uint16_t>(*count);
  } else if (key == "name") {
    if (!IsPrintableWord(value)) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("name={} must be 1..{} printable ASCII characters without spaces "
                              "and quotes",
                              value, kMaxNameBytes));
    }
    spec.name = value;
  } else if (key.starts_with("label.")) {
    const std::string_view label = key.substr(6);
    if (!IsPrintableWord(label) || (!value.empty() && !IsPrintableWord(value))) {
      return Fail(
          Code::kInvalidArgument,
          fmt::format("{}={} must be printable ASCII without spaces and quotes", key, value));
    }
    if (!spec.labels.emplace(label, value).second) {
      return Fail(Code::kInvalidArgument, fmt::format("{} given twice", key));
    }
  } else {
    return Fail(Code::kInvalidArgument,
                fmt::format("unknown key \"{}\"; allowed: {}", key, kAllowedKeys));
  }
  return {};
}

Result<Parsed> ParseOne(const std::string& flag) {
  Parsed parsed;
  parsed.flag = &flag;
  const std::vector<std::string_view> parts = Split(flag, ',');
  auto url = net::ParseUrl(parts[0]);
  if (!url) return Bad(flag, url.error().message);
  parsed.spec.url = std::move(*url);
  std::string& host = parsed.spec.url.address.host;
  if (auto ip = CanonicalIp(host)) host = std::move(*ip);
  std::vector<std::string_view> seen;
  for (size_t i = 1; i < parts.size(); ++i) {
    const size_t equals = parts[i].find('=');
    if (equals == std::string_view::npos) {
      return Bad(flag,
                 fmt::format("\"{}\" is not KEY=VALUE; allowed keys: {}", parts[i], kAllowedKeys));
    }
    const std::string_view key = parts[i].substr(0, equals);
    if (std::find(seen.begin(), seen.end(), key) != seen.end()) {
      return Bad(flag, fmt::format("{} given twice", key));
    }
    seen.push_back(key);
    if (auto set = SetKey(parsed, key, parts[i].substr(equals + 1)); !set) {
      return Bad(flag, set.error().message);
    }
  }
  EndpointSpec& spec = parsed.spec;
  for (const auto& [key, address] :
       {std::pair<std::string_view, const std::string&>{"events", spec.events},
        {"replay", spec.replay}}) {
    if (address.empty()) continue;
    if (auto ok = ParseZmqAddress(address, spec.data_parallel); !ok) {
      return Bad(flag, fmt::format("{}={}: {}", key, address, ok.error().message));
    }
  }
  if (spec.name.empty()) spec.name = spec.url.address.ToString();
  return parsed;
}

// Two subscriptions to one publisher would attribute its blocks to two engines.
bool EventsOverlap(const EndpointSpec& a, const EndpointSpec& b) {
  if (a.events.empty() || b.events.empty()) return false;
  const auto x = ParseZmqAddress(a.events, a.data_parallel);
  const auto y = ParseZmqAddress(b.events, b.data_parallel);
  return x && y && x->host == y->host && x->port < y->port + b.data_parallel &&
         y->port < x->port + a.data_parallel;
}

Status CheckIdentity(const Parsed& earlier, const Parsed& later) {
  if (earlier.spec.url.ToString() == later.spec.url.ToString()) {
    return Bad(*later.flag, fmt::format("same URL as --endpoint {}", JsonQuote(*earlier.flag)));
  }
  if (earlier.spec.name == later.spec.name) {
    return Bad(*later.flag, fmt::format("name \"{}\" is already used by --endpoint {}; set name=",
                                        later.spec.name, JsonQuote(*earlier.flag)));
  }
  return {};
}

Status CheckEvents(const Parsed& earlier, const Parsed& later) {
  if (!EventsOverlap(earlier.spec, later.spec)) return {};
  return Bad(
      *later.flag,
      fmt::format("events={} overlaps with events={} of --endpoint {} (rank r uses port + r)",
                  later.spec.events, earlier.spec.events, JsonQuote(*earlier.flag)));
}

Status CheckPairs(const std::vector<Parsed>& all,
                  Status (*check)(const Parsed& earlier, const Parsed& later)) {
  for (size_t i = 1; i < all.size(); ++i) {
    for (size_t j = 0; j < i; ++j) WP_RETURN_IF_ERROR(check(all[j], all[i]));
  }
  return {};
}

Status DefaultEvents(std::vector<Parsed>& all) {
  for (Parsed& parsed : all) {
    if (parsed.events_given) continue;
    const net::HostPort& own = parsed.spec.url.address;
    std::string sharing;
    for (const Parsed& other : all) {
      if (&other == &parsed || other.spec.url.address.host != own.host) continue;
      sharing += (sharing.empty() ? "" : ", ") + other.spec.name;
    }
    if (!sharing.empty()) {
      return Bad(
          *parsed.flag,
          fmt::format("several endpoints share host {} ({}, {}), so events= must be given for "
                      "each: events=tcp://{}, or events=none",
                      own.host, parsed.spec.name, sharing,
                      net::HostPort{own.host, kDefaultEventsPort}.ToString()));
    }
    parsed.spec.events = "tcp://" + net::HostPort{own.host, kDefaultEventsPort}.ToString();
  }
  return {};
}

}  // namespace

bool Endpoint::has_address() const {
  return !resolved.empty() || CanonicalIp(spec.url.address.host).has_value();
}

const ServedModel* Endpoint::FindModel(std::string_view model_id) const {
  for (const ServedModel& model : models) {
    if (model_id.empty() ? !model.is_adapter() : model.id == model_id) return &model;
  }
  return nullptr;
}

std::shared_ptr<const Endpoint> Snapshot::Find(EndpointId id) const {
  for (const auto& endpoint : endpoints) {
    if (endpoint->id == id) return endpoint;
  }
  return nullptr;
}

std::string_view HealthName(Health health) {
  switch (health) {
    case Health::kUnknown:
      return "unknown";
    case Health::kHealthy:
      return "healthy";
    case Health::kUnhealthy:
      return "unhealthy";
  }
  return "unknown";
}

Result<std::vector<EndpointSpec>> ParseEndpoints(const std::vector<std::string>& flags,
                                                 bool bind_mode) {
  std::vector<Parsed> all;
  all.reserve(flags.size());
  for (const std::string& flag : flags) {
    WP_TRY(Parsed parsed, ParseOne(flag));
    all.push_back(std::move(parsed));
  }
  WP_RETURN_IF_ERROR(CheckPairs(all, CheckIdentity));
  if (!bind_mode) WP_RETURN_IF_ERROR(DefaultEvents(all));
  WP_RETURN_IF_ERROR(CheckPairs(all, CheckEvents));
  std::vector<EndpointSpec> specs;
  specs.reserve(all.size());
  for (Parsed& parsed : all) specs.push_back(std::move(parsed.spec));
  return specs;
}

std::string DescribeTable(const Snapshot& snapshot) {
  std::vector<std::vector<std::string>> rows{
      {"NAME", "URL", "STATE", "MODELS", "BLOCK", "BLOCKS", "EVENTS"}};
  for (const auto& endpoint : snapshot.endpoints) {
    std::string models;
    for (const ServedModel& model : endpoint->models) {
      models += (models.empty() ? "" : ", ") + model.id;
    }
    const ScrapedLoad& load = endpoint->load;
    rows.push_back({endpoint->name(), endpoint->spec.url.ToString(),
                    std::string(HealthName(endpoint->health)), models.empty() ? "-" : models,
                    load.block_size ? std::to_string(load.block_size) : "-",
                    load.kv_blocks ? std::to_string(load.kv_blocks) : "-",
                    endpoint->spec.events.empty() ? "-" : endpoint->spec.events});
  }
  return AlignColumns(rows, {4, 5});
}

}  // namespace warmpath::fleet
