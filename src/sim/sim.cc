#include "sim/sim.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "base/log.h"
#include "sim/engine_server.h"
#include "sim/publisher.h"
#include "sim/text_model.h"

namespace warmpath::sim {
namespace {

constexpr uint32_t kDefaultMaxModelLen = 40'960;

// A wildcard is reached over the loopback; what binds one address, or connects, is told as it is.
std::string Reachable(std::string endpoint) {
  for (const std::string_view any : {"//0.0.0.0:", "//*:", "//[::]:"}) {
    if (const size_t at = endpoint.find(any); at != std::string::npos) {
      endpoint.replace(at, any.size(), any == "//[::]:" ? "//[::1]:" : "//127.0.0.1:");
    }
  }
  return endpoint;
}

// `{port}` in a topic is the engine's own HTTP port.
std::string TopicOf(std::string topic, uint32_t port) {
  constexpr std::string_view kMark = "{port}";
  if (const size_t at = topic.find(kMark); at != std::string::npos) {
    topic.replace(at, kMark.size(), std::to_string(port));
  }
  return topic;
}

void Resolve(SimOptions& options) {
  if (options.served_model_names.empty()) options.served_model_names = {options.model};
  const uint64_t capacity = uint64_t{options.num_gpu_blocks - 1} * options.block_size;
  if (options.max_model_len == 0) {
    options.max_model_len =
        static_cast<uint32_t>(std::min<uint64_t>(kDefaultMaxModelLen, capacity));
  }
  if (!options.hash_seed) {
    const char* seed = std::getenv("PYTHONHASHSEED");
    options.hash_seed = seed != nullptr ? seed : std::string(kv::kDefaultHashSeed);
  }
}

}  // namespace

struct Simulator::Impl {
  struct Engine {
    net::Loop* loop = nullptr;
    std::unique_ptr<EngineServer> server;
  };

  SimOptions options;
  Publisher publisher;
  std::vector<Engine> engines;
  std::vector<Endpoint> endpoints;
  size_t streams_opened = 0;

  Status AddEngine(uint32_t index, net::Loop& loop, const std::shared_ptr<const TextModel>& text);
  void Stop(Duration deadline);
};

Result<std::unique_ptr<Simulator>> Simulator::Start(SimOptions options, net::LoopGroup& loops) {
  WP_RETURN_IF_ERROR(ValidateSimOptions(options));
  Resolve(options);
  WP_TRY(const auto text, TextModel::Load(options.tokenizer));
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  std::unique_ptr<Simulator> simulator(new Simulator(std::move(impl)));
  for (uint32_t i = 0; i < simulator->impl_->options.count; ++i) {
    WP_RETURN_IF_ERROR(simulator->impl_->AddEngine(i, loops.at(i % loops.size()), text));
  }
  simulator->impl_->publisher.Start();
  return simulator;
}

Status Simulator::Impl::AddEngine(uint32_t index, net::Loop& loop,
                                  const std::shared_ptr<const TextModel>& text) {
  const KvEventsConfig& events = options.kv_events;
  const uint32_t ranks = options.data_parallel_size;
  std::vector<size_t> streams;
  std::vector<Publisher::StreamAddress> sources;
  Endpoint endpoint;
  endpoint.ranks.resize(ranks);
  if (events.enable_kv_cache_events && events.publisher == "zmq" &&
      !options.enable_prefix_caching) {
    WP_LOG(kWarn, "sim", "no KV events: prefix caching is off");
  } else if (events.enable_kv_cache_events && events.publisher == "zmq") {
    for (uint32_t rank = 0; rank < ranks; ++rank) {
      const uint32_t offset = index * ranks + rank;
      Publisher::StreamOptions stream;
      // Where the subscriber binds, rank r of every engine connects to its port + r.
      const bool binds = events.endpoint.find('*') != std::string::npos ||
                         events.endpoint.find("::") != std::string::npos ||
                         !events.endpoint.starts_with("tcp://");
      WP_TRY(stream.endpoint, OffsetEndpoint(events.endpoint, binds ? offset : rank));
      if (!events.replay_endpoint.empty()) {
        WP_TRY(stream.replay_endpoint, OffsetEndpoint(events.replay_endpoint, offset));
      }
      stream.topic = TopicOf(events.topic, options.port == 0 ? 0 : options.port + index * ranks);
      stream.buffer_steps = events.buffer_steps;
      stream.hwm = events.hwm;
      stream.max_queue_size = events.max_queue_size;
      stream.first_sequence = options.first_sequence;
      stream.framing = options.replay_framing;
      WP_TRY(auto source, publisher.AddStream(stream));
      endpoint.ranks[rank] = {Reachable(source.events), Reachable(source.replay)};
      streams.push_back(streams_opened++);
      sources.push_back(std::move(source));
    }
  }
  SimOptions own = options;
  if (own.port != 0) own.port = static_cast<uint16_t>(own.port + index * ranks);
  auto server = std::make_unique<EngineServer>(loop, std::move(own), text, &publisher,
                                               std::move(streams), std::move(sources));
  WP_RETURN_IF_ERROR(server->Listen());
  net::HostPort address = server->server().address();
  if (address.host == "0.0.0.0") address.host = "127.0.0.1";
  if (address.host == "::") address.host = "::1";
  endpoint.url = "http://" + address.ToString();
  engines.push_back({&loop, std::move(server)});
  endpoints.push_back(std::move(endpoint));
  return {};
}

void Simulator::Impl::Stop(Duration deadline) {
  const TimePoint until = SystemClock().Now() + deadline;
  for (Engine& engine : engines) engine.server->server().StopAccepting();
  for (Engine& engine : engines) {
    engine.server->StopServing(std::max(until - SystemClock().Now(), Duration::zero()));
    engine.loop->Run([&engine] {
      engine.server->StopSteps();
      engine.server.reset();
    });
  }
  engines.clear();
  publisher.Stop();
}

Simulator::Simulator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Simulator::~Simulator() {
  Stop(Duration::zero());
}

const std::vector<Simulator::Endpoint>& Simulator::endpoints() const {
  return impl_->endpoints;
}
const SimOptions& Simulator::options() const {
  return impl_->options;
}
void Simulator::Stop(Duration deadline) {
  impl_->Stop(deadline);
}

}  // namespace warmpath::sim
