#include "kv/engine_hash.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/hash.h"
#include "codec/cbor.h"

namespace warmpath::kv {

namespace {

bool UsesCbor(HashAlgo algo) {
  return algo == HashAlgo::kSha256Cbor || algo == HashAlgo::kXxhashCbor;
}

EngineDigest Digest(HashAlgo algo, std::string_view bytes) {
  EngineDigest digest;
  if (algo == HashAlgo::kSha256 || algo == HashAlgo::kSha256Cbor) {
    digest.bytes = Sha256(bytes);
  } else {
    const auto wide = Xxh3Wide(bytes);
    std::copy(wide.begin(), wide.end(), digest.bytes.begin());
    digest.size = 16;
  }
  return digest;
}

// The part of Python's pickle protocol 5 that a block's tuple needs, as CPython's pickler writes
// it. A block over 64 KiB of opcodes (some 13,000 tokens) would be cut into frames, which this does
// not do.
class Pickler {
 public:
  void Bytes(std::string_view value) {
    Sized(0x43, 0x42, value);
    Memoize();
  }
  void Text(std::string_view value) {
    Sized(0x8c, 0x58, value);
    Memoize();
  }
  void Int(int64_t value) {
    if (value >= 0 && value <= 0xff) {
      Op(0x4b, static_cast<uint64_t>(value), 1);
    } else if (value >= 0 && value <= 0xffff) {
      Op(0x4d, static_cast<uint64_t>(value), 2);
    } else if (value >= -0x80000000LL && value <= 0x7fffffff) {
      Op(0x4a, static_cast<uint64_t>(value), 4);
    } else {  // LONG1: the shortest two's complement
      int width = 1;
      while (width < 8 && (value >> (8 * width - 1)) != 0 && (value >> (8 * width - 1)) != -1)
        ++width;
      Op(0x8a, static_cast<uint64_t>(width), 1);
      Little(static_cast<uint64_t>(value), width);
    }
  }
  void None() { body_ += '\x4e'; }
  // Around the items of a tuple.
  void Open(size_t items) {
    if (items > 3) body_ += '\x28';
  }
  void Close(size_t items) {
    body_ += items > 3 ? '\x74' : static_cast<char>(0x84 + items);
    Memoize();
  }
  // The string constant that tags multimodal keys is one object: written once, then fetched.
  void SharedText(std::string_view value) {
    if (shared_) {
      Op(0x68, *shared_, 1);
    } else {
      shared_ = memo_;
      Text(value);
    }
  }
  std::string Finish() {
    body_ += '\x2e';
    std::string out("\x80\x05\x95", 3);
    for (int i = 0; i < 8; ++i) out += static_cast<char>(body_.size() >> (8 * i) & 0xff);
    return out + body_;
  }

 private:
  void Little(uint64_t value, int width) {
    for (int i = 0; i < width; ++i) body_ += static_cast<char>(value >> (8 * i) & 0xff);
  }
  void Op(uint8_t op, uint64_t argument, int width) {
    body_ += static_cast<char>(op);
    Little(argument, width);
  }
  void Sized(uint8_t small, uint8_t large, std::string_view value) {
    const bool fits = value.size() <= 0xff;
    Op(fits ? small : large, value.size(), fits ? 1 : 4);
    body_ += value;
  }
  void Memoize() {
    body_ += '\x94';
    ++memo_;
  }

