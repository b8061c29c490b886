// Texts told by how they begin, so that a body which repeats one need not be read through twice: it
// is compared with what is kept of the text, and what is the same needs neither be searched for the
// end of its string nor be compared again. Owned by the Encoder; any thread.
//
// Only a shortcut: nothing follows from a text's not being recognised, and of what is recognised
// every byte was compared.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/mutex.h"
#include "prompt/json_scan.h"
#include "prompt/prefix_trie.h"

namespace warmpath::prompt {

class KnownTexts {
 public:
  // Shorter texts are as quickly read.
  static constexpr size_t kMinBytes = 4096;

  // Texts of a chunk that start in it may be met again: `node` is the chunk's.
  void Note(std::span<const TextSpan> chunk, const PrefixNodePtr& node);
  // How much of `rest`, which begins with a string's inside, is the beginning of a text met before;
  // `proven` has where that is kept.
  KnownStart Recognize(std::string_view rest, ProvenBytes& proven) const;

 private:
  // Texts are told apart by so many bytes; of those with the same, or of the same slot, the one
  // met last is known.
  static constexpr size_t kHead = 128;
  static constexpr size_t kSlots = 1024;

  struct Slot {
    mutable Mutex mutex;
    uint64_t hash GUARDED_BY(mutex) = 0;
    std::weak_ptr<const PrefixNode> node GUARDED_BY(mutex);
    size_t stretch GUARDED_BY(mutex) = 0;  // of the node's, the one that begins as the text does
  };

  std::array<Slot, kSlots> slots_;
};

}  // namespace warmpath::prompt
