#include "events/worker.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/log.h"
#include "base/thread.h"
#include "kv/replay.h"

namespace warmpath::events {

namespace {

constexpr int kPollMs = 250;
constexpr int kReadyPerTurn = 128;
// Of every socket, whether or not it said that something came: a guard against lost signals.
constexpr Duration kSweepInterval = std::chrono::seconds(1);
constexpr Duration kTickInterval = std::chrono::milliseconds(kPollMs);
constexpr int kMessagesPerTurn = 256;  // then the next socket has its turn
constexpr int kTurnsToDrain = 400;     // of the bound socket before endpoints change
// After a turn that found messages, for more to come: waking up costs more than most messages do.
constexpr std::chrono::milliseconds kGather{20};

std::string PodOf(const Slot& slot) {
  return slot.publisher->watch().name();
}

}  // namespace

Worker::Worker(void* context, const EventsOptions& options, EventsMetrics& metrics,
               const Clock& clock, std::string name)
    : context_(context),
      options_(options),
      metrics_(metrics),
      clock_(clock),
      name_(std::move(name)),
      connections_(options.connection_proof),
      wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  WP_CHECK(wake_ >= 0 && epoll_ >= 0);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = &wake_;
  WP_CHECK(epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event) == 0);
}

Worker::~Worker() {
  Stop();
  close(epoll_);
  close(wake_);
}

// `what` the socket stands for: a Slot, `bound_` or `bound_monitor_`.
// A ZMQ socket's descriptor tells of what comes after everything was read, once; whoever stops
// before that, or calls anything else on the socket, sets `unread`. Should epoll refuse it, sweeps
// read the socket.
void Worker::Watch(const ZmqSocket& socket, void* what) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = what;
  epoll_ctl(epoll_, EPOLL_CTL_ADD, socket.descriptor(), &event);
}

void Worker::Close(ZmqSocket& socket) {
  if (!socket) return;
  epoll_ctl(epoll_, EPOLL_CTL_DEL, socket.descriptor(), nullptr);
  socket.Close();
}

Status Worker::Bind(const std::string& address) {
  const ZmqLimits limits{static_cast<int>(options_.max_queued_messages),
                         static_cast<int64_t>(options_.max_message_bytes)};
  WP_TRY(bound_, ZmqSocket::Open(context_, ZMQ_SUB, limits));
  WP_RETURN_IF_ERROR(bound_.Subscribe("kv@"));
  WP_TRY(bound_monitor_, bound_.Monitor(context_, name_ + "-bound-monitor"));
  WP_RETURN_IF_ERROR(bound_.Bind(address));
  bound_port_ = bound_.bound_port();
  Watch(bound_, &bound_);
  Watch(bound_monitor_, &bound_monitor_);
  return {};
}

void Worker::Start() {
  if (thread_.joinable()) return;
  thread_ = std::thread([this] {
    NameThread(name_);
    BecomeBackground();
    Run();
  });
}

void Worker::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  eventfd_write(wake_, 1);
  if (thread_.joinable()) {
    thread_.join();
  } else {
    slots_.clear();
  }
  CloseBound();
}

// The monitor's end goes last: with nobody to hear it, a monitored socket's word on a lost
// connection would hold ZMQ's one I/O thread, and every connection with it, forever.
void Worker::Close(ZmqSocket& socket, ZmqSocket& monitor) {
  socket.StopMonitor();
  Close(socket);
  Close(monitor);
}

void Worker::CloseBound() {
  Close(bound_, bound_monitor_);
}

void Worker::Unbind() {
  Post([this] { CloseBound(); });
}

void Worker::Post(std::function<void()> command) {
  {
    MutexLock lock(mutex_);
    commands_.push_back(std::move(command));
  }
  eventfd_write(wake_, 1);
}

void Worker::RunCommands() {
  eventfd_t ignored = 0;
  eventfd_read(wake_, &ignored);
  std::vector<std::function<void()>> commands;
  {
    MutexLock lock(mutex_);
    commands.swap(commands_);
  }
  for (const auto& command : commands) command();
}

void Worker::Add(std::shared_ptr<Slot> slot) {
  Post([this, slot = std::move(slot)] {
    slots_.push_back(slot);
    Open(*slot);
  });
}

void Worker::Remove(std::shared_ptr<Slot> slot) {
  Post([this, slot = std::move(slot)] {
    std::erase(slots_, slot);
    std::erase_if(bound_slots_, [&](const auto& entry) { return entry.second == slot.get(); });
    CloseSockets(*slot);
    slot->publisher->OnGone();
  });
}

void Worker::SetCandidates(std::vector<BoundIdentity::Candidate> candidates) {
  Post([this, candidates = std::move(candidates)]() mutable {
    // What came until now is of those known until now.
    for (int i = 0; i < kTurnsToDrain && ReadBound(); ++i) {
    }
    identity_.Set(std::move(candidates), clock_.Now());
  });
}

void Worker::Run() {
  while (true) {
    {
      MutexLock lock(mutex_);
      if (stopping_) break;
    }
    Poll();
  }
  for (const auto& slot : slots_) {
    slot->publisher->OnDisconnected();
    CloseSockets(*slot);
  }
  slots_.clear();
}

