#include "kv/extra_keys.h"

#include <fmt/format.h>

#include "codec/msgpack.h"

namespace warmpath::kv {

using codec::MsgpackReader;
using codec::MsgpackType;
using codec::MsgpackWriter;

namespace {

// The keys of one block, read one after another.
struct BlockKeys {
  std::string lora_name;  // as found in a tagged entry
  std::string text;  // the last bare text that is not the LoRA name: the salt, if this is a chain's
                     // first block
  std::string cache_salt;  // as found in a tagged entry
  std::string rendered;    // everything else
};

// Late forms: {"type": "lora"|"cache_salt"|"prompt_embeds"|"mm", ...}.
bool ReadTagged(MsgpackReader& reader, std::string_view raw, BlockKeys& keys) {
  uint32_t pairs = 0;
  if (!reader.ReadMap(pairs)) return false;
  std::string_view type, text, number;
  for (uint32_t i = 0; i < pairs; ++i) {
    std::string_view key;
    if (!reader.ReadString(key)) return false;
    if (key == "type") {
      if (!reader.ReadString(type)) return false;
    } else if ((key == "name" || key == "salt" || key == "hash") &&
               reader.Peek() == MsgpackType::kString) {
      if (!reader.ReadString(text)) return false;
    } else if (!reader.ReadRaw(number)) {
      return false;
    } else if (key == "block_offset") {
      MsgpackReader offset(number);
      uint64_t bits = 0;
      bool negative = false;
      if (!offset.ReadInt(bits, negative)) return false;
      if (type == "mm") {
        keys.rendered += RenderMultimodal(text, static_cast<int64_t>(bits));
        text = {};
      }
    }
  }
  if (type == "lora") {
    keys.lora_name = text;
  } else if (type == "cache_salt") {
    keys.cache_salt = text;
  } else if (type != "mm" || !text.empty()) {
    keys.rendered += raw;
  }
  return true;
}

// `lora_name` is what the first key of an adapter's block says; "" for later keys.
bool ReadKey(MsgpackReader& reader, std::string_view lora_name, BlockKeys& keys) {
  switch (reader.Peek()) {
    case MsgpackType::kString: {
      std::string_view text;
      if (!reader.ReadString(text)) return false;
      if (!lora_name.empty() && text == lora_name) return true;
      if (!keys.text.empty())
        MsgpackWriter(keys.rendered).String(keys.text);  // an item identifier of 0.18 and older
      keys.text = text;
      return true;
    }
    case MsgpackType::kMap: {
      MsgpackReader copy = reader;
      std::string_view raw;
      return reader.ReadRaw(raw) && ReadTagged(copy, raw, keys);
    }
    default: {  // [identifier, offset], embeds as bytes, the adapter's number
      std::string_view raw;
      if (!reader.ReadRaw(raw)) return false;
      keys.rendered += raw;
      return true;
    }
  }
}

}  // namespace

StoredExtras ReadExtras(const EventView& stored) {
  StoredExtras extras;
  if (stored.lora_name) {
    extras.lora_name = *stored.lora_name;
  } else if (stored.lora_id) {
    extras.lora_name = fmt::format("\nlora_id={}", *stored.lora_id);
  }
  if (stored.cache_salt && !stored.parent) extras.cache_salt = *stored.cache_salt;
  if (stored.extra_keys.empty()) return extras;
  MsgpackReader reader(stored.extra_keys);
  uint32_t count = 0;
  if (!reader.ReadArray(count)) {
    extras.understood = false;
    return extras;
  }
  // The last entry that said nothing which is not known: the same bytes again say nothing either.
  // In an adapter's run all but the first are so.
  std::string_view nothing;
  for (uint32_t i = 0; i < count; ++i) {
    i += static_cast<uint32_t>(reader.ReadNilRun(count - i));
    if (i == count) break;
    std::string_view raw;
    MsgpackReader entry = reader;
    if (!reader.ReadRaw(raw)) break;
    if (raw == nothing) continue;
    BlockKeys keys;
    uint32_t items = 0;
    bool ok = entry.ReadArray(items);
    for (uint32_t k = 0; ok && k < items; ++k)
      ok = ReadKey(entry, k == 0 ? std::string_view(extras.lora_name) : "", keys);
    if (!ok) {
      extras.understood = false;
      keys = BlockKeys();
      keys.rendered = raw;
    }
    const bool renames =
        !keys.lora_name.empty() && !stored.lora_name && extras.lora_name != keys.lora_name;
    if (renames) {
      extras.lora_name = keys.lora_name;
      nothing = {};
    }
    const bool first = i == 0 && !stored.parent;
    if (first && !keys.cache_salt.empty()) {
      extras.cache_salt = keys.cache_salt;
    } else if (first && !keys.text.empty()) {
      extras.cache_salt = keys.text;
      keys.text.clear();
    }
    if (!keys.text.empty()) MsgpackWriter(keys.rendered).String(keys.text);
    if (!keys.rendered.empty()) {
      if (extras.blocks.empty()) extras.blocks.resize(stored.hashes.size());
      if (i < extras.blocks.size()) extras.blocks[i] = std::move(keys.rendered);
    } else if (ok && !first && !renames) {
      nothing = raw;
    }
  }
  return extras;
}

std::string RenderMultimodal(std::string_view identifier, int64_t offset) {
  std::string out;
  MsgpackWriter pack(out);
  pack.Array(2);
  pack.String(identifier);
  pack.Int(offset);
  return out;
}

std::string EncodeTextExtras(std::string_view lora_name, std::string_view cache_salt, size_t first,
                             size_t blocks) {
  std::string out;
  MsgpackWriter pack(out);
  pack.Array(static_cast<uint32_t>(blocks));
  for (size_t i = 0; i < blocks; ++i) {
    const bool salted = first + i == 0 && !cache_salt.empty();
    const uint32_t keys = (lora_name.empty() ? 0 : 1) + (salted ? 1 : 0);
    if (keys == 0) {
      pack.Nil();
      continue;
    }
    pack.Array(keys);
    if (!lora_name.empty()) pack.String(lora_name);
    if (salted) pack.String(cache_salt);
  }
  return out;
}

}  // namespace warmpath::kv
