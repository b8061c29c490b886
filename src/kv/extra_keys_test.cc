#include "kv/extra_keys.h"

#include <gtest/gtest.h>

#include "codec/msgpack.h"

namespace warmpath::kv {
namespace {

BlockStored StoredRun(size_t blocks, std::string extra_keys, std::optional<std::string> lora = {},
                      bool root = true) {
  BlockStored stored;
  stored.hashes.resize(blocks);
  stored.extra_keys = std::move(extra_keys);
  stored.lora_name = std::move(lora);
  if (!root) stored.parent = 1;
  return stored;
}

StoredExtras Read(const Event& event) {
  return ReadExtras(ViewOf(event));
}

TEST(ExtraKeys, TellsLoraAndSaltApart) {
  const auto extras = Read(StoredRun(3, EncodeTextExtras("sql", "tenant", 0, 3), "sql"));
  EXPECT_EQ(extras.lora_name, "sql");
  EXPECT_EQ(extras.cache_salt, "tenant");
  EXPECT_TRUE(extras.blocks.empty());
  EXPECT_TRUE(extras.understood);
}

TEST(ExtraKeys, ASaltThatEqualsTheLoraNameIsStillASalt) {
  EXPECT_EQ(Read(StoredRun(1, EncodeTextExtras("same", "same", 0, 1), "same")).cache_salt, "same");
  EXPECT_EQ(Read(StoredRun(1, EncodeTextExtras("same", "", 0, 1), "same")).cache_salt, "");
}

TEST(ExtraKeys, SaltStandsOnTheFirstBlockOfAChainOnly) {
  EXPECT_EQ(EncodeTextExtras("", "t", 0, 2), std::string("\x92\x91\xa1t\xc0"));
  EXPECT_EQ(EncodeTextExtras("", "t", 3, 2), std::string("\x92\xc0\xc0"));
  EXPECT_EQ(Read(StoredRun(2, EncodeTextExtras("", "", 0, 2))).cache_salt, "");
}

TEST(ExtraKeys, KeepsMultimodalItemsPerBlock) {
  std::string raw;
  codec::MsgpackWriter pack(raw);
  pack.Array(3);
  pack.Array(3);
  pack.String("sql");
  raw += RenderMultimodal("img", 8);
  pack.String("salt");
  pack.Array(3);
  pack.String("sql");
  raw += RenderMultimodal("img", -8);
  raw += RenderMultimodal("two", 4);
  pack.Array(1);
  pack.String("sql");
  const auto extras = Read(StoredRun(3, raw, "sql"));
  EXPECT_EQ(extras.cache_salt, "salt");
  ASSERT_EQ(extras.blocks.size(), 3u);
  EXPECT_EQ(extras.blocks[0], RenderMultimodal("img", 8));
  EXPECT_EQ(extras.blocks[1], RenderMultimodal("img", -8) + RenderMultimodal("two", 4));
  EXPECT_EQ(extras.blocks[2], "");
}

TEST(ExtraKeys, BareTextInLaterBlocksIsAnItem) {
  std::string raw;
  codec::MsgpackWriter pack(raw);
  pack.Array(1);
  pack.Array(1);
  pack.String("mmhash");
  const auto extras = Read(StoredRun(1, raw, {}, false));
  EXPECT_EQ(extras.cache_salt, "");
  ASSERT_EQ(extras.blocks.size(), 1u);
  EXPECT_FALSE(extras.blocks[0].empty());
}

TEST(ExtraKeys, AdaptersKnownByNumberNeverLookLikeTheBaseModel) {
  BlockStored stored = StoredRun(1, "");
  stored.lora_id = 3;
  EXPECT_NE(Read(stored).lora_name, "");
  EXPECT_EQ(Read(StoredRun(1, "")).lora_name, "");
}

TEST(ExtraKeys, ReadsTypedEntries) {
  std::string raw;
  codec::MsgpackWriter pack(raw);
  pack.Array(1);
  pack.Array(3);
  pack.Map(2);
  for (const char* text : {"type", "lora", "name", "sql"}) pack.String(text);
  pack.Map(2);
  for (const char* text : {"type", "cache_salt", "salt", "t"}) pack.String(text);
  pack.Map(3);
  for (const char* text : {"type", "mm", "hash", "img"}) pack.String(text);
  pack.String("block_offset");
  pack.Int(-3);
  const auto extras = Read(StoredRun(1, raw));
  EXPECT_EQ(extras.lora_name, "sql");
  EXPECT_EQ(extras.cache_salt, "t");
  ASSERT_EQ(extras.blocks.size(), 1u);
  EXPECT_EQ(extras.blocks[0], RenderMultimodal("img", -3));
}

TEST(ExtraKeys, AnEntryThatIsRepeatedMeansTheSameOnlyUnderTheSameName) {
  std::string raw;
  codec::MsgpackWriter pack(raw);
  const auto tagged = [&](const char* name) {
    pack.Map(2);
    for (const char* text : {"type", "lora", "name", name}) pack.String(text);
  };
  // Nothing, a name by which "\nlora_id=3" is text from then on, that text twice, the name alone.
  pack.Array(6);
  pack.Nil();
  for (int i = 0; i < 2; ++i) {
    pack.Array(1);
    pack.String("\nlora_id=3");
  }
  pack.Array(1);
  tagged("b");
  for (int i = 0; i < 2; ++i) {
    pack.Array(1);
    pack.String("\nlora_id=3");
  }
  BlockStored stored = StoredRun(6, raw);
  stored.lora_id = 3;
  const auto extras = Read(stored);
  EXPECT_EQ(extras.lora_name, "b");
  ASSERT_EQ(extras.blocks.size(), 6u);
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(extras.blocks[i].empty(), i < 4) << i;
}

TEST(ExtraKeys, UnknownShapesNeverMatchPlainText) {
  const auto extras = Read(StoredRun(1, std::string("\x91\x05")));
  EXPECT_FALSE(extras.understood);
  ASSERT_EQ(extras.blocks.size(), 1u);
  EXPECT_FALSE(extras.blocks[0].empty());
}

}  // namespace
}  // namespace warmpath::kv
