// The command lines of `warmpath sim` and `warmpath bench`.
#include <fmt/format.h>

#include <string>
#include <vector>

#include "app/cli_flags.h"
#include "app/commands.h"

namespace warmpath::app {

// `vllm serve` flags as a chart passes them, and --sim-* of our own.
void AddSim(CLI::App& root, Action& action) {
  static SimCommand command;
  static std::vector<std::string> lora_modules;
  sim::SimOptions& o = command.options;
  CLI::App& app = *root.add_subcommand(
      "sim", "simulated engines: vLLM's API, KV cache and KV events without a GPU");
  app.allow_extras();
  app.add_option("MODEL", o.model, "model name, as in vllm serve MODEL")
      ->default_str("simulated-model");
  const std::string vllm = "As vllm serve";
  app.add_option("--host", o.host, "address to listen on")->default_str("0.0.0.0")->group(vllm);
  AddPort(app, "--port", o.port, "8000", "port of the first engine; 0 picks free ones")
      ->group(vllm);
  app.add_option("--served-model-name", o.served_model_names, "names in the API")
      ->expected(-1)
      ->group(vllm);
  app.add_option("--max-model-len", o.max_model_len,
                 "longest prompt + completion; 0 = 40960 or what the cache holds")
      ->group(vllm);
  app.add_option("--max-num-seqs", o.max_num_seqs, "requests running at once")
      ->default_str("256")
      ->group(vllm);
  app.add_option("--max-num-batched-tokens", o.max_num_batched_tokens, "tokens of one step")
      ->default_str("2048")
      ->group(vllm);
  app.add_option("--block-size", o.block_size, "tokens of a KV block")
      ->default_str("16")
      ->group(vllm);
  app.add_option("--num-gpu-blocks-override", o.num_gpu_blocks, "KV blocks of the cache")
      ->default_str("4096")
      ->group(vllm);
  app.add_flag("--enable-prefix-caching,!--no-enable-prefix-caching", o.enable_prefix_caching,
               "on by default")
      ->group(vllm);
  AddParsed(app, "--prefix-caching-hash-algo", o.hash_algo, kv::ParseHashAlgo, "ALGO", "sha256",
            "sha256, sha256_cbor, xxhash or xxhash_cbor")
      ->group(vllm);
  AddParsed(
      app, "--kv-events-config", o.kv_events, sim::ParseKvEventsConfig, "JSON", "",
      R"({"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5557","replay_endpoint":"tcp://*:5657"})")
      ->group(vllm);
  app.add_option("--data-parallel-size", o.data_parallel_size, "ranks of one engine")
      ->default_str("1")
      ->group(vllm);
  app.add_flag("--enable-prompt-tokens-details", o.enable_prompt_tokens_details,
               "usage tells cached_tokens")
      ->group(vllm);
  app.add_flag("--enable-request-id-headers", o.enable_request_id_headers,
               "answers carry X-Request-Id")
      ->group(vllm);
  static bool scale_out = false;
  app.add_flag("--enable-scale-out", scale_out, "accepted; the render endpoints are not simulated")
      ->group(vllm);
  app.add_option("--api-key", o.api_keys, "keys that clients must send; repeatable")->group(vllm);
  app.add_option("--lora-modules", lora_modules, "name=path of adapters")
      ->expected(-1)
      ->group(vllm);
  app.add_option("--max-loras", o.max_loras, "adapters in one batch")
      ->default_str("1")
      ->group(vllm);
  app.add_option(
         "--tokenizer", o.tokenizer,
         "directory or name in the Hugging Face cache; a built-in word tokenizer when not given")
      ->group(vllm);
  const std::string own = "Simulation";
  app.add_option("--count", o.count,
                 "engines in this process; ports of engine i are + i * data-parallel-size")
      ->default_str("1")
      ->group(own);
  AddDuration(app, "--sim-prefill-overhead", o.timing.prefill_overhead, "10ms",
              "fixed time of a step that prefills")
      ->group(own);
  AddDuration(app, "--sim-prefill-per-token", o.timing.prefill_per_token, "100us",
              "time per uncached prompt token")
      ->group(own);
  AddDuration(app, "--sim-inter-token-latency", o.timing.inter_token_latency, "10ms",
              "time of a decode step")
      ->group(own);
  app.add_option("--sim-load-factor", o.timing.load_factor,
                 "how much slower a full batch is (>= 1)")
      ->default_str("1")
      ->group(own);
  app.add_option("--sim-seed", o.seed, "outputs are a function of seed and prompt")
      ->default_str("0")
      ->group(own);
  AddParsed(app, "--sim-events-format", o.events_format, kv::ParseEventFormat,
            "array|map|outer-map", "map", "encoding of event batches")
      ->group(own);
  AddParsed(
      app, "--sim-hash-width", o.hash_width,
      [](std::string_view text) -> Result<sim::EventHashWidth> {
        if (text == "64") return sim::EventHashWidth::k64;
        if (text == "256") return sim::EventHashWidth::k256;
        return Fail(Code::kInvalidArgument, fmt::format("\"{}\" is not 64 or 256", text));
      },
      "64|256", "64", "block hashes in events: integers or 32 bytes")
      ->group(own);
  app.add_option("--sim-first-seq", o.first_sequence, "sequence number of the first batch")
      ->check(CLI::Range(0, 1))
      ->default_str("0")
      ->group(own);
  AddParsed(
      app, "--sim-replay-frames", o.replay_framing,
      [](std::string_view text) -> Result<kv::ReplayFraming> {
        if (text == "2") return kv::ReplayFraming::kPlain;
        if (text == "3") return kv::ReplayFraming::kWithTopic;
        return Fail(Code::kInvalidArgument, fmt::format("\"{}\" is not 2 or 3", text));
      },
      "2|3", "3", "frames of a replayed batch: 2 up to vLLM 0.25, 3 from 0.26")
      ->group(own);
  AddReadyFile(app, command.ready_file);
  AddCommon(app);
  app.callback([&action, &app] {
    sim::SimOptions& o = command.options;
    for (const std::string& text : lora_modules) {
      const auto module = sim::ParseLoraModule(text);
      if (!module) throw CLI::ValidationError("--lora-modules", module.error().message);
      o.lora_modules.push_back(*module);
    }
    for (const std::string& extra : app.remaining()) {
      WP_LOG(kWarn, "sim", "not simulated, ignored", {"argument", extra});
    }
    action = [] { return RunSim(command); };
  });
}

void AddBench(CLI::App& root, Action& action) {
  static BenchCommand command;
  static std::vector<std::string> targets;
  static std::vector<std::string> round_robin;
  load::BenchOptions& o = command.options;
  load::WorkloadOptions& w = o.workload;
  CLI::App& app =
      *root.add_subcommand("bench", "generate load and report hit rate, latency and imbalance");
  app.add_option("--target", targets,
                 "where to send: a router or an engine; repeat to compare several in one run")
      ->type_name("URL")
      ->required()
      ->group("Targets");
  app.add_option("--round-robin", round_robin,
                 "engines that form one more side, used in turn; repeatable")
      ->type_name("URL")
      ->group("Targets");
  AddParsed(app, "--workload", w.kind, load::ParseWorkloadKind, "guide|shared-prefix|unique",
            "shared-prefix", "what is sent")
      ->group("Workload");
  app.add_option("--model", w.model, "model to name; asked of the first target when not given")
      ->group("Workload");
  app.add_option("--seed", w.seed, "seed of prompts and arrivals")
      ->default_str("1")
      ->group("Workload");
  app.add_option("--groups", w.groups, "shared-prefix: groups that share a system prompt")
      ->default_str("30")
      ->group("Workload");
  app.add_option("--prompts-per-group", w.prompts_per_group, "shared-prefix: questions of a group")
      ->default_str("5")
      ->group("Workload");
  app.add_option("--system-tokens", w.system_tokens, "length of the shared part")
      ->default_str("1024")
      ->group("Workload");
  app.add_option("--question-tokens", w.question_tokens, "length of each prompt's own part")
      ->default_str("256")
      ->group("Workload");
  app.add_option("--output-tokens", w.output_tokens, "max_tokens of each request")
      ->default_str("32")
      ->group("Workload");
  app.add_option("--rate", o.rate, "open loop: requests per second (Poisson)")->group("Load");
  app.add_option("--concurrency", o.concurrency, "closed loop: requests in flight")->group("Load");
  AddDuration(app, "--duration", o.duration, "", "how long to send")->group("Load");
  app.add_option("--requests", o.requests,
                 "how many measured requests; with --duration whichever ends first")
      ->group("Load");
  app.add_option("--warmup-requests", o.warmup_requests, "sent first and left out of the report")
      ->group("Load");
  AddDuration(app, "--request-timeout", o.request_timeout, "2m",
              "a request that takes longer counts as an error")
      ->group("Load");
  app.add_option("--api-key", o.api_key, "sent as a bearer token")->group("Load");
  app.add_option("--json", command.json_file,
                 "write the report as JSON; - prints it instead of the table")
      ->type_name("FILE")
      ->group("Output");
  AddCommon(app);
  app.callback([&action] {
    load::BenchOptions& o = command.options;
    const auto add_side = [](const std::string& name, const std::vector<std::string>& urls) {
      load::Side side;
      side.name = name;
      for (const std::string& text : urls) {
        const auto url = net::ParseUrl(text);
        if (!url) throw CLI::ValidationError("--target", url.error().message);
        side.targets.push_back(*url);
      }
      o.sides.push_back(std::move(side));
    };
    for (const std::string& target : targets) add_side(target, {target});
    if (!round_robin.empty()) add_side("round-robin", round_robin);
    if (o.rate == 0 && o.concurrency == 0) o.concurrency = 8;
    if (o.requests == 0 && o.duration == Duration(0)) o.duration = std::chrono::seconds(30);
    action = [] { return RunBenchCommand(command); };
  });
}

}  // namespace warmpath::app