  std::string body_;
  uint32_t memo_ = 0;
  std::optional<uint32_t> shared_;
};

std::string_view TagOf(ExtraKey::Kind kind) {
  switch (kind) {
    case ExtraKey::Kind::kLora:
      return "lora";
    case ExtraKey::Kind::kMultimodal:
      return "mm";
    case ExtraKey::Kind::kCacheSalt:
      return "cache_salt";
    case ExtraKey::Kind::kPromptEmbeds:
      return "prompt_embeds";
    case ExtraKey::Kind::kLegacyLoraId:
      break;
  }
  return "";
}

// Number of items of the tuple an extra key is written as; 0 = a bare value.
size_t TupleSize(const ExtraKey& key, bool tagged) {
  if (key.kind == ExtraKey::Kind::kLegacyLoraId) return 0;
  const bool pair = key.kind == ExtraKey::Kind::kMultimodal;
  if (!tagged) return pair ? 2 : 0;
  return pair || key.kind == ExtraKey::Kind::kLora ? 3 : 2;
}

std::string CborPreimage(const HashRecipe& recipe, const EngineDigest& parent,
                         std::span<const TokenId> tokens, std::span<const ExtraKey> extra) {
  std::string out;
  out.reserve(48 + 5 * tokens.size());
  codec::CborWriter cbor(out);
  cbor.Array(3);
  cbor.Bytes(parent.view());
  cbor.Array(tokens.size());
  for (const TokenId token : tokens) cbor.Uint(token);
  if (extra.empty()) {
    cbor.Null();
    return out;
  }
  cbor.Array(extra.size());
  for (const ExtraKey& key : extra) {
    if (key.kind == ExtraKey::Kind::kLegacyLoraId) {
      cbor.Int(key.number);
      continue;
    }
    if (const size_t items = TupleSize(key, recipe.tagged_extra_keys)) cbor.Array(items);
    if (recipe.tagged_extra_keys) cbor.Text(TagOf(key.kind));
    if (key.kind == ExtraKey::Kind::kPromptEmbeds) {
      cbor.Bytes(key.text);
    } else {
      cbor.Text(key.text);
    }
    if (key.kind == ExtraKey::Kind::kMultimodal) cbor.Int(key.number);
    if (key.kind == ExtraKey::Kind::kLora && recipe.tagged_extra_keys) cbor.Text(key.path);
  }
  return out;
}

std::string PicklePreimage(const HashRecipe& recipe, const EngineDigest& parent,
                           std::span<const TokenId> tokens, std::span<const ExtraKey> extra) {
  Pickler pickle;
  pickle.Bytes(parent.view());
  pickle.Open(tokens.size());
  for (const TokenId token : tokens) pickle.Int(token);
  pickle.Close(tokens.size());
  if (extra.empty()) {
    pickle.None();
  } else {
    pickle.Open(extra.size());
    for (const ExtraKey& key : extra) {
      if (key.kind == ExtraKey::Kind::kLegacyLoraId) {
        pickle.Int(key.number);
        continue;
      }
      const size_t items = TupleSize(key, recipe.tagged_extra_keys);
      if (recipe.tagged_extra_keys) {
        if (key.kind == ExtraKey::Kind::kMultimodal) {
          pickle.SharedText(TagOf(key.kind));
        } else {
          pickle.Text(TagOf(key.kind));
        }
      }
      if (key.kind == ExtraKey::Kind::kPromptEmbeds) {
        pickle.Bytes(key.text);
      } else {
        pickle.Text(key.text);
      }
      if (key.kind == ExtraKey::Kind::kMultimodal) pickle.Int(key.number);
      if (key.kind == ExtraKey::Kind::kLora && recipe.tagged_extra_keys) pickle.Text(key.path);
      if (items > 0) pickle.Close(items);
    }
    pickle.Close(extra.size());
  }
  pickle.Close(3);
  return pickle.Finish();
}

}  // namespace

Result<HashAlgo> ParseHashAlgo(std::string_view name) {
  for (const HashAlgo algo :
       {HashAlgo::kSha256, HashAlgo::kSha256Cbor, HashAlgo::kXxhash, HashAlgo::kXxhashCbor}) {
    if (name == HashAlgoName(algo)) return algo;
  }
  return Fail(
      Code::kInvalidArgument,
      fmt::format("hash algorithm \"{}\" is not one of sha256, sha256_cbor, xxhash, xxhash_cbor",
                  name));
}

std::string_view HashAlgoName(HashAlgo algo) {
  switch (algo) {
    case HashAlgo::kSha256:
      return "sha256";
    case HashAlgo::kSha256Cbor:
      return "sha256_cbor";
    case HashAlgo::kXxhash:
      return "xxhash";
    case HashAlgo::kXxhashCbor:
      return "xxhash_cbor";
  }
  return "";
}

EngineHash EngineDigest::low64() const {
  EngineHash value = 0;
  for (size_t i = size - 8; i < size; ++i) value = value << 8 | bytes[i];
  return value;
}

EngineDigest NoneHash(HashAlgo algo, std::string_view seed) {
  std::string preimage;
  if (UsesCbor(algo)) {
    codec::CborWriter(preimage).Text(seed);
  } else {
    Pickler pickle;
    pickle.Text(seed);
    preimage = pickle.Finish();
  }
  return Digest(algo, preimage);
}

EngineDigest HashBlock(const HashRecipe& recipe, const EngineDigest& parent,
                       std::span<const TokenId> tokens, std::span<const ExtraKey> extra) {
  return Digest(recipe.algo, HashPreimage(recipe, parent, tokens, extra));
}

std::vector<ExtraKey> TextExtraKeys(std::string_view lora_name, std::string_view lora_path,
                                    std::string_view cache_salt, size_t index) {
  std::vector<ExtraKey> keys;
  if (!lora_name.empty()) {
    keys.push_back({ExtraKey::Kind::kLora, std::string(lora_name), std::string(lora_path), 0});
  }
  if (!cache_salt.empty() && index == 0)
    keys.push_back({ExtraKey::Kind::kCacheSalt, std::string(cache_salt), "", 0});
  return keys;
}

std::string HashPreimage(const HashRecipe& recipe, const EngineDigest& parent,
                         std::span<const TokenId> tokens, std::span<const ExtraKey> extra) {
  return UsesCbor(recipe.algo) ? CborPreimage(recipe, parent, tokens, extra)
                               : PicklePreimage(recipe, parent, tokens, extra);
}

}  // namespace warmpath::kv