void Worker::CloseSockets(Slot& slot) {
  Close(slot.events, slot.monitor);
  Close(slot.replay);
}

void Worker::Redial(Slot& slot) {
  if (!slot.redial_at || clock_.Now() < *slot.redial_at) return;
  Close(slot.events, slot.monitor);
  Open(slot);
}

void Worker::Open(Slot& slot) {
  if (slot.events_address.empty()) {
    const index::Holder holder = slot.publisher->options().holder;
    bound_slots_[{holder.endpoint, holder.rank}] = &slot;
    return;
  }
  slot.redial_at = clock_.Now() + options_.redial_after;
  const auto open = [&]() -> Status {
    const ZmqLimits limits{static_cast<int>(options_.max_queued_messages),
                           static_cast<int64_t>(options_.max_message_bytes)};
    WP_TRY(slot.events, ZmqSocket::Open(context_, ZMQ_SUB, limits));
    WP_TRY(slot.monitor,
           slot.events.Monitor(context_, fmt::format("{}-monitor-{}", name_, monitors_++)));
    // Every topic: the socket is the identity, an engine may publish under any or none.
    WP_RETURN_IF_ERROR(slot.events.Subscribe(""));
    WP_RETURN_IF_ERROR(slot.events.Connect(slot.events_address));
    Watch(slot.monitor, &slot);
    Watch(slot.events, &slot);
    slot.unread = unread_ = true;
    return {};
  };
  if (const Status status = open(); !status) {
    metrics_.ZmqErrors(PodOf(slot), "connect").Add();
    WP_LOG(kError, "events", "cannot subscribe to an engine's events", {"endpoint", PodOf(slot)},
           {"address", slot.events_address}, {"error", status.error().message});
    Close(slot.events, slot.monitor);
  }
}

void Worker::Poll() {
  std::array<epoll_event, kReadyPerTurn> ready;
  const int count =
      epoll_wait(epoll_, ready.data(), kReadyPerTurn, unread_ || bound_unread_ ? 0 : kPollMs);
  const uint64_t received = received_;
  bool commanded = false;
  for (int i = 0; i < count; ++i) {
    void* const what = ready[static_cast<size_t>(i)].data.ptr;
    if (what == &wake_) {
      commanded = true;
    } else if (what == &bound_monitor_) {
      ReadBoundMonitor();
    } else if (what == &bound_) {
      bound_unread_ = true;
    } else {
      unread_ = true;
      static_cast<Slot*>(what)->unread = true;
    }
  }
  if (bound_unread_) bound_unread_ = ReadBound();
  if (std::exchange(unread_, false)) {
    for (const auto& slot : slots_) {
      if (slot->unread) ReadSlot(*slot);
    }
  }
  if (clock_.Now() >= next_tick_) Tick();
  if (commanded) RunCommands();
  if (received_ != received && !unread_ && !bound_unread_) std::this_thread::sleep_for(kGather);
}

void Worker::ReadSlot(Slot& slot) {
  slot.unread = false;
  ReadMonitor(slot);
  slot.unread |= ReadEvents(slot);
  slot.unread |= ReadReplay(slot);
  ServeReplay(slot);
  unread_ |= slot.unread;
}

void Worker::ReadMonitor(Slot& slot) {
  while (slot.monitor) {
    switch (NextMonitorEvent(slot.monitor)) {
      case MonitorEvent::kConnected:
        slot.redial_at.reset();
        slot.publisher->OnConnected(clock_.Now());
        break;
      case MonitorEvent::kDisconnected:
        slot.redial_at = clock_.Now() + options_.redial_after;
        slot.publisher->OnDisconnected();
        break;
      case MonitorEvent::kNone:
        return;
    }
  }
}

void Worker::Deliver(Slot& slot, const ZmqMessage& message) {
  const auto live = kv::ParseLiveMessage(message.frames());
  if (!live || message.overlong()) {
    slot.publisher->OnMalformed();
    return;
  }
  slot.publisher->OnLive(live->sequence, live->payload, clock_.Now());
}

bool Worker::ReadEvents(Slot& slot) {
  if (!slot.events) return false;
  for (int i = 0; i < kMessagesPerTurn; ++i) {
    ZmqMessage message;
    if (!slot.events.Receive(message)) return false;
    ++received_;
    if (slot.redial_at) slot.redial_at = clock_.Now() + options_.redial_after;
    Deliver(slot, message);
  }
  return true;
}

void Worker::ReadBoundMonitor() {
  while (bound_monitor_) {
    int connection = -1;
    const MonitorEvent event = NextMonitorEvent(bound_monitor_, &connection);
    if (event == MonitorEvent::kNone) return;
    if (event == MonitorEvent::kDisconnected) connections_.Closed(connection, clock_.Now());
  }
}

