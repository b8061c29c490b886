// What a BlockStored says besides tokens, sorted into what selects the chain (LoRA name, salt) and
// what belongs to single blocks (multimodal items, prompt embeds). Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kv/event_batch_reader.h"

namespace warmpath::kv {

struct StoredExtras {
  std::string lora_name;   // "" = base model; adapters known by number only get a name that no
                           // client can give
  std::string cache_salt;  // only learned from a run that starts a chain
  std::vector<std::string>
      blocks;  // per block: `extra` of ChildKey (keys.h); empty when no block has any
  bool understood =
      true;  // false: an entry of unknown shape (kept as it is, so it never matches plain text)
};

StoredExtras ReadExtras(const EventView& stored);

// One multimodal item as `extra` of ChildKey sees it; several items of one block are concatenated
// in order.
std::string RenderMultimodal(std::string_view identifier, int64_t offset);

// The msgpack list an engine publishes for a run of `blocks` text blocks starting at block `first`
// of its chain.
std::string EncodeTextExtras(std::string_view lora_name, std::string_view cache_salt, size_t first,
                             size_t blocks);

}  // namespace warmpath::kv
