// What a simulated engine can be told: the `vllm serve` flags it understands and the --sim- ones.
// Plain data.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kv/engine_hash.h"
#include "kv/event_batch.h"
#include "kv/replay.h"
#include "sim/engine_core.h"

namespace warmpath::sim {

// --kv-events-config
struct KvEventsConfig {
  bool enable_kv_cache_events = false;
  std::string publisher = "zmq";  // or "null": no events
  // Bound when it has `*` or `::`, or is ipc or inproc, or its port is 0 (a free one is picked);
  // else connected to.
  std::string endpoint = "tcp://*:5557";
  std::string replay_endpoint;  // always bound; "" = no replay
  uint32_t buffer_steps = 10'000;
  uint32_t hwm = 100'000;
  uint32_t max_queue_size = 100'000;
  std::string topic;  // `{port}` in it becomes the engine's HTTP port (not with --port 0)
};
// Unknown members are refused, as the engine does.
Result<KvEventsConfig> ParseKvEventsConfig(std::string_view json);

struct LoraModule {
  std::string name;
  std::string path;
};
// One word of --lora-modules: `name=path`, or JSON {"name": ..., "path": ...}.
Result<LoraModule> ParseLoraModule(std::string_view text);

enum class EventHashWidth { k64, k256 };

struct SimOptions {
  std::string model = "simulated-model";  // positional MODEL: the root of /v1/models
  std::vector<std::string>
      served_model_names;  // the first is the name in answers and metrics; empty: `model`
  std::string host = "0.0.0.0";
  uint16_t port = 8000;        // 0: a free one
  uint32_t max_model_len = 0;  // 0: 40960, or what the cache holds if that is less
  uint32_t max_num_seqs = 256;
  uint32_t max_num_batched_tokens = 2048;
  uint32_t block_size = 16;
  uint32_t num_gpu_blocks = 4096;  // --num-gpu-blocks-override; one of them holds nothing
  bool enable_prefix_caching = true;
  kv::HashAlgo hash_algo = kv::HashAlgo::kSha256;
  // Text hashed for the start of every chain; nullopt: PYTHONHASHSEED of the environment, else
  // kv::kDefaultHashSeed.
  std::optional<std::string> hash_seed;
  KvEventsConfig kv_events;
  uint32_t data_parallel_size = 1;
  bool enable_prompt_tokens_details = false;
  bool enable_request_id_headers = false;
  std::vector<std::string> api_keys;  // empty: none asked for
  std::vector<LoraModule> lora_modules;
  uint32_t max_loras = 1;
  // Directory or name (prompt::FindTokenizerDirectory). "": the built-in tokenizer (text_model.h).
  std::string tokenizer;

  uint32_t count = 1;  // engines; ports of engine i are + i * data_parallel_size
  StepTiming timing;  // --sim-prefill-overhead, --sim-prefill-per-token, --sim-inter-token-latency,
                      // --sim-load-factor
  uint64_t seed = 0;  // --sim-seed
  kv::EventFormat events_format = kv::EventFormat::kMap;             // --sim-events-format
  EventHashWidth hash_width = EventHashWidth::k64;                   // --sim-hash-width
  uint64_t first_sequence = 0;                                       // --sim-first-seq
  kv::ReplayFraming replay_framing = kv::ReplayFraming::kWithTopic;  // --sim-replay-frames 3
};

// Checks what can be checked without opening anything: sizes, ranges, overlapping port ranges.
// Messages name the flag.
Status ValidateSimOptions(const SimOptions& options);

// `tcp://host:5557` with the port raised by `by`. Port 0 stays; other transports than tcp get
// `_dp<by>` appended when `by` > 0.
Result<std::string> OffsetEndpoint(std::string_view endpoint, uint32_t by);

}  // namespace warmpath::sim
