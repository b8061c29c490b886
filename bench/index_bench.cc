// What the index costs per block on a synthetic multi-turn corpus: conversations over a few shared
// system prompts, each held by one endpoint, growing turn by turn. Times are per block ("items").
#include <benchmark/benchmark.h>

#include <memory>
#include <random>
#include <vector>

#include "index/kv_index.h"

namespace warmpath::index {
namespace {

constexpr uint32_t kEndpoints = 8;
constexpr size_t kSystemBlocks = 64;
constexpr size_t kTurns = 6;
constexpr size_t kTurnBlocks = 24;
constexpr kv::BlockKey kRoot = 1;

struct Corpus {
  // Per conversation: its endpoint and all its blocks from block 0.
  std::vector<Holder> holders;
  std::vector<std::vector<BlockAlias>> chains;
  std::vector<std::vector<kv::BlockKey>> keys;
  uint64_t blocks = 0;

  explicit Corpus(size_t conversations) {
    std::mt19937_64 random(1);
    std::vector<std::vector<BlockAlias>> systems(16);
    for (auto& system : systems) {
      for (size_t i = 0; i < kSystemBlocks; ++i) system.push_back({random(), random()});
    }
    for (size_t c = 0; c < conversations; ++c) {
      holders.push_back({static_cast<uint32_t>(random() % kEndpoints), 0});
      auto chain = systems[random() % systems.size()];
      for (size_t i = 0; i < kTurns * kTurnBlocks; ++i) chain.push_back({random(), random()});
      auto& chain_keys = keys.emplace_back();
      for (const BlockAlias& block : chain) chain_keys.push_back(block.key);
      blocks += chain.size();
      chains.push_back(std::move(chain));
    }
  }

  // As engines announce them: the first turn with its system prompt, then turn by turn.
  void StoreInto(KvIndex& index) const {
    for (size_t turn = 0; turn < kTurns; ++turn) {
      for (size_t c = 0; c < chains.size(); ++c) {
        const std::span<const BlockAlias> chain = chains[c];
        const size_t end = kSystemBlocks + (turn + 1) * kTurnBlocks;
        const size_t begin = turn == 0 ? 0 : end - kTurnBlocks;
        index.Store(holders[c], Tier::kGpu, 0, begin == 0 ? kRoot : chain[begin - 1].key,
                    chain.subspan(begin, end - begin));
      }
    }
  }
};

void Store(benchmark::State& state) {
  const Corpus corpus(static_cast<size_t>(state.range(0)));
  IndexStats stats;
  for (auto _ : state) {
    auto index = std::make_unique<KvIndex>(uint64_t{4} << 30);
    corpus.StoreInto(*index);
    state.PauseTiming();
    stats = index->stats();
    index.reset();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(static_cast<int64_t>(corpus.blocks) * state.iterations());
  state.counters["bytes_per_block"] =
      static_cast<double>(stats.bytes) / static_cast<double>(stats.blocks);
}

// With room for half of the corpus: every other block evicts one.
void StoreEvicting(benchmark::State& state) {
  const Corpus corpus(static_cast<size_t>(state.range(0)));
  KvIndex full(uint64_t{4} << 30);
  corpus.StoreInto(full);
  const uint64_t budget = full.stats().bytes / 2 * 8 / 7;
  for (auto _ : state) {
    auto index = std::make_unique<KvIndex>(budget);
    corpus.StoreInto(*index);
    state.PauseTiming();
    index.reset();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(static_cast<int64_t>(corpus.blocks) * state.iterations());
}

void Match(benchmark::State& state) {
  const Corpus corpus(static_cast<size_t>(state.range(0)));
  KvIndex index(uint64_t{4} << 30);
  corpus.StoreInto(index);
  std::mt19937_64 random(2);
  int64_t blocks = 0;
  for (auto _ : state) {
    const auto& keys = corpus.keys[random() % corpus.keys.size()];
    benchmark::DoNotOptimize(index.Match(keys));
    blocks += static_cast<int64_t>(keys.size());
  }
  state.SetItemsProcessed(blocks);
}

// As engines evict: tail first, one hash per event.
void Remove(benchmark::State& state) {
  const Corpus corpus(static_cast<size_t>(state.range(0)));
  for (auto _ : state) {
    state.PauseTiming();
    auto index = std::make_unique<KvIndex>(uint64_t{4} << 30);
    corpus.StoreInto(*index);
    state.ResumeTiming();
    for (size_t c = 0; c < corpus.chains.size(); ++c) {
      const auto& chain = corpus.chains[c];
      for (size_t i = chain.size(); i-- > 0;) {
        index->Remove(corpus.holders[c], Tier::kGpu, 0, std::span(&chain[i].hash, 1));
      }
    }
    state.PauseTiming();
    index.reset();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(static_cast<int64_t>(corpus.blocks) * state.iterations());
}

BENCHMARK(Store)->Arg(500)->Arg(5000)->Unit(benchmark::kMillisecond);
BENCHMARK(StoreEvicting)->Arg(500)->Arg(5000)->Unit(benchmark::kMillisecond);
BENCHMARK(Match)->Arg(500)->Arg(5000)->Unit(benchmark::kMicrosecond);
BENCHMARK(Remove)->Arg(500)->Arg(5000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace warmpath::index

BENCHMARK_MAIN();
