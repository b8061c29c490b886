#include "sim/engine_core.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/hash.h"

namespace warmpath::sim {
namespace {

using std::chrono::milliseconds;

BlockHash TestHash(const BlockHash* parent, std::span<const kv::TokenId> tokens,
                   const CacheScope& scope, size_t index) {
  std::string bytes;
  if (parent != nullptr) bytes.append(parent->begin(), parent->end());
  bytes.append(reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes());
  if (index == 0) bytes += scope.cache_salt;
  bytes += scope.lora_name;
  return Sha256(bytes);
}

CoreOptions Options() {
  CoreOptions options;
  options.blocks = 65;
  options.block_size = 4;
  options.max_num_seqs = 4;
  options.max_num_batched_tokens = 32;
  options.timing = {milliseconds(10), milliseconds(1), milliseconds(5), 1.0};
  options.hash = TestHash;
  return options;
}

CoreRequest Make(uint64_t id, size_t prompt, uint32_t max_tokens, uint32_t first_token = 0) {
  CoreRequest request;
  request.id = id;
  request.prompt.resize(prompt);
  std::iota(request.prompt.begin(), request.prompt.end(), first_token);
  request.max_tokens = max_tokens;
  request.output = [](uint32_t index) { return 100'000 + index; };
  return request;
}

struct Progress {
  std::vector<TokenOutput> outputs;
  std::vector<std::vector<CacheEvent>> batches;
  Duration elapsed{};
};

Progress Drain(EngineCore& core) {
  Progress run;
  for (int steps = 0; core.has_work() && steps < 10'000; ++steps) {
    run.elapsed += core.BeginStep();
    StepResult result = core.FinishStep();
    run.outputs.insert(run.outputs.end(), result.outputs.begin(), result.outputs.end());
    if (!result.events.empty()) run.batches.push_back(std::move(result.events));
  }
  return run;
}

std::string Shape(const std::vector<CacheEvent>& batch) {
  std::string shape;
  for (const CacheEvent& event : batch) {
    shape += event.kind == CacheEvent::Kind::kStored    ? "S" + std::to_string(event.hashes.size())
             : event.kind == CacheEvent::Kind::kRemoved ? "R"
                                                        : "C";
  }
  return shape;
}

TEST(EngineCore, ChainAfterARequestLeavesOutTheLastSampledToken) {
  EngineCore core(Options());
  core.Add(Make(1, 10, 7));  // 16 tokens have KV
  Progress run = Drain(core);
  EXPECT_EQ(run.outputs.size(), 7u);
  EXPECT_TRUE(run.outputs.back().finished);
  EXPECT_EQ(core.pool().cached_blocks(), 4u);
  ASSERT_EQ(run.batches.size(), 3u);
  EXPECT_EQ(Shape(run.batches[0]), "S2");
  EXPECT_EQ(run.batches[2][0].tokens.back(), 100'005u);
}

TEST(EngineCore, TheLastPromptTokenIsAlwaysComputed) {
  EngineCore core(Options());
  core.Add(Make(1, 16, 1));
  Drain(core);
  core.Add(Make(2, 16, 1));
  Progress exact = Drain(core);
  EXPECT_EQ(exact.outputs[0].cached_tokens, 12u);
  EXPECT_EQ(Shape(exact.batches.at(0)), "S1") << "the recomputed block is a second copy";
  core.Add(Make(3, 17, 1));
  EXPECT_EQ(Drain(core).outputs[0].cached_tokens, 16u);
  EXPECT_EQ(core.stats().prefix_queries, 16u + 16 + 17);
  EXPECT_EQ(core.stats().prefix_hits, 12u + 16);
}

TEST(EngineCore, LongPromptsAreComputedInChunks) {
  EngineCore core(Options());
  core.Add(Make(1, 70, 1));
  Progress run = Drain(core);
  ASSERT_EQ(run.batches.size(), 3u);
  EXPECT_EQ(Shape(run.batches[0]), "S8");
  EXPECT_EQ(Shape(run.batches[2]), "S1");
  EXPECT_EQ(run.elapsed, milliseconds(10 + 70));
}

TEST(EngineCore, BlocksAreHitsAsSoonAsTheyAreScheduled) {
  EngineCore core(Options());
  core.Add(Make(1, 9, 2));
  core.Add(Make(2, 9, 2));
  Progress run = Drain(core);
  ASSERT_EQ(run.batches.size(), 1u);
  EXPECT_EQ(Shape(run.batches[0]), "S2");
  EXPECT_EQ(run.outputs[1].cached_tokens, 8u);
}

TEST(EngineCore, SaltAndAdapterSeparateChains) {
  EngineCore core(Options());
  core.Add(Make(1, 9, 1));
  Drain(core);
  auto salted = std::make_shared<CacheScope>();
  salted->cache_salt = "tenant";
  CoreRequest request = Make(2, 9, 1);
  request.scope = salted;
  core.Add(request);
  EXPECT_EQ(Drain(core).outputs[0].cached_tokens, 0u);
  request.id = 3;
  core.Add(request);
  EXPECT_EQ(Drain(core).outputs[0].cached_tokens, 8u);
}

TEST(EngineCore, DecodingTogetherIsOneStepPerToken) {
  EngineCore core(Options());
  for (uint64_t id = 1; id <= 3; ++id) core.Add(Make(id, 5, 4, static_cast<uint32_t>(id) * 100));
  Progress run = Drain(core);
  EXPECT_EQ(run.elapsed, milliseconds(10 + 15 + 3 * 5));
}

TEST(EngineCore, LoadStretchesSteps) {
  CoreOptions options = Options();
  options.timing.load_factor = 4.0;
  EngineCore core(options);
  for (uint64_t id = 1; id <= 4; ++id) core.Add(Make(id, 4, 1, static_cast<uint32_t>(id) * 100));
  EXPECT_EQ(core.BeginStep(), milliseconds((10 + 16) * 4));
  core.FinishStep();
}

TEST(EngineCore, AtMostMaxNumSeqsRun) {
  EngineCore core(Options());
  for (uint64_t id = 1; id <= 6; ++id) core.Add(Make(id, 4, 3));
  core.BeginStep();
  EXPECT_EQ(core.running(), 4u);
  EXPECT_EQ(core.waiting(), 2u);
  core.FinishStep();
  EXPECT_EQ(Drain(core).outputs.size(), 6u * 3 - 4);
}

TEST(EngineCore, OutOfBlocksPreemptsTheNewestAndAllFinish) {
  CoreOptions options = Options();
  options.blocks = 13;
  EngineCore core(options);
  for (uint64_t id = 1; id <= 3; ++id) core.Add(Make(id, 8, 24, static_cast<uint32_t>(id) * 100));
  Progress run = Drain(core);
  EXPECT_GT(core.stats().preemptions, 0u);
  EXPECT_EQ(run.outputs.size(), 3u * 24);
  EXPECT_EQ(core.pool().free_blocks(), core.pool().usable_blocks());
  for (const TokenOutput& output : run.outputs) EXPECT_EQ(output.token, 100'000 + output.index);
}

TEST(EngineCore, APromptIsAdmittedOnlyWhenAllOfItFits) {
  CoreOptions options = Options();
  options.blocks = 25;
  EngineCore core(options);
  core.Add(Make(1, 60, 1, 100));  // 15 of 24 blocks, in two chunks
  core.Add(Make(2, 40, 1, 200));  // 10 blocks: one too many
  core.BeginStep();
  core.FinishStep();
  core.BeginStep();
  EXPECT_EQ(core.running(), 1u);
  EXPECT_EQ(core.waiting(), 1u);
  core.FinishStep();
  EXPECT_EQ(Drain(core).outputs.size(), 1u);
}

TEST(EngineCore, AbortKeepsComputedBlocksAndReportsNothingMore) {
  EngineCore core(Options());
  core.Add(Make(1, 9, 100));
  core.BeginStep();
  core.FinishStep();
  core.BeginStep();
  core.Abort(1);
  StepResult result = core.FinishStep();
  EXPECT_TRUE(result.outputs.empty());
  EXPECT_FALSE(core.has_work());
  core.Add(Make(2, 9, 1));
  EXPECT_EQ(Drain(core).outputs[0].cached_tokens, 8u);
}

TEST(EngineCore, ResetIsAnnouncedByTheNextStep) {
  EngineCore core(Options());
  core.Add(Make(1, 9, 1));
  Drain(core);
  EXPECT_TRUE(core.ResetPrefixCache(false));
  EXPECT_TRUE(core.ResetPrefixCache(false));
  core.Add(Make(2, 9, 1));
  Progress run = Drain(core);
  ASSERT_EQ(run.batches.size(), 1u);
  EXPECT_EQ(Shape(run.batches[0]), "CCS2");
}

TEST(EngineCore, ResetOfABusyCoreFailsUnlessRequestsMayStartOver) {
  EngineCore core(Options());
  core.Add(Make(1, 8, 6));
  core.BeginStep();
  core.FinishStep();
  EXPECT_FALSE(core.ResetPrefixCache(false));
  EXPECT_TRUE(core.ResetPrefixCache(true));
  Progress run = Drain(core);
  EXPECT_EQ(Shape(run.batches.at(0)), "CS2");
  EXPECT_EQ(run.outputs.size(), 5u);
}

TEST(EngineCore, AdaptersBeyondMaxLorasWait) {
  EngineCore core(Options());
  for (uint64_t id = 1; id <= 2; ++id) {
    auto scope = std::make_shared<CacheScope>();
    scope->lora_name = id == 1 ? "a" : "b";
    CoreRequest request = Make(id, 5, 2);
    request.scope = scope;
    core.Add(request);
  }
  core.Add(Make(3, 5, 2));
  core.BeginStep();
  EXPECT_EQ(core.running(), 2u);
  core.FinishStep();
  EXPECT_EQ(Drain(core).outputs.size(), 4u);
}

}  // namespace
}  // namespace warmpath::sim
