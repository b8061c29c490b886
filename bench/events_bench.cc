// From the bytes of KV-event batches to the index, on one core; one measurement per process, for
// events.py, which interleaves it with a peer.
//
//   events_bench BLOCK_SIZE MESSAGES text|vocabulary [FILE]
//
// Messages are what vLLM publishes (events as maps), each with one BlockStored of 512 blocks with
// 64-bit hashes that starts a chain. Token ids are drawn log-uniformly (as frequent as in text,
// small ids mostly) or uniformly from a vocabulary of 151,936 (the worst case for the decoder:
// their widths follow no pattern). FILE takes the payloads, each behind its length in four bytes.
#include <fmt/format.h>
#include <time.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/units.h"
#include "events/publisher.h"
#include "index/kv_index.h"
#include "kv/event_batch_reader.h"
#include "kv/extra_keys.h"
#include "kv/keys.h"

namespace warmpath {
namespace {

constexpr size_t kBlocks = 512;
constexpr double kVocabulary = 151'936;

double CpuNow() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

std::vector<std::string> MakePayloads(uint32_t block_size, size_t messages, bool text) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> unit;
  std::vector<std::string> payloads;
  for (size_t m = 0; m < messages; ++m) {
    kv::BlockStored stored;
    for (size_t i = 0; i < kBlocks; ++i) stored.hashes.push_back(random());
    for (size_t i = 0; i < kBlocks * block_size; ++i) {
      const double at = unit(random);
      stored.tokens.push_back(
          static_cast<kv::TokenId>(text ? std::pow(kVocabulary, at) : kVocabulary * at));
    }
    stored.block_size = block_size;
    stored.medium = "GPU";
    stored.extra_keys = kv::EncodeTextExtras("", "", 0, kBlocks);
    stored.group_idx = 0;
    stored.spec_kind = "full_attention";
    kv::EventBatch batch;
    batch.ts = 1.7e9 + static_cast<double>(m);
    batch.rank = 0;
    batch.events.emplace_back(std::move(stored));
    payloads.push_back(kv::EncodeBatch(batch));
  }
  return payloads;
}

void Write(const char* path, const std::vector<std::string>& payloads) {
  std::ofstream out(path, std::ios::binary);
  for (const std::string& payload : payloads) {
    const auto size = static_cast<uint32_t>(payload.size());
    out.write(reinterpret_cast<const char*>(&size), sizeof size);
    out.write(payload.data(), size);
  }
}

// Per block, in nanoseconds of CPU.
struct Times {
  double decode = 0;  // reading alone
  double keys = 0;    // our keys alone
  double fresh = 0;   // payload to index, chains nobody has
  double known = 0;   // the same chains of another endpoint
};

Times Measure(const std::vector<std::string>& payloads, uint32_t block_size) {
  const double blocks = static_cast<double>(payloads.size() * kBlocks);
  Times times;
  kv::EventBatchReader reader;
  uint64_t sum = 0;
  const auto timed = [&](auto&& run) {
    const double begin = CpuNow();
    run();
    return (CpuNow() - begin) / blocks;
  };
  times.decode = timed([&] {
    for (const std::string& payload : payloads) sum += reader.Read(payload)->events[0].tokens[5];
  });
  std::vector<kv::BlockKey> keys(kBlocks);
  const auto view = reader.Read(payloads[0]);
  const kv::BlockKey root = kv::RootKey(block_size, "", "");
  times.keys = timed([&] {
    for (size_t i = 0; i < payloads.size(); ++i)
      kv::ChainKeys(root, view->events[0].tokens, {}, keys);
  });
  sum += keys.back();

  Registry registry;
  events::EventsMetrics metrics(registry);
  index::KvIndex index(uint64_t{8} << 30);
  for (const uint32_t endpoint : {1u, 2u}) {
    events::Publisher::Options options;
    options.holder = {endpoint, 0};
    events::Publisher publisher(options, index,
                                std::make_shared<events::EndpointWatch>(endpoint, "pod"),
                                metrics.ForPublisher("pod"), metrics, [](uint64_t) {});
    (endpoint == 1 ? times.fresh : times.known) = timed([&] {
      uint64_t sequence = 0;
      for (const std::string& payload : payloads)
        publisher.OnLive(sequence++, payload, TimePoint());
    });
    if (index.ResidentBlocks({endpoint, 0}) != payloads.size() * kBlocks || sum == 0) {
      fmt::print(stderr, "blocks are missing in the index\n");
      std::exit(1);
    }
  }
  return times;
}

}  // namespace
}  // namespace warmpath

int main(int argc, char** argv) {
  using namespace warmpath;
  const auto block_size = ParseInt(argc > 3 ? argv[1] : "");
  const auto messages = ParseInt(argc > 3 ? argv[2] : "");
  if (!block_size || !messages || *block_size < 1 || *messages < 1) {
    fmt::print(stderr, "usage: events_bench BLOCK_SIZE MESSAGES text|vocabulary [FILE]\n");
    return 2;
  }
  const auto size = static_cast<uint32_t>(*block_size);
  const auto payloads =
      MakePayloads(size, static_cast<size_t>(*messages), std::string_view(argv[3]) == "text");
  if (argc > 4) Write(argv[4], payloads);
  const Times times = Measure(payloads, size);
  fmt::print("{{\"decode\": {:.2f}, \"keys\": {:.2f}, \"new\": {:.2f}, \"known\": {:.2f}}}\n",
             times.decode, times.keys, times.fresh, times.known);
  return 0;
}
