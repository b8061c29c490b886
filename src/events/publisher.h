// One engine rank that publishes events: order, gaps, replay, restarts, and the way into the index.
// A state machine without sockets: the transport reports what happened and is asked to start a
// replay.
//
// Confined to its worker's thread, except status().
//
//   live --gap, restart, late start (replay offered)--> replaying --end--> live
//                                                        |--failed--> live, and no replay for a
//                                                        while
// While replaying, live messages are kept (bounded) and judged afterwards by the same rules, so an
// overlap is a duplicate and an overflow is a gap. A gap that cannot be filled clears the holder;
// live stores then fill it again.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "events/applier.h"
#include "events/endpoint_watch.h"
#include "events/manager.h"
#include "events/metrics.h"
#include "events/sequence.h"

namespace warmpath::events {

class Publisher {
 public:
  struct Options {
    index::Holder holder;
    std::string address;  // what is dialled, or "bind"
    bool replay_offered = false;
    ApplierLimits applier;
    Duration replay_cooldown = std::chrono::seconds(30);  // after a replay failed
    size_t max_kept_messages = 4096;                      // live ones during a replay
    size_t max_kept_bytes = size_t{64} << 20;
  };

  // `start_replay(first)` makes the transport ask for history from `first`, dropping any replay
  // still running; its outcome comes back by OnReplayed, OnReplayEnd or OnReplayFailed.
  Publisher(Options options, index::KvIndex& index, std::shared_ptr<EndpointWatch> watch,
            PublisherMetrics metrics, EventsMetrics& shared,
            std::function<void(uint64_t first)> start_replay);

  void OnConnected(TimePoint now);
  void OnDisconnected();
  void OnLive(uint64_t sequence, std::string_view payload, TimePoint now);
  void OnMalformed();  // a message without the three frames, or numbered beyond reason
  void OnReplayed(uint64_t sequence, std::string_view payload, TimePoint now);
  void OnReplayEnd(TimePoint now);
  void OnReplayFailed(TimePoint now);
  void OnTick(TimePoint now);
  // The endpoint left: nothing of it stays in the index.
  void OnGone();

  bool replaying() const { return replaying_; }
  size_t kept_messages() const { return kept_.size(); }
  const Options& options() const { return options_; }
  const EndpointWatch& watch() const { return *watch_; }
  EndpointWatch& watch() { return *watch_; }
  // Any thread.
  PublisherStatus status(TimePoint now, Duration silent_after) const;
  bool flows(TimePoint now, Duration silent_after) const;  // EventsManager::flowing

 private:
  void Judge(uint64_t sequence, std::string_view payload, TimePoint now);
  void Apply(uint64_t sequence, uint64_t digest, std::string_view payload, TimePoint now);
  bool MayReplay(TimePoint now) const;
  void StartReplay(uint64_t first);
  void Keep(uint64_t sequence, std::string_view payload);
  // Puts back the message that made a replay necessary.
  void KeepFirst(uint64_t sequence, std::string_view payload);
  void Forget();
  void NoteRestart();
  void Drain(TimePoint now);
  void NoteCounts(const kv::EventBatchView& batch);
  void NoteApplierCounts();
  void Warn(std::string_view message, uint64_t sequence, TimePoint now);

  const Options options_;
  const std::shared_ptr<EndpointWatch> watch_;
  const PublisherMetrics metrics_;
  EventsMetrics& shared_;
  const std::function<void(uint64_t)> start_replay_;

  SequenceTracker sequence_;
  Applier applier_;
  ApplierCounts reported_;  // what the metrics have seen of the applier's counts
  bool replaying_ = false;
  bool verifying_ = false;  // the replay began at the last batch applied, to see whether it is
                            // still the same process
  bool connection_lost_ = false;  // since the last batch
  bool was_connected_ = false;
  int replays_in_a_row_ = 0;
  TimePoint no_replay_before_{};
  TimePoint next_warning_{};
  std::deque<std::pair<uint64_t, std::string>> kept_;
  size_t kept_bytes_ = 0;

  // Read by status() from any thread.
  struct Shown {
    std::atomic<bool> connected{false};
    std::atomic<uint64_t> received{0};
    std::atomic<int64_t> last_seq{-1};
    std::atomic<uint64_t> gaps{0}, replayed{0}, restarts{0}, errors{0}, skipped{0};
    std::atomic<uint32_t> block_size{0};
    std::atomic<int> format{-1};
    std::atomic<bool> hybrid{false};
    std::atomic<Duration::rep> last_message{0};
  };
  Shown shown_;
};

}  // namespace warmpath::events
