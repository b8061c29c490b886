#include "sim/options.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "codec/json.h"

namespace warmpath::sim {
namespace {

struct PortRange {
  std::string flag;
  uint32_t first = 0;
  uint32_t count = 0;
};

std::optional<uint32_t> PortOf(std::string_view endpoint) {
  if (!endpoint.starts_with("tcp://")) return std::nullopt;
  const size_t colon = endpoint.rfind(':');
  auto port = ParseInt(endpoint.substr(colon + 1));
  if (colon < 6 || !port || *port < 0 || *port > 65535) return std::nullopt;
  return static_cast<uint32_t>(*port);
}

}  // namespace

Result<KvEventsConfig> ParseKvEventsConfig(std::string_view text) {
  WP_TRY(const codec::Json json, codec::ParseJson(text, {.max_depth = 8, .max_bytes = 64 << 10}));
  if (!json.is_object()) return Fail(Code::kInvalidArgument, "kv-events-config: not a JSON object");
  KvEventsConfig config;
  for (const auto& [name, value] : json.get_object()) {
    const std::string_view key = name;
    auto wrong = [&](std::string_view expected) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("kv-events-config: {} must be {}", key, expected));
    };
    auto text_member = [&](std::string& out) { out = std::string_view(value.get_string()); };
    auto count_member = [&](uint32_t& out) {
      const auto number = codec::FindInt(json, key);
      if (!number || *number < 0 || *number > 100'000'000) return false;
      out = static_cast<uint32_t>(*number);
      return true;
    };
    if (key == "enable_kv_cache_events") {
      if (!value.is_bool()) return wrong("true or false");
      config.enable_kv_cache_events = value.get_bool();
    } else if (key == "publisher") {
      if (value.is_null()) continue;
      if (!value.is_string() || (value.get_string() != "zmq" && value.get_string() != "null")) {
        return wrong("\"zmq\" or \"null\"");
      }
      text_member(config.publisher);
    } else if (key == "endpoint" || key == "topic") {
      if (!value.is_string()) return wrong("a string");
      text_member(key == "topic" ? config.topic : config.endpoint);
    } else if (key == "replay_endpoint") {
      if (value.is_null()) continue;
      if (!value.is_string()) return wrong("a string or null");
      text_member(config.replay_endpoint);
    } else if (key == "buffer_steps") {
      if (!count_member(config.buffer_steps)) return wrong("a whole number");
    } else if (key == "hwm") {
      if (!count_member(config.hwm)) return wrong("a whole number");
    } else if (key == "max_queue_size") {
      if (!count_member(config.max_queue_size)) return wrong("a whole number");
    } else {
      return Fail(Code::kInvalidArgument, fmt::format("kv-events-config: unknown member {}", key));
    }
  }
  return config;
}

Result<LoraModule> ParseLoraModule(std::string_view text) {
  LoraModule module;
  if (text.starts_with("{")) {
    WP_TRY(const codec::Json json, codec::ParseJson(text));
    module.name = codec::FindString(json, "name").value_or("");
    module.path = codec::FindString(json, "path").value_or("");
  } else if (const size_t equals = text.find('='); equals != std::string_view::npos) {
    module.name = text.substr(0, equals);
    module.path = text.substr(equals + 1);
  }
  if (module.name.empty() || module.path.empty()) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("lora-modules: '{}' is neither name=path nor JSON with name and path", text));
  }
  return module;
}

Result<std::string> OffsetEndpoint(std::string_view endpoint, uint32_t by) {
  if (by == 0) return std::string(endpoint);
  if (!endpoint.starts_with("tcp://")) return fmt::format("{}_dp{}", endpoint, by);
  const auto port = PortOf(endpoint);
  if (!port)
    return Fail(Code::kInvalidArgument, fmt::format("endpoint '{}' has no port", endpoint));
  if (*port == 0) return std::string(endpoint);
  if (*port + by > 65535) {
    return Fail(Code::kInvalidArgument,
                fmt::format("endpoint '{}' + {} leaves the port range", endpoint, by));
  }
  return fmt::format("{}:{}", endpoint.substr(0, endpoint.rfind(':')), *port + by);
}

