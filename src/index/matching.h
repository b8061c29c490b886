// Lookups beside the writer: no lock, nothing written that is shared but a run's mark of use, no
// allocation once a thread's scratch memory has grown.
//
// Each run on a chain's way is read under its own sequence number. A lookup that meets too many
// changes gives up and is repeated under the writer's lock.
#pragma once

#include <span>
#include <vector>

#include "index/core.h"
#include "index/holds.h"

namespace warmpath::index {

class Matcher {
 public:
  explicit Matcher(Core& core) : core_(core) {}

  // False: too much changed meanwhile.
  bool Match(std::span<const kv::BlockKey> keys, std::vector<HolderMatch>& out);
  // Adds what `covers` (ordered by holder) promises beyond what is resident.
  bool Expect(std::span<const kv::BlockKey> keys, std::span<const Holds::Cover> covers,
              std::vector<HolderMatch>& out);

 private:
  struct Scratch;
  struct Window;
  enum class Visit { kSeen, kAbsent, kBusy };

  static Scratch& LocalScratch();
  // Finds the run that begins with keys[0] and how much of it the keys follow, and has `read` look
  // at its coverage, again if it changed meanwhile.
  template <typename Read>
  Visit Enter(std::span<const kv::BlockKey> keys, RunId hint, Window& window, Read read);
  void Read(const Run& run, uint32_t blocks, bool plain, Scratch& scratch) const;
  void Fold(uint32_t at, bool first, Scratch& scratch) const;
  uint32_t Reach(const Run& run, uint32_t slot, uint32_t from, uint32_t blocks,
                 Scratch& scratch) const;

  Core& core_;
};

}  // namespace warmpath::index