bool Worker::ReadBound() {
  if (!bound_) return false;
  for (int i = 0; i < kMessagesPerTurn; ++i) {
    ZmqMessage message;
    if (!bound_.Receive(message)) {
      connections_.Drained(clock_.Now());
      return false;
    }
    ++received_;
    const auto frames = message.frames();
    const auto answer =
        identity_.Find(frames.empty() ? std::string_view() : frames[0], message.peer_address());
    if (!answer.endpoint) {
      metrics_.Unassigned(answer.reason).Add();
      continue;
    }
    if (!connections_.Counts(message.connection(), *answer.owner)) {
      metrics_.Unassigned("former_connection").Add();
      continue;
    }
    // An endpoint without data parallelism has rank 0, whatever number an outer balancer gave its
    // engine.
    uint32_t rank = 0;
    if (bound_slots_.contains({*answer.endpoint, uint16_t{1}}) && frames.size() == 3) {
      rank = kv::BatchRank(frames[2]).value_or(0);
    }
    const auto slot = bound_slots_.find({*answer.endpoint, static_cast<uint16_t>(rank)});
    if (rank > 0xffff || slot == bound_slots_.end()) {
      // Without a first rank it is about to leave.
      const bool known = bound_slots_.contains({*answer.endpoint, uint16_t{0}});
      metrics_.Unassigned(known ? "rank" : "unknown_endpoint").Add();
      continue;
    }
    slot->second->publisher->OnConnected(clock_.Now());
    Deliver(*slot->second, message);
    ServeReplay(*slot->second);
  }
  return true;
}

void Worker::ServeReplay(Slot& slot) {
  if (slot.wanted_replay) {
    const uint64_t first = *std::exchange(slot.wanted_replay, std::nullopt);
    Close(slot.replay);
    const auto open = [&]() -> Status {
      // No high-water mark: the engine's ROUTER would drop what does not fit.
      WP_TRY(slot.replay, ZmqSocket::Open(context_, ZMQ_DEALER,
                                          {0, static_cast<int64_t>(options_.max_message_bytes)}));
      WP_RETURN_IF_ERROR(slot.replay.Connect(slot.replay_address));
      if (!slot.replay.Send(kv::ReplayRequestFrames(first)))
        return Fail(Code::kUnavailable, "replay request not sent");
      Watch(slot.replay, &slot);
      slot.unread = unread_ = true;
      return {};
    };
    slot.replay_deadline = clock_.Now() + options_.replay_timeout;
    if (!open()) {
      metrics_.ZmqErrors(PodOf(slot), "replay-connect").Add();
      Close(slot.replay);
      slot.publisher->OnReplayFailed(clock_.Now());
    }
    return;
  }
  if (!slot.replay) return;
  if (!slot.publisher->replaying()) {
    Close(slot.replay);
  } else if (clock_.Now() >= slot.replay_deadline) {
    metrics_.ZmqErrors(PodOf(slot), "replay-incomplete").Add();
    Close(slot.replay);
    slot.publisher->OnReplayFailed(clock_.Now());
  }
}

bool Worker::ReadReplay(Slot& slot) {
  if (!slot.replay) return false;
  for (int i = 0; i < kMessagesPerTurn; ++i) {
    if (!slot.publisher->replaying() || slot.wanted_replay) return false;  // about to be closed
    ZmqMessage message;
    if (!slot.replay.Receive(message)) return false;
    slot.replay_deadline = clock_.Now() + options_.replay_timeout;
    const auto reply = kv::ParseReplayReply(message.frames());
    if (!reply || message.overlong()) {
      metrics_.ZmqErrors(PodOf(slot), "replay-incomplete").Add();
      slot.publisher->OnReplayFailed(clock_.Now());
    } else if (reply->end) {
      slot.publisher->OnReplayEnd(clock_.Now());
    } else {
      slot.publisher->OnReplayed(reply->sequence, reply->payload, clock_.Now());
    }
  }
  return true;
}

void Worker::Tick() {
  const TimePoint now = clock_.Now();
  next_tick_ = now + kTickInterval;
  const bool sweep = now >= next_sweep_;
  if (sweep) {
    next_sweep_ = now + kSweepInterval;
    ReadBoundMonitor();
  }
  double depth = 0;
  bound_unread_ |= ReadBound();  // also tells that nothing waits
  for (const auto& slot : slots_) {
    slot->publisher->OnTick(now);
    Redial(*slot);
    if (sweep) ReadSlot(*slot);
    ServeReplay(*slot);
    depth += static_cast<double>(slot->publisher->kept_messages());
    if (!slot->publisher->watch().SilenceBegins(now, options_.silent_after)) continue;
    if (slot->events_address.empty() && !bound_) continue;  // it is we who do not listen
    WP_LOG(kWarn, "events",
           "engine gets traffic but sends no KV events: start it with --kv-events-config "
           "'{\"enable_kv_cache_events\":true,\"publisher\":\"zmq\",\"endpoint\":\"tcp://"
           "*:5557\"}'; with an "
           "endpoint without * the engine connects instead of binding",
           {"endpoint", PodOf(*slot)}, {"address", slot->publisher->options().address});
    metrics_.silent_engines.Add();
  }
  if (depth != shown_depth_) metrics_.queue_depth.Add(depth - shown_depth_);
  shown_depth_ = depth;
}

}  // namespace warmpath::events
