#include "kv/engine_hash.h"

#include <gtest/gtest.h>

#include "base/hash.h"
#include "kv/testing.h"

#ifndef WARMPATH_TESTDATA
#error "needs the test data"
#endif

namespace warmpath::kv {
namespace {

using codec::Json;
using testing::FromHex;

std::string Str(const Json& value) {
  return std::string(value.get_string().data(), value.get_string().size());
}
std::string HexOf(const EngineDigest& digest) {
  return Hex({digest.bytes.data(), digest.size});
}

std::vector<TokenId> Tokens(const Json& list) {
  std::vector<TokenId> tokens;
  for (const Json& token : list.get_array())
    tokens.push_back(static_cast<TokenId>(token.to_number<int64_t>()));
  return tokens;
}

// Keys as hash_vectors.json writes them (0.30 and older).
std::vector<ExtraKey> Untagged(const Json& list) {
  std::vector<ExtraKey> keys;
  if (list.is_null()) return keys;
  for (const Json& item : list.get_array()) {
    if (item.is_string()) {
      keys.push_back(
          {ExtraKey::Kind::kLora, Str(item), "", 0});  // any bare text is written the same way
    } else if (item.is_array()) {
      keys.push_back({ExtraKey::Kind::kMultimodal, Str(item.get_array()[0]), "",
                      item.get_array()[1].get_int64()});
    } else if (item.is_object()) {
      keys.push_back(
          {ExtraKey::Kind::kPromptEmbeds, FromHex(*codec::FindString(item, "bytes_hex")), "", 0});
    } else {
      keys.push_back({ExtraKey::Kind::kLegacyLoraId, "", "", item.get_int64()});
    }
  }
  return keys;
}

// Keys as extra_hash_vectors.jsonl writes them (0.31 and newer).
std::vector<ExtraKey> Tagged(const Json& list) {
  std::vector<ExtraKey> keys;
  if (list.is_null()) return keys;
  for (const Json& item : list.get_array()) {
    const auto& tuple = item.get_array();
    const std::string tag = Str(tuple[0]);
    if (tag == "lora") {
      keys.push_back({ExtraKey::Kind::kLora, Str(tuple[1]), Str(tuple[2]), 0});
    } else if (tag == "mm") {
      keys.push_back({ExtraKey::Kind::kMultimodal, Str(tuple[1]), "", tuple[2].get_int64()});
    } else if (tag == "cache_salt") {
      keys.push_back({ExtraKey::Kind::kCacheSalt, Str(tuple[1]), "", 0});
    } else {
      ADD_FAILURE() << tag;
    }
  }
  return keys;
}

TEST(EngineHash, AgreesWithTheVectorsUpToRelease030) {
  const auto file =
      codec::ParseJson(testing::ReadFile(WARMPATH_TESTDATA "/vectors/hash_vectors.json"));
  ASSERT_TRUE(file);
  int blocks = 0;
  for (const Json& one : codec::Find(*file, "cases")->get_array()) {
    const auto algo = ParseHashAlgo(*codec::FindString(one, "algo"));
    if (!algo) continue;  // the 64-bit chain of 0.10.0 and 0.10.1
    SCOPED_TRACE(std::string(*codec::FindString(one, "name")) + " " +
                 std::string(HashAlgoName(*algo)));
    EngineDigest parent = NoneHash(*algo, *codec::FindString(one, "pythonhashseed"));
    EXPECT_EQ(HexOf(parent), *codec::FindString(one, "none_hash_hex"));
    const HashRecipe recipe{*algo, false};
    for (const Json& block : codec::Find(one, "blocks")->get_array()) {
      const auto tokens = Tokens(*codec::Find(block, "tokens"));
      const auto extra = Untagged(*codec::Find(block, "extra_keys"));
      if (const auto preimage = codec::FindString(block, "preimage_hex")) {
        EXPECT_EQ(HashPreimage(recipe, parent, tokens, extra), FromHex(*preimage));
      }
      parent = HashBlock(recipe, parent, tokens, extra);
      EXPECT_EQ(HexOf(parent), *codec::FindString(block, "digest_hex"));
      EXPECT_EQ(std::to_string(parent.low64()), *codec::FindString(block, "event_u64"));
      ++blocks;
    }
  }
  EXPECT_GT(blocks, 250);
}

TEST(EngineHash, AgreesWithTheEnginesOwnFunctionsOnTaggedKeys) {
  int blocks = 0;
  for (const Json& one :
       testing::ReadJsonLines(WARMPATH_TESTDATA "/golden/extra_hash_vectors.jsonl")) {
    const auto algo = ParseHashAlgo(*codec::FindString(one, "algo"));
    ASSERT_TRUE(algo);
    SCOPED_TRACE(std::string(*codec::FindString(one, "name")) + " " +
                 std::string(HashAlgoName(*algo)));
    EngineDigest parent =
        NoneHash(*algo, codec::FindString(one, "pythonhashseed").value_or(kDefaultHashSeed));
    EXPECT_EQ(HexOf(parent), *codec::FindString(one, "none_hash"));
    const auto tokens = Tokens(*codec::Find(one, "tokens"));
    const auto block_size = static_cast<size_t>(*codec::FindInt(one, "block_size"));
    const HashRecipe recipe{*algo, true};
    size_t index = 0;
    for (const Json& block : codec::Find(one, "blocks")->get_array()) {
      const auto extra = Tagged(*codec::Find(block, "extra_keys_hashed"));
      const auto block_tokens = std::span(tokens).subspan(index * block_size, block_size);
      if (const auto preimage = codec::FindString(block, "preimage")) {
        EXPECT_EQ(HashPreimage(recipe, parent, block_tokens, extra), FromHex(*preimage));
      }
      parent = HashBlock(recipe, parent, block_tokens, extra);
      EXPECT_EQ(HexOf(parent), *codec::FindString(block, "digest")) << index;
      EXPECT_EQ(std::to_string(parent.low64()), *codec::FindString(block, "event_u64"));
      ++blocks;
      ++index;
    }
  }
  EXPECT_GT(blocks, 500);
}

TEST(EngineHash, PutsLoraOnEveryBlockAndSaltOnTheFirst) {
  EXPECT_TRUE(TextExtraKeys("", "", "", 0).empty());
  EXPECT_EQ(TextExtraKeys("sql", "/p", "salt", 0).size(), 2u);
  EXPECT_EQ(TextExtraKeys("sql", "/p", "salt", 1).size(), 1u);
  EXPECT_EQ(TextExtraKeys("", "", "salt", 1).size(), 0u);
}

TEST(EngineHash, KnowsTheNamesOfTheFlag) {
  EXPECT_EQ(ParseHashAlgo("xxhash_cbor").value(), HashAlgo::kXxhashCbor);
  EXPECT_FALSE(ParseHashAlgo("builtin"));
}

}  // namespace
}  // namespace warmpath::kv