Status ValidateSimOptions(const SimOptions& options) {
  auto at_least = [](std::string_view flag, uint64_t value, uint64_t least,
                     uint64_t most) -> Status {
    if (value >= least && value <= most) return {};
    return Fail(Code::kInvalidArgument,
                fmt::format("{} {}: allowed are {} to {}", flag, value, least, most));
  };
  WP_RETURN_IF_ERROR(at_least("--count", options.count, 1, 1000));
  WP_RETURN_IF_ERROR(at_least("--data-parallel-size", options.data_parallel_size, 1, 64));
  WP_RETURN_IF_ERROR(at_least("--block-size", options.block_size, 1, 8192));
  WP_RETURN_IF_ERROR(at_least("--num-gpu-blocks-override", options.num_gpu_blocks, 2, 10'000'000));
  WP_RETURN_IF_ERROR(at_least("--max-num-seqs", options.max_num_seqs, 1, 65'536));
  WP_RETURN_IF_ERROR(
      at_least("--max-num-batched-tokens", options.max_num_batched_tokens, 1, 1 << 24));
  WP_RETURN_IF_ERROR(at_least("--max-loras", options.max_loras, 1, 1024));
  if (options.timing.load_factor < 1.0) {
    return Fail(Code::kInvalidArgument, "--sim-load-factor must be at least 1");
  }
  for (Duration duration : {options.timing.prefill_overhead, options.timing.prefill_per_token,
                            options.timing.inter_token_latency}) {
    if (duration < Duration::zero() || duration > std::chrono::hours(1)) {
      return Fail(Code::kInvalidArgument, "--sim- durations are between 0 and 1h");
    }
  }
  const uint64_t capacity = uint64_t{options.num_gpu_blocks - 1} * options.block_size;
  if (options.max_model_len > capacity) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("--max-model-len {} does not fit into the KV cache of {} tokens "
                    "(--num-gpu-blocks-override {}, one of them unused, --block-size {})",
                    options.max_model_len, capacity, options.num_gpu_blocks, options.block_size));
  }

  const uint32_t ranks = options.count * options.data_parallel_size;
  std::vector<PortRange> ranges;
  if (options.port != 0) ranges.push_back({"--port", options.port, ranks});
  if (options.kv_events.enable_kv_cache_events && options.kv_events.publisher == "zmq") {
    for (bool replay : {false, true}) {
      const std::string& endpoint =
          replay ? options.kv_events.replay_endpoint : options.kv_events.endpoint;
      if (endpoint.empty() && replay) continue;
      const std::string flag = replay ? "replay_endpoint" : "endpoint";
      const bool binds = replay || endpoint.find('*') != std::string::npos ||
                         endpoint.find("::") != std::string::npos;
      if (!endpoint.starts_with("tcp://")) {
        if (!endpoint.starts_with("ipc://") && !endpoint.starts_with("inproc://")) {
          return Fail(Code::kInvalidArgument,
                      fmt::format("{} '{}': not a ZMQ address", flag, endpoint));
        }
        continue;
      }
      const auto port = PortOf(endpoint);
      if (!port)
        return Fail(Code::kInvalidArgument, fmt::format("{} '{}': no port", flag, endpoint));
      if (*port != 0 && binds) ranges.push_back({flag, *port, ranks});
    }
  }
  for (const PortRange& range : ranges) {
    if (range.first + range.count - 1 > 65535) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}: ports {} to {} leave the range", range.flag, range.first,
                              range.first + range.count - 1));
    }
  }
  for (size_t a = 0; a < ranges.size(); ++a) {
    for (size_t b = a + 1; b < ranges.size(); ++b) {
      if (ranges[a].first < ranges[b].first + ranges[b].count &&
          ranges[b].first < ranges[a].first + ranges[a].count) {
        return Fail(
            Code::kInvalidArgument,
            fmt::format("ports of {} ({} to {}) and {} ({} to {}) overlap", ranges[a].flag,
                        ranges[a].first, ranges[a].first + ranges[a].count - 1, ranges[b].flag,
                        ranges[b].first, ranges[b].first + ranges[b].count - 1));
      }
    }
  }
  return {};
}

}  // namespace warmpath::sim
