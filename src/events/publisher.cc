#include "events/publisher.h"

#include <limits>

#include "base/hash.h"
#include "base/log.h"

namespace warmpath::events {

namespace {

using Verdict = SequenceTracker::Verdict;

// A replay that leads straight into the next one this often is not getting anywhere.
constexpr int kMaxReplaysInARow = 4;
constexpr Duration kWarningInterval = std::chrono::seconds(10);
// No engine counts that far; one more would not fit the tracker's signed count.
constexpr uint64_t kMaxSequence = std::numeric_limits<int64_t>::max() - 1;

}  // namespace

Publisher::Publisher(Options options, index::KvIndex& index, std::shared_ptr<EndpointWatch> watch,
                     PublisherMetrics metrics, EventsMetrics& shared,
                     std::function<void(uint64_t)> start_replay)
    : options_(std::move(options)),
      watch_(std::move(watch)),
      metrics_(metrics),
      shared_(shared),
      start_replay_(std::move(start_replay)),
      applier_(index, options_.holder, options_.applier) {}

void Publisher::OnConnected(TimePoint now) {
  if (shown_.connected.exchange(true)) return;
  shared_.active_subscribers.Add(1);
  if (was_connected_) metrics_.reconnections.Add();
  was_connected_ = true;
  replays_in_a_row_ = 0;
  if (!MayReplay(now)) return;
  // A late start learns what there is; a reconnection asks for the last batch again: other bytes,
  // or none, mean another process.
  StartReplay(sequence_.started() ? static_cast<uint64_t>(sequence_.last()) : 0);
}

void Publisher::OnDisconnected() {
  connection_lost_ = true;
  if (shown_.connected.exchange(false)) shared_.active_subscribers.Add(-1);
}

void Publisher::OnLive(uint64_t sequence, std::string_view payload, TimePoint now) {
  metrics_.messages.Add();
  shown_.last_message = now.time_since_epoch().count();
  if (sequence > kMaxSequence) {
    OnMalformed();
  } else if (replaying_) {
    Keep(sequence, payload);
  } else {
    replays_in_a_row_ = 0;
    Judge(sequence, payload, now);
  }
}

void Publisher::OnMalformed() {
  ++shown_.errors;
  metrics_.undecodable.Add();
}

void Publisher::Judge(uint64_t sequence, std::string_view payload, TimePoint now) {
  const uint64_t digest = Xxh3(payload, 0);
  const bool first = !sequence_.started();
  switch (sequence_.Judge(sequence, digest)) {
    case Verdict::kDuplicate:
      return;
    case Verdict::kApply:
      if (first && sequence > 0 && MayReplay(now)) {
        KeepFirst(sequence, payload);
        StartReplay(0);
        return;
      }
      break;
    case Verdict::kGap:
      ++shown_.gaps;
      metrics_.gaps.Add();
      if (MayReplay(now)) {
        KeepFirst(sequence, payload);
        StartReplay(static_cast<uint64_t>(sequence_.last()));
        return;
      }
      Warn("event batches are missing and cannot be replayed: cache of this engine forgotten",
           sequence, now);
      sequence_.GaveUp(static_cast<uint64_t>(sequence_.last()) + 1, sequence - 1);
      applier_.Reset();
      break;
    case Verdict::kRestart:
      NoteRestart();
      if (sequence > 0 && MayReplay(now)) {
        KeepFirst(sequence, payload);
        StartReplay(0);
        return;
      }
      break;
  }
  Apply(sequence, digest, payload, now);
}

void Publisher::Apply(uint64_t sequence, uint64_t digest, std::string_view payload, TimePoint now) {
  connection_lost_ = false;
  sequence_.Applied(sequence, digest);
  shown_.last_seq = static_cast<int64_t>(sequence);
  // Of the thread, not of the publisher: its memory is that of the largest batch.
  thread_local kv::EventBatchReader reader;
  const auto batch = reader.Read(payload);
  if (!batch) {
    // Its removals are unknown, so nothing known of this engine can be trusted any more.
    ++shown_.errors;
    metrics_.undecodable.Add();
    Warn("event batch cannot be read: cache of this engine forgotten", sequence, now);
    applier_.Reset();
    return;
  }
  const uint64_t stores = applier_.counts().stores;
  applier_.Apply(batch->events, now);
  if (applier_.counts().stores != stores) watch_->NoteStore(applier_.block_size());
  ++shown_.received;
  NoteCounts(*batch);
}

void Publisher::NoteCounts(const kv::EventBatchView& batch) {
  shown_.format = static_cast<int>(batch.format);
  shown_.block_size = applier_.block_size();
  shown_.hybrid = applier_.hybrid();
  if (batch.bad_events > 0) {
    shown_.errors += batch.bad_events;
    metrics_.bad_events.Add(static_cast<double>(batch.bad_events));
  }
  if (const uint64_t skipped = batch.skipped_fields + batch.skipped_tags; skipped > 0) {
    shown_.skipped += skipped;
    metrics_.skipped_fields.Add(static_cast<double>(skipped));
  }
  NoteApplierCounts();
}

void Publisher::NoteApplierCounts() {
  const ApplierCounts& now = applier_.counts();
  const auto grown = [](uint64_t current, uint64_t& seen) {
    const uint64_t by = current - seen;
    seen = current;
    return by;
  };
  if (const auto n = grown(now.bad_stores, reported_.bad_stores)) {
    shown_.errors += n;
    metrics_.bad_events.Add(static_cast<double>(n));
  }
  if (const auto n = grown(now.orphan_blocks_dropped, reported_.orphan_blocks_dropped)) {
    shown_.errors += n;
    metrics_.orphans_dropped.Add(static_cast<double>(n));
  }
  if (const auto n = grown(now.stores_of_other_groups, reported_.stores_of_other_groups)) {
    shown_.skipped += n;
    shared_.StoresSkipped("other", "group").Add(static_cast<double>(n));
  }
  if (const auto n = grown(now.removals_of_other_groups, reported_.removals_of_other_groups)) {
    shown_.skipped += n;
    shared_.RemovalsSkipped("other", "group").Add(static_cast<double>(n));
  }
  if (const auto n = grown(now.stores_of_other_sizes, reported_.stores_of_other_sizes)) {
    shown_.skipped += n;
    shared_.StoresSkipped("full", "block_size").Add(static_cast<double>(n));
  }
  if (const auto n = grown(now.unknown_extras, reported_.unknown_extras)) shown_.skipped += n;
}

bool Publisher::MayReplay(TimePoint now) const {
  return options_.replay_offered && now >= no_replay_before_ &&
         replays_in_a_row_ < kMaxReplaysInARow;
}

void Publisher::StartReplay(uint64_t first) {
  replaying_ = true;
  verifying_ = sequence_.started() && static_cast<uint64_t>(sequence_.last()) == first;
  ++replays_in_a_row_;
  start_replay_(first);
}

void Publisher::Keep(uint64_t sequence, std::string_view payload) {
  if (kept_.size() >= options_.max_kept_messages ||
      kept_bytes_ + payload.size() > options_.max_kept_bytes)
    return;
  kept_bytes_ += payload.size();
  kept_.emplace_back(sequence, payload);
}

void Publisher::KeepFirst(uint64_t sequence, std::string_view payload) {
  kept_bytes_ += payload.size();
  kept_.emplace_front(sequence, payload);
}

void Publisher::Forget() {
  applier_.Reset();
  sequence_.Reset();
  shown_.last_seq = -1;
}

void Publisher::NoteRestart() {
  ++shown_.restarts;
  metrics_.restarts.Add();
  WP_LOG(kInfo, "events", "engine gone or restarted: its cache is forgotten",
         {"endpoint", watch_->name()}, {"rank", options_.holder.rank});
  Forget();
}

void Publisher::OnReplayed(uint64_t sequence, std::string_view payload, TimePoint now) {
  if (!replaying_) return;
  if (sequence > kMaxSequence) {
    OnMalformed();
    return;
  }
  const uint64_t digest = Xxh3(payload, 0);
  const bool verifying = verifying_;
  verifying_ = false;
  switch (sequence_.Judge(sequence, digest)) {
    case Verdict::kDuplicate:
      return;
    case Verdict::kRestart:
      NoteRestart();
      if (replays_in_a_row_ < kMaxReplaysInARow) {
        StartReplay(0);
      } else {
        OnReplayFailed(now);
      }
      return;
    case Verdict::kGap:
      // History begins later than asked: what lies between is lost for good.
      Warn("replay does not reach back far enough: cache of this engine forgotten", sequence, now);
      Forget();
      break;
    case Verdict::kApply:
      // The buffer no longer has the last batch, so after a lost connection nothing shows that it
      // is the same process.
      if (verifying && connection_lost_) Forget();
      break;
  }
  ++shown_.replayed;
  metrics_.replayed.Add();
  Apply(sequence, digest, payload, now);
}

void Publisher::OnReplayEnd(TimePoint now) {
  if (!replaying_) return;
  if (verifying_) {
    // Not even the last batch is there: another process, younger than that.
    verifying_ = false;
    NoteRestart();
    if (replays_in_a_row_ < kMaxReplaysInARow) {
      StartReplay(0);
      return;
    }
  }
  replaying_ = false;
  Drain(now);
}

void Publisher::OnReplayFailed(TimePoint now) {
  if (!replaying_) return;
  metrics_.replay_failures.Add();
  no_replay_before_ = now + options_.replay_cooldown;
  Warn("event replay failed", static_cast<uint64_t>(sequence_.last() + 1), now);
  replaying_ = false;
  Drain(now);
}

void Publisher::Drain(TimePoint now) {
  while (!replaying_ && !kept_.empty()) {
    const auto [sequence, payload] = std::move(kept_.front());
    kept_.pop_front();
    kept_bytes_ -= payload.size();
    // A message that asks for another replay goes to the back of the queue; order is then restored
    // by the replay itself.
    Judge(sequence, payload, now);
  }
}

void Publisher::OnTick(TimePoint now) {
  // Neither its API nor its event socket answers: the process is gone, and its cache with it. The
  // first batches of its successor may be sent before the subscription stands again, so waiting for
  // a sequence that starts anew could take for ever.
  if (connection_lost_ && !shown_.connected && !replaying_ && sequence_.started() &&
      watch_->down()) {
    NoteRestart();
  }
  applier_.Expire(now);
  NoteApplierCounts();
}

void Publisher::OnGone() {
  OnDisconnected();
  applier_.Reset();
}

void Publisher::Warn(std::string_view message, uint64_t sequence, TimePoint now) {
  if (now < next_warning_) return;
  next_warning_ = now + kWarningInterval;
  WP_LOG(kWarn, "events", message, {"endpoint", watch_->name()}, {"rank", options_.holder.rank},
         {"last_seq", sequence_.last()}, {"seq", sequence});
}

bool Publisher::flows(TimePoint now, Duration silent_after) const {
  return (shown_.connected || shown_.received > 0) && !watch_->silent(now, silent_after);
}

PublisherStatus Publisher::status(TimePoint now, Duration silent_after) const {
  PublisherStatus s;
  s.endpoint = options_.holder.endpoint;
  s.rank = options_.holder.rank;
  s.address = options_.address;
  s.connected = shown_.connected;
  s.received = shown_.received;
  s.last_seq = shown_.last_seq;
  s.gaps = shown_.gaps;
  s.replayed = shown_.replayed;
  s.restarts = shown_.restarts;
  s.errors = shown_.errors;
  s.skipped = shown_.skipped;
  s.block_size = shown_.block_size;
  if (const int format = shown_.format; format >= 0)
    s.format = kv::EventFormatName(static_cast<kv::EventFormat>(format));
  s.replay_offered = options_.replay_offered;
  s.hybrid = shown_.hybrid;
  s.silent = watch_->silent(now, silent_after);
  if (const auto last = shown_.last_message.load(); last != 0)
    s.last_message_age = now - TimePoint(Duration(last));
  return s;
}

}  // namespace warmpath::events
