#include "kv/event_batch.h"

#include <gtest/gtest.h>

#include "codec/msgpack.h"
#include "kv/testing.h"

namespace warmpath::kv {
namespace {

using testing::FromHex;

TEST(EventBatch, ReencodesEveryRecordedPayloadByteForByte) {
  struct Recording {
    const char* path;
    EncodeOptions options;
  };
  const EncodeOptions map{EventFormat::kMap, 11};
  for (const Recording& recording : {Recording{"vllm-0.32.0/bs16/events.jsonl", map},
                                     {"vllm-0.32.0/bs64/events.jsonl", map},
                                     {"vllm-0.32.0/bs32raw/events.jsonl", map},
                                     {"vllm-0.32.0/xxh/events.jsonl", map},
                                     {"vllm-0.32.0/dp2/events_0.jsonl", map},
                                     {"vllm-0.32.0/dp2/events_1.jsonl", map},
                                     {"vllm-0.32.0/gemma3/events.jsonl", map},
                                     {"vllm-0.23.0/bs32/events.jsonl", {EventFormat::kArray, 11}},
                                     {"vllm-0.14.1/bs32/events.jsonl", {EventFormat::kArray, 7}}}) {
    size_t messages = 0;
    for (const auto& line :
         testing::ReadJsonLines(std::string(WARMPATH_TESTDATA "/golden/") + recording.path)) {
      const std::string payload =
          FromHex(std::string_view(codec::Find(line, "frames")->get_array()[2].get_string()));
      const auto batch = DecodeBatch(payload, {.keep_wide = true});
      ASSERT_TRUE(batch) << recording.path << ": " << batch.error().message;
      EXPECT_EQ(batch->skipped_fields + batch->skipped_tags + batch->bad_events, 0u);
      EXPECT_EQ(batch->format, recording.options.format);
      ASSERT_EQ(EncodeBatch(*batch, recording.options), payload)
          << recording.path << " message " << messages;
      ++messages;
    }
    EXPECT_GT(messages, 10u) << recording.path;
  }
}

TEST(EventBatch, ReadsASampleOfEveryGeneration) {
  const auto file =
      codec::ParseJson(testing::ReadFile(WARMPATH_TESTDATA "/vectors/kv_event_wire_samples.json"));
  ASSERT_TRUE(file);
  for (const auto& sample : codec::Find(*file, "samples")->get_array()) {
    SCOPED_TRACE(std::string(*codec::FindString(sample, "name")));
    const auto batch = DecodeBatch(FromHex(*codec::FindString(sample, "hex")));
    ASSERT_TRUE(batch) << batch.error().message;
    EXPECT_EQ(batch->bad_events, 0u);
    EXPECT_EQ(batch->ts, 1700000000.5);
    EXPECT_EQ(batch->events.size(),
              codec::Find(sample, "json_like")->get_array()[1].get_array().size());
  }
}

BlockStored Stored() {
  BlockStored e;
  e.hashes = {1, 0xffffffffffffffff};
  e.parent = 7;
  e.tokens = {1, 200, 70000, 4294967295u};
  e.block_size = 2;
  e.medium = "GPU";
  e.group_idx = 0;
  return e;
}

TEST(EventBatch, RoundTripsEveryForm) {
  EventBatch batch;
  batch.ts = 12.5;
  batch.rank = 3;
  BlockRemoved removed;
  removed.hashes = {5};
  removed.medium = "CPU";
  removed.group_idx = 2;
  batch.events = {Stored(), removed, AllBlocksCleared{}};
  for (const EventFormat format :
       {EventFormat::kArray, EventFormat::kMap, EventFormat::kOuterMap}) {
    const auto back = DecodeBatch(EncodeBatch(batch, {format, 11}));
    ASSERT_TRUE(back);
    EXPECT_EQ(back->format, format);
    EXPECT_EQ(back->rank, 3u);
    ASSERT_EQ(back->events.size(), 3u);
    const auto& stored = std::get<BlockStored>(back->events[0]);
    EXPECT_EQ(stored.hashes, Stored().hashes);
    EXPECT_EQ(stored.tokens, Stored().tokens);
    EXPECT_EQ(stored.parent, 7u);
    EXPECT_EQ(stored.medium, "GPU");
    EXPECT_EQ(std::get<BlockRemoved>(back->events[1]).group_idx, 2u);
  }
}

TEST(EventBatch, CutsDigestsToTheirLastEightBytes) {
  EventBatch batch;
  BlockStored e = Stored();
  e.hashes = {0x1112131415161718, 0x2122232425262728};
  e.wide = {std::string(24, 'x') + "\x11\x12\x13\x14\x15\x16\x17\x18",
            std::string(8, 'y') + "\x21\x22\x23\x24\x25\x26\x27\x28"};
  e.wide_parent = std::string(24, 'z') + std::string("\0\0\0\0\0\0\0\7", 8);
  batch.events = {e};
  const std::string payload = EncodeBatch(batch);
  const auto back = DecodeBatch(payload);
  ASSERT_TRUE(back);
  const auto& stored = std::get<BlockStored>(back->events[0]);
  EXPECT_EQ(stored.hashes, e.hashes);
  EXPECT_EQ(stored.parent, 7u);
  EXPECT_TRUE(stored.wide.empty());
  EXPECT_EQ(std::get<BlockStored>(DecodeBatch(payload, {.keep_wide = true})->events[0]).wide,
            e.wide);
}

// [ts, [events...], 0] around events already packed.
std::string Batch(const std::vector<std::string>& events) {
  std::string out;
  codec::MsgpackWriter pack(out);
  pack.Array(3);
  pack.Double(1);
  pack.Array(static_cast<uint32_t>(events.size()));
  for (const auto& event : events) out += event;
  pack.Uint(0);
  return out;
}

std::string Removed(uint64_t hash) {
  std::string out;
  codec::MsgpackWriter pack(out);
  pack.Array(2);
  pack.String("BlockRemoved");
  pack.Array(1);
  pack.Uint(hash);
  return out;
}

TEST(EventBatch, ABadEventCostsItselfOnly) {
  std::string no_hashes;
  codec::MsgpackWriter pack(no_hashes);
  pack.Array(5);
  pack.String("BlockStored");
  pack.Nil();
  pack.Nil();
  pack.Array(0);
  pack.Uint(16);
  std::string negative_token;
  codec::MsgpackWriter pack2(negative_token);
  pack2.Array(5);
  pack2.String("BlockStored");
  pack2.Array(1);
  pack2.Uint(1);
  pack2.Nil();
  pack2.Array(1);
  pack2.Int(-4);
  pack2.Uint(16);
  const std::string too_short(
      "\x92\xab"
      "BlockStored\x90");
  const std::string not_an_event(
      "\xa3"
      "abc");
  const std::string unknown(
      "\x92\xa4"
      "Novo\x01");
  const std::string hash_of_text(
      "\x92\xac"
      "BlockRemoved\x91\xa1x");
  const auto batch =
      DecodeBatch(Batch({Removed(1), no_hashes, negative_token, too_short, not_an_event, unknown,
                         hash_of_text, std::string("\xc0"), Removed(2)}));
  ASSERT_TRUE(batch) << batch.error().message;
  EXPECT_EQ(batch->bad_events, 6u);
  EXPECT_EQ(batch->skipped_tags, 1u);
  ASSERT_EQ(batch->events.size(), 2u);
  EXPECT_EQ(std::get<BlockRemoved>(batch->events[1]).hashes[0], 2u);
}

TEST(EventBatch, SkipsUnknownTrailingFieldsAndKeys) {
  std::string longer;
  codec::MsgpackWriter pack(longer);
  pack.Array(6);
  pack.String("BlockRemoved");
  pack.Array(1);
  pack.Uint(9);
  pack.Nil();
  pack.Nil();
  pack.Array(1);
  pack.Nil();
  pack.String("new");
  std::string map;
  codec::MsgpackWriter pack2(map);
  pack2.Map(4);
  pack2.String("block_hashes");
  pack2.Array(1);
  pack2.Uint(8);
  pack2.Uint(5);  // a key that is no text
  pack2.Uint(6);
  pack2.String("event_version");
  pack2.Uint(2);
  pack2.String("type");  // not first
  pack2.String("BlockRemoved");
  const auto batch = DecodeBatch(Batch({longer, map}));
  ASSERT_TRUE(batch);
  EXPECT_EQ(batch->bad_events, 0u);
  EXPECT_EQ(batch->skipped_fields, 4u);
  EXPECT_EQ(batch->events.size(), 2u);
}

TEST(EventBatch, ReadsEventsPackedOneByOne) {
  std::string wrapped;
  codec::MsgpackWriter(wrapped).Binary(Removed(4));
  const auto batch = DecodeBatch(Batch({wrapped}));
  ASSERT_TRUE(batch);
  EXPECT_EQ(std::get<BlockRemoved>(batch->events.at(0)).hashes[0], 4u);
}

TEST(EventBatch, AcceptsEmptyHashLists) {
  BlockStored sparse;
  sparse.tokens.resize(32);
  sparse.block_size = 32;
  sparse.parent = 3;
  EventBatch batch;
  batch.events = {sparse};
  EXPECT_EQ(DecodeBatch(EncodeBatch(batch))->bad_events, 0u);
}

TEST(EventBatch, RefusesWhatIsNoBatch) {
  for (const std::string& bad :
       {std::string(), std::string("\xc0"), std::string("\x90"), std::string("\x91\x01"),
        std::string("\x92\x01\x05"), std::string("\x80"), std::string("\x93\x01\x92\xc0")}) {
    EXPECT_FALSE(DecodeBatch(bad));
  }
}

TEST(EventBatch, BoundsEventsPerBatchAndBlocksPerEvent) {
  const auto batch = DecodeBatch(Batch({Removed(1), Removed(2), Removed(3)}), {.max_events = 2});
  EXPECT_EQ(batch->events.size(), 2u);
  EXPECT_EQ(batch->bad_events, 1u);
  EXPECT_EQ(DecodeBatch(Batch({Removed(1)}), {.max_blocks = 0})->bad_events, 1u);
}

}  // namespace
}  // namespace warmpath::kv
