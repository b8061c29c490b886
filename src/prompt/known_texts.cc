#include "prompt/known_texts.h"

#include <cstring>
#include <utility>

#include "base/hash.h"

namespace warmpath::prompt {

void KnownTexts::Note(std::span<const TextSpan> chunk, const PrefixNodePtr& node) {
  for (size_t i = 0; i < chunk.size(); ++i) {
    if (!chunk[i].starts || chunk[i].bytes.size() < kHead) continue;
    const uint64_t hash = Xxh3(chunk[i].bytes.substr(0, kHead), ProcessSeed());
    Slot& slot = slots_[hash % kSlots];
    MutexLock lock(slot.mutex);
    slot.hash = hash;
    slot.node = node;
    slot.stretch = i;
  }
}

KnownStart KnownTexts::Recognize(std::string_view rest, ProvenBytes& proven) const {
  KnownStart known;
  if (rest.size() < kMinBytes) return known;
  const uint64_t hash = Xxh3(rest.substr(0, kHead), ProcessSeed());
  PrefixNodePtr node, last;
  size_t at = 0;
  {
    const Slot& slot = slots_[hash % kSlots];
    MutexLock lock(slot.mutex);
    if (slot.hash != hash) return known;
    node = slot.node.lock();
    at = slot.stretch;
  }
  size_t offset = 0;  // of the stretch, in what the node keeps
  for (size_t i = 0; node != nullptr && i < at; ++i) offset += node->stretches()[i].size;
  // A text goes on in the next chunk where it is the last of this one.
  while (node != nullptr) {
    const PrefixNode::Stretch& stretch = node->stretches()[at];
    const char* const here = rest.data() + known.bytes;
    const char* const kept = node->bytes().data() + offset;
    if (!stretch.inside || stretch.size > rest.size() - known.bytes) break;
    if (std::memcmp(here, kept, stretch.size) != 0) break;
    proven.Add(here, kept, stretch.size);
    known.bytes += stretch.size;
    known.marks |= stretch.marks;
    const bool goes_on = at + 1 == node->stretches().size();
    last = std::move(node);
    node = goes_on ? last->LatestChild() : nullptr;
    at = offset = 0;
  }
  if (last != nullptr) proven.Hold(std::move(last));
  return known;
}

}  // namespace warmpath::prompt
