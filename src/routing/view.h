// The fleet as decisions see it: what of each endpoint does not change from one request to the
// next, read once for many decisions.
//
// A View belongs to one fleet::Snapshot and is kept for kViewAge at most, so that blocks resident
// and block sizes learned are no older. Immutable but for its pools, which are made when they are
// first asked for; thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "events/manager.h"
#include "fleet/fleet.h"
#include "index/kv_index.h"
#include "routing/record.h"

namespace warmpath::routing {

inline constexpr Duration kViewAge = std::chrono::milliseconds(50);

// Endpoints whose events arrive, so that what the index knows of them counts; ascending.
using FlowingEvents = std::vector<fleet::EndpointId>;

// Block size of an endpoint: learned from its events, else as scraped; 0 = unknown.
uint32_t BlockSizeOf(const fleet::Endpoint& endpoint, const events::EventsManager* events);

// Endpoints that may serve the request: they serve the model (or have not said yet) and are
// healthy; when none is healthy, those never asked so far. With a `subset` only those in it. An
// empty model is served by all. In the snapshot's order. kNotFound: the model is served by none;
// kUnavailable: nobody can be asked now.
Result<std::vector<std::shared_ptr<const fleet::Endpoint>>> EligibleEndpoints(
    const fleet::Snapshot& snapshot, const std::string& model,
    const std::vector<fleet::EndpointId>& exclude,
    const std::optional<std::vector<std::string>>& subset = std::nullopt);

struct ViewSources {
  const index::KvIndex& index;
  const events::EventsManager* events;  // may be null
  fleet::InflightLedger& inflight;
};

// Endpoints that may serve one model.
struct Pool {
  struct Member {
    uint32_t place = 0;    // in the view
    uint32_t adapter = 0;  // in `adapters`
  };
  std::vector<Member> members;            // in the view's order
  std::vector<std::string> adapters{""};  // what `model` is there: "" = the base model
  std::vector<std::pair<fleet::EndpointId, uint32_t>> by_id;  // into `members`; sorted
};

class View {
 public:
  // An endpoint at its place in the snapshot.
  struct Entry {
    const fleet::Endpoint* endpoint = nullptr;
    uint32_t block_size = 0;       // 0: not known then
    bool flowing = false;          // its events arrive
    uint64_t resident_blocks = 0;  // then
    fleet::InflightGauge inflight;
    std::string address;  // "ip:port"
  };

  // `before`: the view it replaces, or null; what is still true of it is taken over.
  View(std::shared_ptr<const fleet::Snapshot> snapshot,
       std::shared_ptr<const FlowingEvents> flowing, const ViewSources& sources, TimePoint now,
       const View* before = nullptr);

  // Whether decisions at `now` may still use it.
  bool Current(const std::shared_ptr<const fleet::Snapshot>& snapshot,
               const std::shared_ptr<const FlowingEvents>& flowing, TimePoint now) const {
    return snapshot_ == snapshot && flowing_ == flowing && now - read_at_ < kViewAge;
  }

  const fleet::Snapshot& snapshot() const { return *snapshot_; }
  const std::shared_ptr<const fleet::Snapshot>& shared_snapshot() const { return snapshot_; }
  const std::vector<Entry>& entries() const { return entries_; }
  const std::shared_ptr<const Roster>& roster() const { return roster_; }

  // Those EligibleEndpoints names. With `any_model` all of them where nobody serves the model.
  Result<std::shared_ptr<const Pool>> PoolOf(
      const std::string& model, bool any_model, const std::vector<fleet::EndpointId>& exclude,
      const std::optional<std::vector<std::string>>& subset) const EXCLUDES(mutex_);

 private:
  const std::shared_ptr<const fleet::Snapshot> snapshot_;
  const std::shared_ptr<const FlowingEvents> flowing_;
  TimePoint read_at_;  // blocks and block sizes
  std::vector<Entry> entries_;
  std::shared_ptr<const Roster> roster_;
  mutable Mutex mutex_;
  // Of requests that may go anywhere, by model.
  mutable std::map<std::string, std::shared_ptr<const Pool>> pools_ GUARDED_BY(mutex_);
};

}  // namespace warmpath::routing
